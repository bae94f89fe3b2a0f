"""What a relaxed edge computes: the sum of its candidates, each times its weight (Liu et al., equation 2)."""

from __future__ import annotations

from contextlib import nullcontext
from functools import partial
from typing import Any, Callable, ContextManager, Dict, Iterable, List, Mapping, Optional, Sequence, Union

import torch
from torch import Tensor, nn

from ...errors import SearchSpaceError
from ..bilevel.side_effects import evaluating, without_side_effects
from ..logits import Relaxed
from ..nested import map_tensors
from .layers import copied
from .overwriting import Overwritten, Watch
from .plan import Chain, Plan
from .saved_tensors import recomputing, without_saving
from .shapes import alike, form_of, is_weighed, map_shapes
from .sharing import SharedWork

REDUCTIONS = ('sum', 'mean', 'concat', 'none')


def mix(candidates: Union[Plan, Sequence[nn.Module]], relaxed: Relaxed, args: Sequence[Any], kwargs: Mapping[str, Any],
        reduction: str = 'sum', shared: Optional[SharedWork] = None, keep_all: bool = False) -> Any:
    """Run the live candidates, weigh their outputs and reduce them.

    Outputs are tensors, or lists, tuples, mappings and dataclasses of them, of the same form for every candidate. What is no
    tensor of floating or complex numbers is not weighed and must be the same for all of them. With nothing live the zero op is
    left alone and the result is zeros of the shape that the candidates have (no channels for ``concat``, an empty list for
    ``none``). What candidates have in common is looked up in ``shared``, default: in this edge alone. With ``keep_all``, default
    False, the graph keeps all that it is offered. Raises :class:`CandidateError` if two candidates return different forms, or one
    writes over what it is given.
    """
    plan = candidates if isinstance(candidates, Plan) else Plan(candidates)
    edge = _Edge(plan, relaxed, args, kwargs, SharedWork() if shared is None else shared, keep_all)
    weighed = alike(map(edge.weighed, relaxed.live), relaxed.live, reduction)
    with plan.counters:
        if reduction in ('sum', 'mean') and relaxed.live:
            total = _add_up_fresh(weighed)
            return total if reduction == 'sum' else _map_weighed(lambda value: value / len(relaxed.live), total)
        outputs = list(weighed)
    if reduction == 'none':
        return outputs
    if outputs:
        return reduce(outputs, reduction)
    zeros = _zeros(plan.candidates[0], args, kwargs)
    return _map_weighed(lambda value: value[:, :0], zeros) if reduction == 'concat' else zeros


class _Edge:
    """Runs candidates on one input, each times its weight, with less work and memory where a candidate is a plain Sequential.

    The ReLU before a convolution, or the pooling, with which several of them begin is computed, and kept for the backward pass,
    once. A BatchNorm without scale and shift at the end takes the weight for its scale: neither its output is kept then, nor a
    product. What is cheap to compute again is not kept for a BatchNorm, see :mod:`nni_darts_ext.core.edge.saved_tensors`.
    """

    def __init__(self, plan: Plan, relaxed: Relaxed, args: Sequence[Any], kwargs: Mapping[str, Any], shared: SharedWork,
                 keep_all: bool) -> None:
        self._chains, self._weights, self._args, self._kwargs = plan.chains, relaxed.weights, args, kwargs
        self._shared, self._keep_all = shared, keep_all
        self._takes_one = len(args) == 1 and not kwargs
        self._watch = Watch(args[0] if self._takes_one else (args, kwargs))
        self._scalars: Sequence[Tensor] = ()
        self._has_scales = any(plan.chains[i].takes_scale() for i in relaxed.live)
        self._scales: Dict[int, Sequence[Tensor]] = {}
        """For each number of channels the weights as scales of norms."""
        self._shared_values: List[Any] = []
        """Kept until the edge is done, for without a graph nobody else keeps them."""

    def weighed(self, i: int) -> Any:
        """The output of candidate i times its weight: tensors of its own, which nobody else holds."""
        output = self._weighed(i, self._chains[i])
        if self._watch.is_broken():
            raise Overwritten(i)
        return output

    def _weighed(self, i: int, chain: Chain) -> Any:
        if not self._takes_one:
            args, kwargs = copied((self._args, self._kwargs))
            return self._times_weight(i, chain.candidate(*args, **kwargs))
        value, steps = chain.start(self._args[0], self._shared)
        self._shared_values.append(value)
        again: Optional[Callable[[], Tensor]] = None
        last = len(steps) - 1 if chain.takes_scale() else None
        for number, (layer, run, is_cheap) in enumerate(steps):
            with _AS_IT_IS if again is None else without_saving(value, again):
                if number == last and isinstance(value, Tensor) and value.dtype == self._weights.dtype:
                    return chain.normalize(value, self._scale(i, value.shape[1]))
                output = run(value)
            again = recomputing(layer, value, output) if is_cheap and not self._keep_all else None
            value = output
        return self._times_weight(i, value)

    def _times_weight(self, i: int, value: Any) -> Any:
        is_plain = type(value) is Tensor and value.layout == torch.strided and not value.is_nested
        if self._has_scales and is_plain and value.dim() > 1 and value.dtype == self._weights.dtype:
            return value * self._scale(i, value.shape[1]).view(-1, *[1] * (value.dim() - 2))  # of those that others have anyway
        if not self._scalars:
            self._scalars = self._weights.unbind()
        return times(value, self._scalars[i])

    def _scale(self, i: int, channels: int) -> Tensor:
        """The weight of candidate i as often as there are channels: of all candidates at once, for each operation counts."""
        if channels not in self._scales:
            self._scales[channels] = self._weights.unsqueeze(1).expand(-1, channels).contiguous().unbind()
        return self._scales[channels][i]


