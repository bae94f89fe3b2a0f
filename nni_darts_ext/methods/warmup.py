"""Warm-up: the weights train alone before the architecture does.

Y. Xu, L. Xie, X. Zhang, X. Chen, G.-J. Qi, Q. Tian, H. Xiong, "PC-DARTS: Partial Channel Connections for Memory-Efficient
Architecture Search", ICLR 2020, arXiv 1907.05737, section 4.2; before it X. Chen, L. Xie, J. Wu, Q. Tian, "Progressive
Differentiable Architecture Search: Bridging the Depth Gap between Search and Evaluation", ICCV 2019, arXiv 1904.12760.
"""

from __future__ import annotations

from ..errors import MethodError
from .base import At, Method


class Warmup(Method):
    """Takes no architecture step in the first epochs.

    Weights that have hardly been trained favour candidates without weights. The ``warmup_epochs`` of NNI 3.0's strategy do the
    same; with both, the longer one counts.

    Parameters
    ----------
    epochs
        The number of epochs without architecture steps. Default 15 (source: PC-DARTS, of 50 epochs; P-DARTS has 10 of 25 in
        each stage).

    Raises
    ------
    MethodError
        The number is not an integer of at least 1. When the search begins: it has no more epochs than that.
    """

    needs_edges = False

    def __init__(self, epochs: int = 15) -> None:
        if not isinstance(epochs, int) or isinstance(epochs, bool) or epochs < 1:
            raise MethodError(f'Warmup(epochs={epochs!r}): expected an integer of at least 1, such as the default, 15.')
        self.epochs = epochs

    def begin(self, at: At) -> None:
        if at.epochs is not None and at.epochs <= self.epochs:
            raise MethodError(
                f'{self!r} leaves no architecture step in {at.epochs} epoch{"s" * (at.epochs > 1)}. Search longer'
                + ('.' if at.epochs == 1 else ', or warm up for fewer epochs: '
                   f'Warmup(epochs={max(1, at.epochs * 3 // 10)}) is the share of PC-DARTS, 15 of 50.'))

    def takes_architecture_step(self, at: At) -> bool:
        assert at.epoch is not None
        return at.epoch >= self.epochs
