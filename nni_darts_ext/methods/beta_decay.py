"""Beta decay: a regulariser that keeps the weights of an edge's candidates from growing apart.

P. Ye, B. Li, Y. Li, T. Chen, J. Fan, W. Ouyang, "beta-DARTS: Beta-Decay Regularization for Differentiable Architecture Search",
CVPR 2022, arXiv 2203.01665.
"""

from __future__ import annotations

import math
from typing import Mapping, Optional

import torch
from torch import Tensor

from ..errors import MethodError
from .base import At, Method


class BetaDecay(Method):
    """Adds lambda(epoch) times the mean over the edges of the logsumexp of their logits to the loss of the architecture step.

    The gradient of that term is lambda / (number of edges) times the softmax of each edge: the logits of strong candidates decay
    faster. All logits fall together under it; only their differences matter. The zero op is a candidate here, as in the paper's
    spaces. The authors' code adds the term in the first order only; here both orders have it.

    Parameters
    ----------
    factor
        lambda after the last epoch. In epoch ``e`` of ``n``, counted from 0, lambda is ``factor * e / n``, so that the first
        epoch is one of plain DARTS. Default 5 (source: measured, ``tests/bench/nas_bench_201``, with 25 epochs of 200 steps). The
        authors' code has 50 for 100 epochs of 391 steps, so that lambda grows about as fast from step to step; in a search that
        is as short as ours, 50 decides the edges within the first two epochs, when the weights are hardly trained.

    Raises
    ------
    MethodError
        The factor is not a number of at least 0.
    """

    needs_epochs = True

    def __init__(self, factor: float = 5.0) -> None:
        if not (isinstance(factor, (int, float)) and 0 <= factor < math.inf):
            raise MethodError(f'BetaDecay(factor={factor!r}): expected a number of at least 0, such as the default, 5.')
        self.factor = factor

    def regularizer(self, logits: Mapping[str, Tensor], at: At) -> Optional[Tensor]:
        return self.factor * at.progress * torch.stack([of_edge.logsumexp(0) for of_edge in logits.values()]).mean()
