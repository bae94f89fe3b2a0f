"""The relaxation of DARTS.

H. Liu, K. Simonyan, Y. Yang, "DARTS: Differentiable Architecture Search", ICLR 2019, arXiv 1806.09055, equation 2.
"""

from __future__ import annotations

from typing import Mapping

from torch import Tensor

from ..core.weights import softmax
from .base import At, Method


class Softmax(Method):
    """The softmax of the logits of an edge, the zero op's included. A search without another relaxation has this one."""

    def relax(self, logits: Mapping[str, Tensor], at: At) -> Mapping[str, Tensor]:
        return softmax(logits)
