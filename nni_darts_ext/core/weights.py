"""How logits become the weights of candidates."""

from __future__ import annotations

import math
from typing import Callable, Dict, List, Mapping, NamedTuple, Tuple

import torch
from torch import Tensor

from ..errors import LogitsError

Weigh = Callable[[Mapping[str, Tensor]], Mapping[str, Tensor]]
"""Makes weights of logits, of some edges at once.

It is given, for each edge, the logits with -inf at the cuts, shape ``(n + 1,)``, zero op last, which it must not write over. It
returns weights of the same shape: any finite numbers, differentiable in the logits. They need not add up to 1. A candidate of
weight 0 does not run. The zero op's weight counts in the derivation and in logs alone.
"""


def softmax(logits: Mapping[str, Tensor]) -> Dict[str, Tensor]:
    """The default of ``Weigh``.

    An operation for each edge: one for all would give logits that nothing reaches gradients of 0, by which optimisers move them,
    in place of none.
    """
    return {key: torch.softmax(of_edge, dim=-1) for key, of_edge in logits.items()}


class Relaxed(NamedTuple):
    """The continuous relaxation of one edge."""

    weights: Tensor
    """Shape ``(n,)``, the zero op's left out; differentiable in the logits."""
    live: Tuple[int, ...]
    """The candidates whose weight is not exactly 0, the only ones that run."""

    @classmethod
    def of(cls, weights: Tensor, key: str = '') -> Relaxed:
        """The relaxation of weights that must be read. Raises :class:`LogitsError` where they are not finite."""
        return cls(weights, tuple(i for i, weight in enumerate(numbers_of(key, weights)) if weight))


def numbers_of(key: str, weights: Tensor) -> List[float]:
    """The weights of an edge as numbers. Raises :class:`LogitsError` where they are not finite."""
    numbers = [float(weight) for weight in weights.tolist()]
    if not all(map(math.isfinite, numbers)):
        raise LogitsError(f'The weights of {key!r} are {numbers}. Expected finite numbers: look for a learning rate that is too '
                          'high or a loss that is not finite.')
    return numbers


def weighed(weigh: Weigh, logits: Mapping[str, Tensor]) -> Dict[str, Tensor]:
    """The weights of these edges. Raises :class:`LogitsError` where some are missing or of another shape."""
    weights = weigh(logits)
    by_key = weights if isinstance(weights, Mapping) else {}
    for key, of_edge in logits.items():
        found = by_key.get(key)
        if not isinstance(found, Tensor) or found.shape != of_edge.shape:
            what = (f'weights of shape {tuple(found.shape)}' if isinstance(found, Tensor) else 'no weights' if found is None
                    else f'a {type(found).__name__}')
            name = getattr(weigh, '__self__', getattr(weigh, '__name__', weigh))
            raise LogitsError(f'{name} gives {what} for {key!r}. Expected the shape {tuple(of_edge.shape)} in a tensor: '
                              'a weight for each candidate, and the zero op\'s.')
    return {key: weights[key] for key in logits}


def running(weights: Mapping[str, Tensor]) -> Dict[str, Tuple[int, ...]]:
    """For each edge the candidates whose weight, of shape ``(n + 1,)``, is not 0, by one reading for all of them. Raises
    :class:`LogitsError` if weights are not finite."""
    numbers = torch.cat([of_edge.detach() for of_edge in weights.values()]).tolist() if weights else []
    found, start = {}, 0
    for key, of_edge in weights.items():
        if not math.isfinite(sum(numbers[start:start + len(of_edge)])):
            numbers_of(key, of_edge)
        found[key] = tuple(i for i in range(len(of_edge) - 1) if numbers[start + i])
        start += len(of_edge)
    return found


def transforms_are_active() -> bool:
    """Whether a transform of ``torch.func`` (``grad``, ``vmap``, ...) runs. What it computes must not be kept, nor what was there
    before be written over."""
    return getattr(torch._C, '_are_functorch_transforms_active', bool)()
