"""What reads the outputs of LayerChoices, found out in the first forward pass of a model that records gradients.

What a choice returns leaves a mark in the autograd graph. From each candidate of an InputChoice, from the inputs of each
LayerChoice and from the output of the model the graph is walked back to the nearest marks, through whatever lies between: drop
path, activation, normalisation, reshape, slicing.
"""

from __future__ import annotations

import logging
from typing import Any, Dict, List, NamedTuple, Optional, Set, cast

import torch
from torch import Tensor, nn

from .logits import transforms_are_active
from .nested import map_tensors, tensors_of
from .space import NO_KEY, Reader, SearchSpace

_logger = logging.getLogger(__name__)
_MARK = 'nni_darts_ext.key'


class _Mark(NamedTuple):
    """Of the choice that returned a tensor."""

    key: str
    is_edge: bool


class SourceFinder:
    """Fills in ``space.readers``, and ``space.sources`` for the InputChoices that name none. Costs nothing afterwards."""

    def __init__(self, space: SearchSpace) -> None:
        self._space = space
        self._readers: Optional[Dict[str, Set[Reader]]] = None
        """Those found in the pass of the model that is under way; None outside one."""
        self._marked: Set[str] = set()
        """The choices whose outputs are marked in it."""
        self._hooks: List[Any] = []
        self._found: Set[str] = set()
        """The InputChoices whose sources were found here."""

    def watch(self, model: nn.Module) -> None:
        """Find out the readers in the first forward pass of this model. Its hooks for that are removed then."""
        self._hooks = [model.register_forward_pre_hook(self._begin), model.register_forward_hook(self._end)]

    def _begin(self, model: nn.Module, args: Any) -> None:
        shows = torch.is_grad_enabled() and not transforms_are_active()
        self._readers = {key: set() for key in self._space.edges} if shows else None
        self._marked.clear()

    def _end(self, model: nn.Module, args: Any, output: Any) -> None:
        if self._readers is not None and self._marked:  # else no edge of the search has run
            self._read(output, None)
        readers, self._readers = self._readers, None
        if readers is None or not self._marked:
            return
        for key, of_edge in readers.items():
            if key not in self._marked:  # it did not run, or without a graph
                of_edge.add(None)
        self._space.readers = readers
        for hook in self._hooks:
            hook.remove()
        self._hooks = []

    def mark(self, key: str, output: Any, is_edge: bool = True) -> Any:
        """Mark what a choice returned. The values stay the same."""
        if not torch.is_grad_enabled() or (self._readers is None and not (is_edge and self._space.unnamed)):
            return output

        def marked(value: Tensor) -> Tensor:
            if not (value.is_floating_point() or value.is_complex()):
                return value  # has no gradient, so the graph does not have it
            if not value.requires_grad:  # a pooling of the data, say: a place in the graph, for which nothing is saved
                value = value - torch.zeros((), dtype=value.dtype, device=value.device, requires_grad=True)
            elif not is_edge:  # what an InputChoice passes on may be the output of an edge, whose mark stays
                value = value.view_as(value)
            node: Any = value.grad_fn
            if node is not None:  # as in the transforms of torch.func
                node.metadata[_MARK] = _Mark(key, is_edge)
                self._marked.add(key)
            return value
        return map_tensors(marked, output)

    def note_edge(self, key: str, inputs: Any) -> None:
        """Learn what the LayerChoice ``key`` reads from the inputs that it was given."""
        if self._readers is not None:
            self._read(inputs, key)

    def note(self, key: str, candidates: List[Any]) -> None:
        """Learn the sources of the InputChoice ``key`` from the candidates that it was given."""
        if self._readers is not None:
            for i, candidate in enumerate(candidates):
                self._read(candidate, (key, i))
        again = key in self._found and self._readers is not None
        if not (key in self._space.unnamed or again) or not torch.is_grad_enabled():
            return
        found = [{mark.key for mark in _marks_behind(candidate, edges_only=True)} for candidate in candidates]
        sources = tuple(next(iter(keys)) if len(keys) == 1 else NO_KEY for keys in found)
        if again:
            if sources != self._space.sources[key]:
                _logger.warning('InputChoice %r chooses from %s in one place and from %s in another. The first counts, for all '
                                'of them. Give them keys of their own, or name the sources in choose_from.', key,
                                list(self._space.sources[key]), list(sources))
            return
        for i, keys in enumerate(found):
            if len(keys) != 1 and any(found):
                behind = f'several LayerChoices ({", ".join(sorted(keys))})' if keys else 'no LayerChoice'
                _logger.warning('Candidate %d of InputChoice %r comes from %s: it counts as NO_KEY, with strength 0. '
                                'Name the sources in choose_from if it should not.', i, key, behind)
        self._space.name_sources(key, sources)
        self._found.add(key)
        _logger.info('InputChoice %r chooses from %s.', key, list(self._space.sources[key]))

    def _read(self, value: Any, reader: Reader) -> None:
        assert self._readers is not None
        for mark in _marks_behind(value):
            if mark.is_edge:
                self._readers[mark.key].add(reader)


def pass_on(output: Tensor, joined: Tensor) -> Tensor:
    """Let ``joined``, in which the output of a choice lies beside other values, count as the output of that choice."""
    if torch.is_grad_enabled() and output.grad_fn is not None and joined.grad_fn is not None:
        of_output, of_joined = (cast(Any, tensor.grad_fn).metadata for tensor in (output, joined))
        of_joined.update({_MARK: of_output[_MARK]} if _MARK in of_output else {})
    return joined


def _marks_behind(value: Any, edges_only: bool = False) -> Set[_Mark]:
    """The nearest marks of what a value was computed from; those of InputChoices may be walked through."""
    marks: Set[_Mark] = set()
    seen: Set[Any] = set()
    ahead: List[Any] = [tensor.grad_fn for tensor in tensors_of(value) if tensor.grad_fn is not None]
    while ahead:
        node = ahead.pop()
        if node in seen:
            continue
        seen.add(node)
        mark = node.metadata.get(_MARK)
        if mark is not None and (mark.is_edge or not edges_only):
            marks.add(mark)
        else:
            ahead.extend(parent for parent, _ in node.next_functions if parent is not None)
    return marks
