"""The choices of a search space, the same for every NNI: ``import nni_darts_ext.nn as dnn``.

:func:`LayerChoice` and :func:`InputChoice` build the installed NNI's own modules. :data:`ModelSpace` is the base class for its
models (NNI's ``ModelSpace`` on 3.0, ``torch.nn.Module`` before).
"""

from __future__ import annotations

from types import ModuleType
from typing import TYPE_CHECKING, Any, Dict, List, Optional, Sequence, Union

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
