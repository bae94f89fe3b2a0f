"""An auxiliary skip connection: candidates need not win as skip connections to let gradients through.

X. Chu, X. Wang, B. Zhang, S. Lu, X. Wei, J. Yan, "DARTS-: Robustly Stepping out of Performance Collapse Without Indicators",
ICLR 2021, arXiv 2009.01027, section 3.
"""

from __future__ import annotations

import logging
from typing import Any, List, Optional, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from ..core.edge.shapes import is_weighed
from ..errors import MethodError
from .base import At, Method

_logger = logging.getLogger(__name__)


class AuxiliarySkip(Method):
    """Adds beta(epoch) times its input to the output of each edge, with beta falling linearly from 1.

    In epoch ``e`` of ``n``, counted from 0, beta is ``1 - e / n`` (source: the authors' script for searches, ``linear``). All
    passes have the auxiliary skip connection, in a validation as well, as in the authors' code. It is no candidate: it is not
    derived, and weights, logs and cuts do not count it. Each edge has it, with a skip connection among its candidates or not.

    Where the output is smaller than the input, as with a stride of 2, the input is averaged to its size. The authors have a
    factorised reduction there, whose weights are trained; this one has none. An edge to another number of channels, or of
    something other than one tensor, or that is called with keywords alone, has no auxiliary skip connection; a warning names it.
    Edges that :class:`~nni_darts_ext.methods.perturbation_selection.PerturbationSelection` has dropped keep theirs.

    Parameters
    ----------
    beta
        beta in the first epoch. Default 1 (source: the authors' code, ``skip_beta``).

    Raises
    ------
    MethodError
        beta is not a number above 0. When the search begins: its number of epochs is unknown.
    """

    needs_epochs = True

    def __init__(self, beta: float = 1.0) -> None:
        if not (isinstance(beta, (int, float)) and 0 < beta < float('inf')):
            raise MethodError(f'AuxiliarySkip(beta={beta!r}): expected a number above 0, such as the default, 1.')
        self.beta = beta
        self._without: List[str] = []

    def edge(self, output: Any, inputs: Sequence[Any], key: str, at: At) -> Any:
        skipped = _resized(inputs[0], output) if inputs else None
        if skipped is None:
            if key not in self._without:
                self._without.append(key)
                _logger.warning('LayerChoice %r has no auxiliary skip connection: its first positional argument and its output '
                                'are not two tensors with the same number of channels, the output not larger than the input.',
                                key)
            return output
        return torch.add(output, skipped.to(output.dtype), alpha=self.beta * (1 - at.progress))


def _resized(value: Any, output: Any) -> Optional[Tensor]:
    """The input of an edge, averaged to the size of its output. None if it cannot be."""
    if not all(isinstance(one, Tensor) and is_weighed(one) for one in (value, output)):
        return None
    if value.shape == output.shape:
        return value
    if value.dim() != output.dim() or value.dim() not in POOLINGS or 0 in output.shape:
        return None
    strides = [-(-size // to) for size, to in zip(value.shape[2:], output.shape[2:])]
    pooled: Tensor = POOLINGS[value.dim()](value, strides, ceil_mode=True)
    return pooled if pooled.shape == output.shape else None


POOLINGS: Any = {3: functional.avg_pool1d, 4: functional.avg_pool2d, 5: functional.avg_pool3d}
"""By the number of dimensions of what they take."""
