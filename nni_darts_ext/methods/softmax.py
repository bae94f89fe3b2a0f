"""The relaxation of DARTS.

H. Liu, K. Simonyan, Y. Yang, "DARTS: Differentiable Architecture Search", ICLR 2019, arXiv 1806.09055, equation 2.
"""

from __future__ import annotations

from typing import Mapping

from torch import Tensor

from ..core.weights import softmax
from .base import At, Method


class Softmax(Method):
    """The softmax over the logits of an edge, including the zero op. It is the default relaxation."""

    def relax(self, logits: Mapping[str, Tensor], at: At) -> Mapping[str, Tensor]:
        return softmax(logits)
