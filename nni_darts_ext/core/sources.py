"""Which LayerChoice feeds which candidate of an InputChoice, found out in the first forward pass.

What a LayerChoice returns leaves a mark in the autograd graph; from each candidate of an InputChoice the graph is walked back to
the nearest marks, through whatever lies between: drop path, activation, normalisation, reshape, slicing.
"""

from __future__ import annotations

import logging
from typing import Any, List, Mapping, Optional, Set, Tuple

import torch
from torch import Tensor

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
        if isinstance(output, Mapping):
            return {name: self.mark(key, part) for name, part in output.items()}
        if isinstance(output, (list, tuple)):
            return type(output)(self.mark(key, part) for part in output)
        if not output.requires_grad:  # a pooling of the data, say: let it have a place in the graph
            output = output * torch.ones((), dtype=output.dtype, device=output.device, requires_grad=True)
        output.grad_fn.metadata[_MARK] = key
        return output

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
    ahead = list(_nodes(value))
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


def _nodes(value: Any) -> Tuple[Any, ...]:
    if isinstance(value, Tensor):
        node: Optional[Any] = value.grad_fn
        return () if node is None else (node,)
    parts = value.values() if isinstance(value, Mapping) else value if isinstance(value, (list, tuple)) else ()
    return tuple(node for part in parts for node in _nodes(part))