_AS_IT_IS: ContextManager[None] = nullcontext()


def reduce(values: List[Any], reduction: str) -> Any:
    """Reduce a list as NNI does: ``sum``, ``mean``, ``concat`` along dimension 1, or ``none`` for the list itself. Raises
    :class:`SearchSpaceError` if there is no such reduction, or structures are not of the same form."""
    if reduction == 'none':
        return values
    if len(values) == 1:
        return values[0]
    reductions: Dict[str, Callable[..., Tensor]] = {
        'sum': lambda *parts: _add_up(parts), 'mean': lambda *parts: _add_up(parts) / len(parts),
        'concat': lambda *parts: torch.cat(parts, dim=1)}
    if reduction not in reductions:
        raise SearchSpaceError(f'Unknown reduction {reduction!r}. Expected one of {", ".join(REDUCTIONS)}.')
    if all(isinstance(value, Tensor) for value in values):
        return reductions[reduction](*values)
    forms = [form_of(value) for value in values]  # whose shapes may differ, for they may be broadcast
    kinds = [map_shapes(lambda shape: 'a tensor', form) for form in forms]
    if any(kind != kinds[0] for kind in kinds):
        raise SearchSpaceError(f'The forms {", ".join(map(str, forms))} cannot be reduced by {reduction!r}. Expected tensors, or '
                               'structures that differ in tensors of floating numbers alone.')
    return _map_weighed(reductions[reduction], *values)


def times(value: Any, weight: Tensor) -> Any:
    """A tensor, or the tensors in a structure, times a weight."""
    return _map_weighed(lambda part: part * weight, value)


def _map_weighed(function: Callable[..., Tensor], first: Any, *others: Any) -> Any:
    """Apply a function to what is weighed. The rest is that of ``first``."""
    if isinstance(first, Tensor):
        return function(first, *others) if is_weighed(first) else first
    return map_tensors(partial(_map_weighed, function), first, *others)


def _add_up_fresh(parts: Iterable[Any]) -> Any:
    """The sum of structures of tensors that nobody else holds: the first one takes up the others."""
    total: Any = None
    for i, part in enumerate(parts):
        total = _map_weighed(_taking_up, total, part) if i else part
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
    """Zeros like the output of a candidate that must not run: a pass in evaluation mode, of which neither its running statistics
    nor the random state keep a trace, tells the shape."""
    with torch.no_grad(), without_side_effects(candidate), evaluating(candidate):
        args, kwargs = map_tensors(torch.clone, (tuple(args), dict(kwargs)))  # for it may write over them
        return _map_weighed(torch.zeros_like, candidate(*args, **kwargs))
