"""Beta decay: a regulariser that keeps the weights of an edge's candidates from growing apart.

P. Ye, B. Li, Y. Li, T. Chen, J. Fan, W. Ouyang, "beta-DARTS: Beta-Decay Regularization for Differentiable Architecture Search",
CVPR 2022, arXiv 2203.01665.
"""

from __future__ import annotations

import math
from typing import Any, Dict, Mapping, Optional

import torch
from torch import Tensor

from ..errors import MethodError
from .base import At, EndOfEpoch, Method


class BetaDecay(Method):
    """Adds lambda(epoch) times the mean over the edges of the logsumexp of their logits to the loss of the architecture step.

    The gradient of that term is lambda / (number of edges) times the softmax of each edge: the logits of strong candidates decay
    faster. All logits fall together under it; only their differences matter. The zero op is a candidate here, as in the paper's
    spaces. The authors' code adds the term in the first order only; here both orders have it.

    Parameters
    ----------
    rate
        lambda in an epoch is ``rate`` times the number of architecture steps before it, so that the first epoch is one of plain
        DARTS. Default 1e-3 (source: measured, ``tests/bench/nas_bench_201``: lambda comes to 5 there). The authors' code has
        ``50 * epoch / 100`` with epochs of 391 steps, which is 1.3e-3 a step. A lambda of 50 at the end of a short search
        decides the edges within its first epochs, when the weights are hardly trained.

    Raises
    ------
    MethodError
        The rate is not a number of at least 0.
    """

    def __init__(self, rate: float = 1e-3) -> None:
        if not (isinstance(rate, (int, float)) and 0 <= rate < math.inf):
            raise MethodError(f'BetaDecay(rate={rate!r}): expected a number of at least 0, such as the default, 1e-3.')
        self.rate = rate
        self._steps = 0
        """The architecture steps in all epochs so far."""

    def regularizer(self, logits: Mapping[str, Tensor], at: At) -> Optional[Tensor]:
        return self.rate * self._steps * torch.stack([of_edge.logsumexp(0) for of_edge in logits.values()]).mean()

    def after_epoch(self, at: At, end: EndOfEpoch) -> Optional[str]:
        self._steps += end.architecture_steps
        return None

    def state_dict(self) -> Dict[str, Any]:
        return {'steps': self._steps}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._steps = int(state['steps'])
