"""Which LayerChoice feeds which candidate of an InputChoice, found out in the first forward pass.

What a LayerChoice returns leaves a mark in the autograd graph; from each candidate of an InputChoice the graph is walked back to
the nearest marks, through whatever lies between: drop path, activation, normalisation, reshape, slicing.
"""

from __future__ import annotations

import logging
from typing import Any, List, Set

import torch
from torch import Tensor

from .nested import map_tensors, tensors_of
from .space import NO_KEY, SearchSpace

_logger = logging.getLogger(__name__)
_MARK = 'nni_darts_ext.key'


class SourceFinder:
    """Fills in ``space.sources`` for the InputChoices that name none. Costs nothing once it knows them."""

    def __init__(self, space: SearchSpace) -> None:
        self._space = space

    def mark(self, key: str, output: Any) -> Any:
        """Mark what the LayerChoice ``key`` returned. The values stay the same."""
        if not self._space.unnamed or not torch.is_grad_enabled():
            return output

        def marked(value: Tensor) -> Tensor:
            if not (value.is_floating_point() or value.is_complex()):
                return value  # has no gradient, so the graph does not have it
            if not value.requires_grad:  # a pooling of the data, say: let it have a place in the graph
                value = value * torch.ones((), dtype=value.dtype, device=value.device, requires_grad=True)
            node: Any = value.grad_fn
            node.metadata[_MARK] = key
            return value
        return map_tensors(marked, output)

    def note(self, key: str, candidates: List[Any]) -> None:
        """Learn the sources of the InputChoice ``key`` from the candidates that it was given."""
        if key not in self._space.unnamed or not torch.is_grad_enabled():
            return
        found = [_marks_behind(candidate) for candidate in candidates]
        for i, keys in enumerate(found):
            if len(keys) != 1 and any(found):
                behind = f'several LayerChoices ({", ".join(sorted(keys))})' if keys else 'no LayerChoice'
                _logger.warning('Candidate %d of InputChoice %r comes from %s: it counts as NO_KEY, with strength 0. '
                                'Name the sources in choose_from if it should not.', i, key, behind)
        self._space.name_sources(key, tuple(next(iter(keys)) if len(keys) == 1 else NO_KEY for keys in found))
        _logger.info('InputChoice %r chooses from %s.', key, list(self._space.sources[key]))


def _marks_behind(value: Any) -> Set[str]:
    """The keys of the nearest marked outputs that a value was computed from."""
    keys: Set[str] = set()
    seen: Set[Any] = set()
    ahead: List[Any] = [tensor.grad_fn for tensor in tensors_of(value) if tensor.grad_fn is not None]
    while ahead:
        node = ahead.pop()
        if node in seen:
            continue
        seen.add(node)
        if _MARK in node.metadata:
            keys.add(node.metadata[_MARK])
        else:
            ahead.extend(parent for parent, _ in node.next_functions if parent is not None)
    return keys
