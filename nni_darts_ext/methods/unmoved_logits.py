"""A warning about logits that do not change."""

from __future__ import annotations

import logging
from typing import Any, Dict, List, Optional

import torch
from torch import Tensor

from ..core.weights import weighed
from .base import At, EndOfEpoch, Method

_logger = logging.getLogger(__name__)

LEAST = 1e-6
"""A smaller change of a probability in an epoch counts as none. It is above the errors of rounding, about 1e-7."""


class UnmovedLogits(Method):
    """Warns after an epoch in which logits have not changed, and again if other logits have not. Every search has it.

    Changes without an effect on the probabilities do not count: a regulariser such as beta decay makes all logits of an edge
    smaller, even if the output of the model does not depend on the edge. Where the probabilities of an edge are near 0 and 1, any
    change of its logits counts, as it has little effect.
    """

    def __init__(self) -> None:
        self._before: Dict[str, Tensor] = {}
        self._warned: List[str] = []

    def before_epoch(self, at: At) -> None:
        self._before = _logits(at)

    def after_epoch(self, at: At, end: EndOfEpoch) -> Optional[str]:
        choices, before, now = at.search.choices, self._before, _logits(at)
        old, new = weighed(choices.weigh, before), weighed(choices.weigh, now)
        unmoved = [key for key, logits in choices.items() if end.architecture_steps and logits.requires_grad
                   and len(logits) - len(choices.cuts(key)) > 1
                   and (torch.equal(before[key], now[key]) or _is_same(old[key], new[key]))]
        if unmoved and unmoved != self._warned:
            _logger.warning('In epoch %d the logits of %s have not changed, or all alike. Check that the architecture '
                            'learning rate is not 0, that their optimiser holds them, and that the output of the model depends '
                            'on the edges.', at.epoch,
                            'all edges' if len(unmoved) == len(choices) else ', '.join(map(repr, unmoved)))
        self._warned = unmoved
        return None

    def settings(self) -> Optional[Dict[str, Any]]:
        return None


def _logits(at: At) -> Dict[str, Tensor]:
    return {key: logits.detach().clone() for key, logits in at.search.choices.effective(at.search.choices.keys()).items()}


def _is_same(before: Tensor, now: Tensor) -> bool:
    """Whether probabilities have not changed, although they are not decided."""
    return bool((now - before).abs().max() < LEAST) and bool((now * (1 - now)).abs().max() > 1e-3)
