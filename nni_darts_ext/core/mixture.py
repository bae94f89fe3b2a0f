"""What a relaxed edge computes: the sum of its candidates, each times its weight (Liu et al., equation 2)."""

from __future__ import annotations

import copy
from typing import Any, Callable, Iterable, List, Mapping, Optional, Sequence

import torch
from torch import Tensor, nn

from ..errors import SearchSpaceError
from .logits import Relaxed
from .shapes import alike
from .sharing import POOLINGS, SharedWork

REDUCTIONS = ('sum', 'mean', 'concat', 'none')


def mix(candidates: Sequence[nn.Module], relaxed: Relaxed, args: Sequence[Any], kwargs: Mapping[str, Any],
        reduction: str = 'sum', shared: Optional[SharedWork] = None) -> Any:
    """Run the live candidates, weigh their outputs and reduce them.

    Outputs are tensors, or lists, tuples and dicts of them, of the same form for every candidate. With nothing live the
    zero op is left alone and the result is zeros of the shape that the candidates have (no channels for ``concat``,
    an empty list for ``none``). What candidates have in common is looked up in ``shared``, default: in this edge alone.
    """
    edge = _Edge(args, kwargs, SharedWork() if shared is None else shared)
    weights = relaxed.weights.unbind()
    weighed = alike((edge.weighed(candidates[i], weights[i]) for i in relaxed.live), relaxed.live, reduction)
    if reduction == 'sum' and relaxed.live:
        return _add_up_fresh(weighed)
    outputs = list(weighed)
    if outputs or reduction == 'none':
        return reduce(outputs, reduction)
    zeros = _zeros(candidates[0], args, kwargs)
    return _map(lambda value: value[:, :0], zeros) if reduction == 'concat' else zeros


class _Edge:
    """Runs candidates on one input, each times its weight, with less work and memory where a candidate is a plain Sequential.

    The ReLU before a convolution, or the pooling, with which several of them begin is computed, and kept for the backward pass,
    once. A BatchNorm without scale and shift at the end takes the weight for its scale: neither its output is kept then, nor a
    product.
    """

    def __init__(self, args: Sequence[Any], kwargs: Mapping[str, Any], shared: SharedWork) -> None:
        self._args, self._kwargs = args, kwargs
        self._shared = shared
        self._used: List[Tensor] = []
        """What is shared, kept until the edge is done, for without a graph nobody else does."""

    def weighed(self, candidate: nn.Module, weight: Tensor) -> Any:
        """A tensor of its own, which nobody else holds."""
        if len(self._args) != 1 or self._kwargs or type(self._args[0]) is not Tensor:
            return _map(lambda value: value * weight, candidate(*self._args, **self._kwargs))
        layers = ([layer for layer in candidate._modules.values() if layer is not None]
                  if _is_plain(candidate, nn.Sequential) else [candidate])
        value = self._args[0]
        if layers and _is_shared(layers):
            value = self._shared.run(layers[0], value)
            self._used.append(value)
            layers = layers[1:]
        for i, layer in enumerate(layers):
            if i == len(layers) - 1 and _scales(layer, value, weight):
                return _scaled(layer, value, weight)
            value = layer(value)
        return _map(lambda part: part * weight, value)


def _is_shared(layers: Sequence[nn.Module]) -> bool:
    """Whether the first one is a ReLU or pooling whose output nobody writes over: a convolution or norm follows, or nothing."""
    first, second = layers[0], layers[1] if len(layers) > 1 else None
    if _is_plain(first, nn.ReLU):
        return isinstance(second, _CONVOLUTIONS)
    return any(_is_plain(first, kind) for kind in POOLINGS) and not getattr(first, 'return_indices', False) and (
        second is None or isinstance(second, (*_CONVOLUTIONS, *_NORMS)))


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


def _add_up_fresh(parts: Iterable[Any]) -> Any:
    """The sum of structures of tensors that nobody else holds: the first one takes up the others."""
    total: Any = None
    for part in parts:
        total = part if total is None else _map(_taking_up, total, part)
    return total


def _taking_up(total: Tensor, part: Tensor) -> Tensor:
    fits = total.dtype == part.dtype and total.shape == part.shape and total.requires_grad >= part.requires_grad
    return total.add_(part) if fits else total + part


def _add_up(parts: Sequence[Tensor]) -> Tensor:
    total = parts[0] + parts[1]  # whose first one is not ours to write over
    for part in parts[2:]:
        total = _taking_up(total, part)
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
