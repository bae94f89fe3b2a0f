"""What a relaxed edge computes: the sum of its candidates, each times its weight (Liu et al., equation 2)."""

from __future__ import annotations

import copy
from typing import Any, Callable, List, Mapping, Optional, Sequence

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
    edge = _Edge(args, kwargs)
    weights = relaxed.weights.unbind()
    outputs = [edge.weighed(candidates[i], weights[i]) for i in relaxed.live]
    if outputs or reduction == 'none':
        return reduce(outputs, reduction)
    zeros = _zeros(candidates[0], args, kwargs)
    return _map(lambda value: value[:, :0], zeros) if reduction == 'concat' else zeros


class _Edge:
    """Runs candidates on one input, each times its weight, with less work and memory where a candidate is a plain Sequential.

    The ReLU before a convolution with which several of them begin is computed, and kept for the backward pass, once. A
    BatchNorm without scale and shift at the end takes the weight for its scale: neither its output is kept then, nor a product.
    """

    def __init__(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
        self._args, self._kwargs = args, kwargs
        self._rectified: Optional[Tensor] = None

    def weighed(self, candidate: nn.Module, weight: Tensor) -> Any:
        if not (_is_plain(candidate, nn.Sequential) and len(self._args) == 1 and isinstance(self._args[0], Tensor)
                and not self._kwargs):
            return _map(lambda value: value * weight, candidate(*self._args, **self._kwargs))
        layers = [layer for layer in candidate._modules.values() if layer is not None]
        value = self._args[0]
        if len(layers) > 1 and _is_plain(layers[0], nn.ReLU) and isinstance(layers[1], _CONVOLUTIONS):
            if self._rectified is None:
                self._rectified = layers[0](value)
            value = self._rectified
            layers = layers[1:]
        for i, layer in enumerate(layers):
            if i == len(layers) - 1 and _scales(layer, value, weight):
                return _scaled(layer, value, weight)
            value = layer(value)
        return _map(lambda part: part * weight, value)


_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)  # they do not write over what they are given
_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
_HOOKS = ('_forward_hooks', '_forward_pre_hooks', '_backward_hooks', '_backward_pre_hooks')


def _is_plain(module: nn.Module, kind: Any) -> bool:
    """Whether to call a module is to do what its kind does, and nothing else."""
    attributes = vars(module)
    return (isinstance(module, kind) and type(module).forward is kind.forward and 'forward' not in attributes
            and type(module).__call__ is nn.Module.__call__ and not attributes.get('inplace')
            and not any(attributes.get(hooks) for hooks in _HOOKS))


def _scales(module: nn.Module, value: Any, weight: Tensor) -> bool:
    return (any(_is_plain(module, kind) for kind in _NORMS) and module._parameters['weight'] is None
            and isinstance(value, Tensor) and value.dtype == weight.dtype)


def _scaled(norm: nn.Module, value: Tensor, weight: Tensor) -> Tensor:
    norm._parameters['weight'] = weight.expand(value.shape[1]).contiguous()  # type: ignore[assignment]
    try:
        return norm(value)
    finally:
        norm._parameters['weight'] = None


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
