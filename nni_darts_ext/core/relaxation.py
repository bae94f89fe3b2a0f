"""What the choices of a supernet do in a forward pass, whichever host calls it."""

from __future__ import annotations

from functools import partial
from typing import Any, List, Mapping, Optional, Sequence

import torch
from torch import nn

from ..errors import SearchSpaceError
from .edge.compilation import CompiledMixture
from .edge.mixture import mix, reduce
from .edge.recomputation import recomputed
from .edge.shapes import CandidateError
from .edge.sharing import SharedWork
from .logits import Logits, Relaxed, transforms_are_active
from .sources import SourceFinder
from .space import Choice, Edge, InputNode, SearchSpace, candidates_of


class Relaxation:
    """The forward pass of edges and inputs. It knows no module, so that copies of the model copy little with it.

    Attributes
    ----------
    recompute : bool
        Whether what an edge computes on the way is computed again in the backward pass instead of kept for it.
    compiled : CompiledMixture or None
        What computes the edges in place of :func:`nni_darts_ext.core.edge.mixture.mix`.
    """

    def __init__(self, choices: Logits, space: SearchSpace, recompute: bool = False,
                 compiled: Optional[CompiledMixture] = None) -> None:
        self.recompute = recompute
        self.compiled = compiled
        self._choices = choices
        self.weigh: Any = None
        self.samples = False
        self._space = space
        self._sources = SourceFinder(space)
        self._shared = SharedWork()

    def edge(self, key: str, candidates: Sequence[nn.Module], args: Sequence[Any], kwargs: Mapping[str, Any],
             reduction: str = 'sum', relaxed: Optional[Relaxed] = None) -> Any:
        """The mixture of the candidates as they were relaxed, or as the logits relax them now.

        Raises
        ------
        SearchSpaceError
            Two candidates return different forms, or one writes over what it is given.
        """
        relaxed = relaxed or self._choices.relax(key, self.weigh)
        self._sources.note_edge(key, (args, kwargs))
        try:
            mixed = self._mixed(candidates, relaxed, args, kwargs, reduction)
        except CandidateError as error:
            raise error.of(self._space.edges[key]) from None
        return mixed if transforms_are_active() else self._sources.mark(key, mixed)

    def _mixed(self, candidates: Sequence[nn.Module], relaxed: Relaxed, args: Sequence[Any], kwargs: Mapping[str, Any],
               reduction: str) -> Any:
        compute = partial(self.compiled or mix, candidates, args=args, kwargs=kwargs, reduction=reduction)
        if self.recompute and torch.is_grad_enabled():  # each edge for itself: what others keep might be gone by then
            return recomputed(partial(compute, keep_all=True), relaxed, [candidates[i] for i in relaxed.live], (args, kwargs))
        return compute(relaxed, shared=self._shared)

    def inputs(self, key: str, candidates: List[Any], reduction: str) -> Any:
        """All candidates, reduced.

        Raises
        ------
        SearchSpaceError
            They are structures of different forms.
        """
        self.note(key, candidates)
        try:
            reduced = reduce(candidates, reduction)
        except SearchSpaceError as error:
            raise SearchSpaceError(f'InputChoice {key!r}: {error}') from None
        return self._sources.mark(key, reduced, is_edge=False)

    def watch(self, model: nn.Module) -> None:
        """Find out in the first forward pass of the model what reads the outputs of its edges."""
        self._sources.watch(model)

    def note(self, key: str, candidates: List[Any]) -> None:
        """Find out where the candidates come from, unless that is known. The graphs of ``torch.func`` do not show it."""
        if not transforms_are_active():
            self._sources.note(key, candidates)

    def is_fed(self, key: str) -> bool:
        """Whether a LayerChoice is known to feed one of the candidates."""
        return self._space.is_fed(key)


def relax(module: nn.Module, choice: Choice, relaxation: Relaxation) -> None:
    """Make a choice of a host that calls no mutator run its relaxation.

    The module stays what it is, with its class, weights and names, so that the host can still make a network of it.

    Raises
    ------
    SearchSpaceError
        Another search has the module already.
    """
    if 'forward' in vars(module):
        raise SearchSpaceError(f'{type(module).__name__} {choice.key!r} is searched already by another DartsMutator or '
                               'strategy. Build a new model for a new search.')
    vars(module)['forward'] = (partial(_forward_edge, module, choice, relaxation) if isinstance(choice, Edge)
                               else partial(_forward_inputs, module, choice, relaxation))


def _forward_edge(module: nn.Module, edge: Edge, relaxation: Relaxation, *args: Any, **kwargs: Any) -> Any:
    return relaxation.edge(edge.key, candidates_of(module, edge), args, kwargs)


def _forward_inputs(module: nn.Module, node: InputNode, relaxation: Relaxation, *args: Any, **kwargs: Any) -> Any:
    candidates, = (*args, *kwargs.values())  # which hosts name differently
    return relaxation.inputs(node.key, candidates, module.reduction)  # type: ignore[arg-type]
