"""How sharp the validation loss is in the logits: an early sign of a search that overfits them, and of architectures that do not
keep what the supernet promises.

A. Zela, T. Elsken, T. Saikia, Y. Marrakchi, T. Brox, F. Hutter, "Understanding and Robustifying Differentiable Architecture
Search", ICLR 2020, arXiv 1909.09656, section 4.
"""

from __future__ import annotations

from typing import Any, Optional, Sequence

import torch
from torch import Tensor, nn

from .estimators import choose, unrolled_exact
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
"""The most products with the Hessian for one eigenvalue, each about two backward passes through the supernet."""

TOLERANCE = 1e-3
"""An eigenvalue is found when a product changes it by no larger share of itself."""


def dominant_eigenvalue(validation: Loss, logits: Sequence[nn.Parameter], model: nn.Module,
                        average: Average = one_process) -> float:
    """The eigenvalue, of largest absolute value, of the Hessian of a validation loss in all logits together: power iteration on
    Hessian-vector products, from the same vector each time.

    Nothing stays of it: no gradient, and neither buffers nor random states move. Logits that the loss does not reach, or that are
    cut, add nothing; 0.0 where the loss is linear in all of them.

    Parameters
    ----------
    validation
        Runs the supernet on a validation batch and returns the loss, a scalar.
    logits
        The parameters of the logits.
    model
        What the loss runs, for its other parameters, buffers and devices.
    average
        Over the processes that share the data: the Hessian is that of their mean loss. Default: there is one.

    Raises
    ------
    TrainingError
        An operation of the model has no second derivative.
    """
    with twice_differentiable('The dominant eigenvalue', 'Leave out eigenvalue and early_stopping.'), \
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


def needing_second_derivatives(unrolled: Any, eigenvalue: bool, early_stopping: bool) -> Optional[str]:
    """Which of the arguments of a trainer or strategy needs them; None if none does."""
    if choose(unrolled) is unrolled_exact:
        return f'unrolled={unrolled!r}'
    return 'early_stopping=True' if early_stopping else 'eigenvalue=True' if eigenvalue else None


def _start(logits: Sequence[nn.Parameter]) -> Sequence[Tensor]:
    draw = torch.Generator().manual_seed(0)
    return [torch.randn(parameter.shape, generator=draw).to(parameter) for parameter in logits]


def _known(parts: Gradients) -> Sequence[Tensor]:
    return [part for part in parts if part is not None]
