"""What a relaxed edge computes: the sum of its candidates, each times its weight (Liu et al., equation 2)."""

from __future__ import annotations

import copy
from contextlib import nullcontext
from typing import Any, Callable, Iterable, List, Mapping, Optional, Sequence

import torch
from torch import Tensor, nn

from ..errors import SearchSpaceError
from .keeping import not_kept, way_back
from .layers import NORMS, begun, is_one_of, run
from .logits import Relaxed
from .nested import map_tensors
from .shapes import alike
from .sharing import SharedWork

REDUCTIONS = ('sum', 'mean', 'concat', 'none')


def mix(candidates: Sequence[nn.Module], relaxed: Relaxed, args: Sequence[Any], kwargs: Mapping[str, Any],
        reduction: str = 'sum', shared: Optional[SharedWork] = None, keep_all: bool = False) -> Any:
    """Run the live candidates, weigh their outputs and reduce them.

    Outputs are tensors, or lists, tuples and dicts of them, of the same form for every candidate. With nothing live the
    zero op is left alone and the result is zeros of the shape that the candidates have (no channels for ``concat``,
    an empty list for ``none``). What candidates have in common is looked up in ``shared``, default: in this edge alone.
    With ``keep_all``, default False, the graph keeps all that it is offered.
    """
    edge = _Edge(args, kwargs, SharedWork() if shared is None else shared, keep_all)
    weights = relaxed.weights.unbind()
    weighed = alike((edge.weighed(candidates[i], weights[i]) for i in relaxed.live), relaxed.live, reduction)
    if reduction == 'sum' and relaxed.live:
        return _add_up_fresh(weighed)
    outputs = list(weighed)
    if outputs or reduction == 'none':
        return reduce(outputs, reduction)
    zeros = _zeros(candidates[0], args, kwargs)
    return map_tensors(lambda value: value[:, :0], zeros) if reduction == 'concat' else zeros


class _Edge:
    """Runs candidates on one input, each times its weight, with less work and memory where a candidate is a plain Sequential.

    The ReLU before a convolution, or the pooling, with which several of them begin is computed, and kept for the backward pass,
    once. A BatchNorm without scale and shift at the end takes the weight for its scale: neither its output is kept then, nor a
    product. What is cheap to compute again is not kept for a BatchNorm, see :mod:`nni_darts_ext.core.keeping`.
    """

    def __init__(self, args: Sequence[Any], kwargs: Mapping[str, Any], shared: SharedWork, keep_all: bool) -> None:
        self._args, self._kwargs = args, kwargs
        self._shared, self._keep_all = shared, keep_all
        self._used: List[Tensor] = []
        """What is shared, kept until the edge is done, for without a graph nobody else does."""

    def weighed(self, candidate: nn.Module, weight: Tensor) -> Any:
        """A tensor of its own, which nobody else holds."""
        if len(self._args) != 1 or self._kwargs:
            return map_tensors(lambda value: value * weight, candidate(*self._args, **self._kwargs))
        value, layers = begun(candidate, self._args[0], self._shared)
        self._used.append(value)
        again: Optional[Callable[[], Tensor]] = None
        for i, layer in enumerate(layers):
            is_last = i == len(layers) - 1
            with nullcontext() if again is None else not_kept(value, again):
                if is_last and _scales(layer, value, weight):
                    return _scaled(layer, value, weight)
                output = run(layer, value)
            needless = not self._keep_all and not is_last and is_one_of(layers[i + 1], NORMS)
            again = way_back(layer, value, output) if needless else None
            value = output
        return map_tensors(lambda part: part * weight, value)


def _scales(module: nn.Module, value: Any, weight: Tensor) -> bool:
    return (is_one_of(module, NORMS) and module._parameters['weight'] is None and isinstance(value, Tensor)
            and value.dtype == weight.dtype)


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
        return map_tensors(lambda *parts: _add_up(parts), *values)
    if reduction == 'mean':
        return map_tensors(lambda *parts: _add_up(parts) / len(parts), *values)
    if reduction == 'concat':
        return map_tensors(lambda *parts: torch.cat(parts, dim=1), *values)
    raise SearchSpaceError(f'Unknown reduction {reduction!r}. Expected one of {", ".join(REDUCTIONS)}.')


def _add_up_fresh(parts: Iterable[Any]) -> Any:
    """The sum of structures of tensors that nobody else holds: the first one takes up the others."""
    total: Any = None
    for part in parts:
        total = part if total is None else map_tensors(_taking_up, total, part)
    return total


def _taking_up(total: Tensor, part: Tensor) -> Tensor:
    fits = total.dtype == part.dtype and total.shape == part.shape and total.requires_grad >= part.requires_grad
    return total.add_(part) if fits else total + part


def _add_up(parts: Sequence[Tensor]) -> Tensor:
    total = parts[0] + parts[1]  # whose first one is not ours to write over
    for part in parts[2:]:
        total = _taking_up(total, part)
    return total


def _zeros(candidate: nn.Module, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """Zeros like the output of a candidate that must not run: a copy in evaluation mode tells the shape, so that
    neither its running statistics nor the random state move."""
    with torch.no_grad():
        return map_tensors(torch.zeros_like, copy.deepcopy(candidate).eval()(*args, **kwargs))
