"""The curvature of the validation loss with respect to the logits. If it is high, the logits overfit, and derived architectures
are worse than the supernet suggests.

A. Zela, T. Elsken, T. Saikia, Y. Marrakchi, T. Brox, F. Hutter, "Understanding and Robustifying Differentiable Architecture
Search", ICLR 2020, arXiv 1909.09656, section 4.
"""

from __future__ import annotations

import math
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
    one_process,
    twice_differentiable,
)
from .side_effects import without_side_effects

ITERATIONS = 50
"""The maximum number of Hessian-vector products for one eigenvalue. Each takes about as long as two backward passes."""

TOLERANCE = 1e-3
"""The iteration stops when the residual is at most this times the eigenvalue, which bounds the relative error of the latter."""


def dominant_eigenvalue(validation: Loss, logits: Sequence[nn.Parameter], model: nn.Module,
                        average: Average = one_process) -> float:
    """The eigenvalue of largest absolute value of the Hessian of a validation loss with respect to all logits, computed by the
    Lanczos method on Hessian-vector products. The start vector is the same in each call.

    It sets no gradients, and buffers and random states are restored. Logits that are cut, or that the loss does not depend on,
    contribute nothing. The result is 0.0 if the loss is linear in all logits, and NaN if a second derivative is not finite.

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
    sizes = [parameter.numel() for parameter in logits]
    vector, value = torch.randn(sum(sizes), generator=torch.Generator().manual_seed(0), dtype=torch.float64), 0.0
    basis = products = vector.new_empty(0, len(vector))
    with twice_differentiable('The dominant eigenvalue', 'Leave out Eigenvalue and EarlyStopping.'), \
            frozen(all_but(logits, model)), without_side_effects(model):
        gradients = gradients_of(validation(), logits, create_graph=True)
        for _ in range(min(ITERATIONS, len(vector))):
            vector = vector / vector.norm()
            along: Gradients = [part.to(parameter).view_as(parameter) for part, parameter in zip(vector.split(sizes), logits)]
            product = _flat(average(gradients_along(gradients, along, logits, retain_graph=True), logits), logits)
            if not torch.isfinite(product).all():
                return math.nan
            basis, products = torch.cat([basis, vector[None]]), torch.cat([products, product[None]])
            values, coordinates = torch.linalg.eigh(products @ basis.t())  # of the Hessian in the space of the vectors
            largest = int(values.abs().argmax())
            value, eigenvector = float(values[largest]), coordinates[:, largest]
            residual = eigenvector @ products - value * (eigenvector @ basis)
            if residual.norm() <= TOLERANCE * abs(value):
                break
            vector = residual - residual @ basis.t() @ basis  # which rounding errors make less than orthogonal
    return value


def _flat(parts: Gradients, parameters: Sequence[nn.Parameter]) -> Tensor:
    """All parts as one vector on the CPU in double precision; zeros for a missing part."""
    return torch.cat([torch.zeros(parameter.numel(), dtype=torch.float64) if part is None else part.detach().reshape(-1).to(
        'cpu', torch.float64) for part, parameter in zip(parts, parameters)])
