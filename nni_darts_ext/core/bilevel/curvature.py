"""The curvature of the validation loss with respect to the logits. If it is high, the logits overfit, and derived architectures
are worse than the supernet suggests.

A. Zela, T. Elsken, T. Saikia, Y. Marrakchi, T. Brox, F. Hutter, "Understanding and Robustifying Differentiable Architecture
Search", ICLR 2020, arXiv 1909.09656, section 4.
"""

from __future__ import annotations

from typing import Sequence

import torch
from torch import Tensor, nn

from .gradients import (
    Average,
    Gradients,
    Loss,
    all_but,
    frozen,
    gradients_along,
    gradients_of,
    norm_of,
    one_process,
    twice_differentiable,
)
from .side_effects import without_side_effects

ITERATIONS = 50
"""The maximum number of Hessian-vector products for one eigenvalue. Each takes about as long as two backward passes."""

TOLERANCE = 1e-3
"""The iteration stops when the relative change of the eigenvalue is at most this."""


def dominant_eigenvalue(validation: Loss, logits: Sequence[nn.Parameter], model: nn.Module,
                        average: Average = one_process) -> float:
    """The eigenvalue of largest absolute value of the Hessian of a validation loss with respect to all logits, computed by power
    iteration on Hessian-vector products. The start vector is the same in each call.

    It sets no gradients, and buffers and random states are restored. Logits that are cut, or that the loss does not depend on,
    contribute nothing. The result is 0.0 if the loss is linear in all logits.

    Parameters
    ----------
    validation
        Runs the supernet on a validation batch and returns the loss, a scalar tensor.
    logits
        The parameters of the logits.
    model
        The module that the loss runs, with all other parameters and buffers.
    average
        Averages gradients over the processes that share the data; the Hessian is that of their mean loss. Default: one process.

    Raises
    ------
    TrainingError
        An operation of the model has no second derivative.
    """
    with twice_differentiable('The dominant eigenvalue', 'Leave out Eigenvalue and EarlyStopping.'), \
            frozen(all_but(logits, model)), without_side_effects(model):
        gradients = gradients_of(validation(), logits, create_graph=True)
        vector: Gradients = list(_start(logits))
        value = 0.0
        for _ in range(ITERATIONS):
            norm = norm_of(_known(vector))
            if float(norm) == 0:
                return 0.0
            vector = [None if part is None else part / norm.to(part) for part in vector]
            product = average(gradients_along(gradients, vector, logits, retain_graph=True), logits)
            before, value = value, sum(float((along * part).sum()) for along, part in zip(vector, product)
                                       if along is not None and part is not None)
            vector = product
            if abs(value - before) <= TOLERANCE * abs(value):
                break
    return value


def _start(logits: Sequence[nn.Parameter]) -> Sequence[Tensor]:
    draw = torch.Generator().manual_seed(0)
    return [torch.randn(parameter.shape, generator=draw).to(parameter) for parameter in logits]


def _known(parts: Gradients) -> Sequence[Tensor]:
    return [part for part in parts if part is not None]
