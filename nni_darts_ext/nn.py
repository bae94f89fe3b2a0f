"""The choices of a search space, the same for every NNI: ``import nni_darts_ext.nn as dnn``.

:func:`LayerChoice` and :func:`InputChoice` build the installed NNI's own modules. :data:`ModelSpace` is the base class for its
models (NNI's ``ModelSpace`` on 3.0, ``torch.nn.Module`` before).
"""

from __future__ import annotations

from types import ModuleType
from typing import TYPE_CHECKING, Any, Callable, Dict, List, Optional, Sequence, Union

from torch import nn

from .core.edge import partial_channels
from .core.edge.mixture import REDUCTIONS
from .core.space import NO_KEY, check_candidates, check_n_chosen
from .errors import SearchSpaceError
from .hosts import find

if TYPE_CHECKING:
    from torch.nn import Module

    ModelSpace = Module


def LayerChoice(candidates: Union[Sequence[Module], Dict[str, Module]], key: Optional[str] = None, **kwargs: Any) -> Module:
    """An edge: one of several candidates is chosen.

    Parameters
    ----------
    candidates
        The modules, in a list or by name in a dict. They take the same inputs and return the same shape.
    key
        The name of the decision (``label`` in NNI 3.0). LayerChoices that share a key share the decision.
        Default: NNI generates one if it can.
    **kwargs
        Further arguments of the installed NNI's LayerChoice.

    Raises
    ------
    SearchSpaceError
        There are no candidates, or one of them is not a module.
    """
    items: Any = getattr(candidates, 'items', None)  # an nn.ModuleDict has items but is not a dict
    candidates = [*candidates] if items is None else dict(items())
    check_candidates(candidates.items() if isinstance(candidates, dict) else enumerate(candidates), repr(key))
    return _host().layer_choice(candidates, key, **kwargs)


def PartialChannels(edge: Callable[[int], Module], channels: int, k: int = 4) -> Module:
    """An edge through which one part of k of the channels runs, while the others bypass it. It takes less time and memory.

    Y. Xu, L. Xie, X. Zhang, X. Chen, G.-J. Qi, Q. Tian, H. Xiong, "PC-DARTS: Partial Channel Connections for Memory-Efficient
    Architecture Search", ICLR 2020, arXiv 1907.05737, section 3.2: the output is the concatenation of what the edge makes of the
    first ``channels // k`` channels and of the other channels, shuffled so that the next edges read a mixture of both. Where the
    edge halves height and width, the other channels run through a max pooling of 2x2 (source: the authors' code).

    Parameters
    ----------
    edge
        Builds the module for a number of channels, which it must keep::

            PartialChannels(lambda channels: LayerChoice(candidates(channels), key='a'), channels=16)

    channels
        The number of channels of input and output.
    k
        Default 4 (source: the paper, section 4.2, for CIFAR-10; 2 for ImageNet). With 1 all channels run: the result is
        ``edge(channels)`` itself, as in the network that is trained from scratch.

    Raises
    ------
    SearchSpaceError
        ``channels`` is not a multiple of ``k``, or ``edge`` is not a function that returns a module. In the first forward pass:
        the number of channels of the input, or the shape of what the edge returns, is not as expected.
    """
    if not (isinstance(channels, int) and isinstance(k, int) and 1 <= k <= channels and channels % k == 0):
        raise SearchSpaceError(f'PartialChannels of channels={channels!r} with k={k!r}: expected positive integers, and a k that '
                               'divides channels, such as 4 of 16.')
    made = edge(channels // k) if callable(edge) and not isinstance(edge, nn.Module) else None
    if not isinstance(made, nn.Module):
        raise SearchSpaceError(f'PartialChannels got {edge!r:.60}. Expected a function that returns the module for a number of '
                               'channels, such as lambda channels: LayerChoice(candidates(channels), key=...).')
    return made if k == 1 else partial_channels.PartialChannels(made, channels, k)


def InputChoice(n_candidates: Optional[int] = None, choose_from: Optional[List[str]] = None, n_chosen: Optional[int] = None,
                reduction: str = 'sum', key: Optional[str] = None, **kwargs: Any) -> Module:
    """A node's inputs: ``n_chosen`` of several tensors are chosen.

    Parameters
    ----------
    n_candidates
        The number of tensors to choose from. Optional if ``choose_from`` is given.
    choose_from
        For each tensor the key of the LayerChoice that it comes from, which determines its strength, or ``InputChoice.NO_KEY``
        if there is none. Supported on every NNI, including those whose InputChoice has no such argument.
        Default: found in the first forward pass of the search.
    n_chosen
        The number of tensors to keep. Default None: all of them (source: classic NNI).
    reduction
        ``'sum'`` (default, source: NNI), ``'mean'``, ``'concat'`` along dimension 1, or ``'none'`` for a list.
    key
        The name of the decision (``label`` in NNI 3.0).
    **kwargs
        Further arguments of the installed NNI's InputChoice.

    Raises
    ------
    SearchSpaceError
        The number of candidates is missing or contradictory; ``n_chosen`` is out of range; the reduction is unknown.
    """
    if choose_from is None:
        if n_candidates is None:
            raise SearchSpaceError(f'InputChoice {key!r} has neither n_candidates nor choose_from. Pass one of them.')
        choose_from = [NO_KEY] * n_candidates
    if n_candidates is not None and n_candidates != len(choose_from):
        raise SearchSpaceError(f'InputChoice {key!r} has n_candidates={n_candidates} but {len(choose_from)} keys in '
                               'choose_from. Omit n_candidates, or make them agree.')
    check_n_chosen(n_chosen, len(choose_from), key)
    if reduction not in REDUCTIONS:
        raise SearchSpaceError(f'InputChoice {key!r} has reduction={reduction!r}. Expected one of {", ".join(REDUCTIONS)}.')
    return _host().input_choice(list(choose_from), n_chosen, reduction, key, **kwargs)


InputChoice.NO_KEY = NO_KEY  # type: ignore[attr-defined]


def _host() -> ModuleType:
    return find('layer_choice', 'The choices of a search space need NNI 2.0 - 3.0.')


def __getattr__(name: str) -> Any:
    if name == 'ModelSpace':
        return _host().ModelSpace
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
