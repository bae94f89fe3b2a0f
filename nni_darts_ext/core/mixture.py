"""What a relaxed edge computes: the sum of its candidates, each times its weight (Liu et al., equation 2)."""

from __future__ import annotations

import copy
from typing import Any, Callable, List, Mapping, Sequence

import torch
from torch import Tensor, nn

from ..errors import SearchSpaceError
from .logits import Relaxed

REDUCTIONS = ('sum', 'mean', 'concat', 'none')


def mix(candidates: Sequence[nn.Module], relaxed: Relaxed, args: Sequence[Any], kwargs: Mapping[str, Any],
        reduction: str = 'sum') -> Any:
    """Run the live candidates, weigh their outputs and reduce them.

    Outputs are tensors, or lists, tuples and dicts of them, of the same form for every candidate. With nothing live the
    zero op is left alone and the result is zeros of the shape that the candidates have (no channels for ``concat``,
    an empty list for ``none``).
    """
    weights = relaxed.weights.unbind()
    outputs = [_map(lambda value, i=i: value * weights[i], candidates[i](*args, **kwargs)) for i in relaxed.live]
    if outputs or reduction == 'none':
        return reduce(outputs, reduction)
    zeros = _zeros(candidates[0], args, kwargs)
    return _map(lambda value: value[:, :0], zeros) if reduction == 'concat' else zeros


def reduce(values: List[Any], reduction: str) -> Any:
    """Reduce a list as NNI does: ``sum``, ``mean``, ``concat`` along dimension 1, or ``none`` for the list itself."""
    if reduction == 'none':
        return values
    if len(values) == 1:
        return values[0]
    if reduction == 'sum':
        return _map(lambda *parts: _add_up(parts), *values)
    if reduction == 'mean':
        return _map(lambda *parts: _add_up(parts) / len(parts), *values)
    if reduction == 'concat':
        return _map(lambda *parts: torch.cat(parts, dim=1), *values)
    raise SearchSpaceError(f'Unknown reduction {reduction!r}. Expected one of {", ".join(REDUCTIONS)}.')


def _add_up(parts: Sequence[Tensor]) -> Tensor:
    total = parts[0]
    for part in parts[1:]:
        total = total + part
    return total


def _map(function: Callable[..., Any], first: Any, *others: Any) -> Any:
    """Apply a function to the tensors of one or more structures of the same form."""
    if isinstance(first, Mapping):
        return {key: _map(function, first[key], *(other[key] for other in others)) for key in first}
    if isinstance(first, (list, tuple)):
        mapped = [_map(function, *parts) for parts in zip(first, *others)]
        return mapped if isinstance(first, list) else tuple(mapped)
    return function(first, *others)


def _zeros(candidate: nn.Module, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """Zeros like the output of a candidate that must not run: a copy in evaluation mode tells the shape, so that
    neither its running statistics nor the random state move."""
    with torch.no_grad():
        return _map(torch.zeros_like, copy.deepcopy(candidate).eval()(*args, **kwargs))
