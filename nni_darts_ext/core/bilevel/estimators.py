"""The architecture gradient of the bilevel problem (Liu et al., section 2.3), one function per estimator.

T is the training loss, V the validation loss, w are the weights, a the logits, and ``w' = w - xi * step`` the virtual weights
after a step ``momentum * m + dT/dw(w, a) + weight_decay * w`` with learning rate xi:

==================================  ==========================================================================================
:func:`first_order`                 ``dV/da(w, a)``
:func:`unrolled_exact`              ``dV/da(w', a) - xi * d2T/(da dw)(w, a) . dV/dw(w', a)``, the product by double backward
:func:`unrolled_finite_difference`  the same, the product by the paper's difference quotient (equation 8)
==================================  ==========================================================================================

**The virtual step** uses the options of each parameter group and the state of the optimiser, but no gradient clipping. If the
groups have ``momentum``, ``dampening`` and ``nesterov``, it is a step of ``torch.optim.SGD``, whose momentum also scales the
implicit term. For other optimisers, such as Adam, it is a step of plain SGD with their learning rate and weight decay. Weights
that are frozen, or that T does not depend on, are not changed.

**There are no side effects.** Weights and buffers are restored bit for bit, also if a loss raises; no ``.grad`` is written. Each
evaluation of a loss starts from the same buffers (BatchNorm's statistics) and the same random states of the CPU and of the
model's CUDA devices, so that dropout masks are those of the following weight step.

**Several processes** that share the data compute the losses of their own parts. T and V are the means over all processes:
``average`` is applied to the gradients of the virtual step, to ``dV/dw'`` and to the result.
"""

from __future__ import annotations

import math
from contextlib import contextmanager
from typing import Any, Callable, Dict, Iterable, Iterator, List, Mapping, NamedTuple, Optional, Sequence, Tuple

import torch
from torch import Tensor, nn

from ...errors import TrainingError
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

RADIUS = 0.01
"""The distance by which the finite difference moves the weights. Source: the paper, ``eps = 0.01 / ||dV/dw'||``."""


# The estimators ------------------------------------------------------------------------------------------------------------

def first_order(validation: Loss, logits: Sequence[nn.Parameter], model: nn.Module, average: Average = one_process,
                weights: Optional[Sequence[nn.Parameter]] = None,
                gradients: Callable[[Tensor, Sequence[nn.Parameter]], Gradients] = gradients_of) -> Gradients:
    """The gradient at the current weights. No gradients of the weights are computed.

    The validation pass is an ordinary one: it updates running statistics and random states.

    Parameters
    ----------
    validation, logits, model, average
        See :func:`unrolled_exact`.
    weights
        All other parameters of the model, if the caller has them. Default: found in ``model``.
    gradients
        Computes the gradients of a loss with respect to the logits. Default: by autograd.
    """
    with frozen(all_but(logits, model) if weights is None else weights):
        return average(gradients(validation(), logits), logits)


def unrolled_exact(training: Loss, validation: Loss, logits: Sequence[nn.Parameter],
                   optimizers: Sequence[torch.optim.Optimizer], model: nn.Module, average: Average = one_process) -> Gradients:
    """The gradient through one virtual step: two forward passes, and one backward pass through a backward pass.

    Parameters
    ----------
    training, validation
        Run the supernet on a batch and return the loss of the lower or the upper level, a scalar tensor.
    logits
        The parameters of the upper level. They do not belong to the lower level, even if an optimiser of the weights holds them.
    optimizers
        The optimisers of the weights.
    model
        The module that the losses run, with all its parameters and buffers.
    average
        Averages gradients over the processes that share the data. Default: one process.

    Raises
    ------
    TrainingError
        An operation of the model has no second derivative.
    """
    weights = _weights(optimizers, logits)
    parameters = [weight.parameter for weight in weights]
    with twice_differentiable('The exact second order', "Use unrolled='finite_difference', or unrolled=False."):
        with without_side_effects(model):
            gradients = gradients_of(training(), parameters, create_graph=True)
        direct, direction = _after_virtual_step(validation, logits, weights, average(gradients, parameters), model, average)
        implicit = gradients_along(gradients, direction, logits)
    return average(_difference(direct, implicit), logits)


def unrolled_finite_difference(training: Loss, validation: Loss, logits: Sequence[nn.Parameter],
                               optimizers: Sequence[torch.optim.Optimizer], model: nn.Module, average: Average = one_process,
                               radius: float = RADIUS) -> Gradients:
    """An approximation of the gradient through one virtual step: four forward passes, each with an ordinary backward pass.

    The weights move by ``radius`` to either side of w, along ``dV/dw'`` (with several parameter groups, each part times its
    group's learning rate). Kinks of ReLU and max pooling in between cause errors. On a small network of the paper's space
    (``examples/unrolled.py``), where the implicit term is 24 to 32 % of the gradient, the error was 10 to 14 % of the gradient
    at radius 0.01, and up to twenty times the gradient at smaller radii. The relative error of :func:`unrolled_exact` was 5e-7
    in float32. That takes 1.2 to 1.5 times as long and more memory: 0.9 GB instead of 0.3 GB with 8 channels, 5 cells of 4
    nodes and batches of 16.

    The parameters are those of :func:`unrolled_exact`, and ``radius``, default 0.01 (source: the paper).
    """
    weights = _weights(optimizers, logits)
    parameters = [weight.parameter for weight in weights]
    with without_side_effects(model), frozen(logits):
        gradients = average(gradients_of(training(), parameters), parameters)
    direct, direction = _after_virtual_step(validation, logits, weights, gradients, model, average)
    towards = {parameter: along for parameter, along in zip(parameters, direction) if along is not None}
    norm = norm_of(list(towards.values()))
    lengths = _lengths(towards.values(), norm)

    def logits_gradients(sign: float) -> Gradients:
        moved = {p: p.data + sign * radius * (along / lengths[along.dtype, along.device]) for p, along in towards.items()}
        with without_side_effects(model), _moved(moved), frozen([*all_but(logits, model), *moved]):
            return gradients_of(training(), logits)

    ahead, behind = logits_gradients(1), logits_gradients(-1)
    implicit = [None if change is None else change * norm.to(change) / (2 * radius) for change in _difference(ahead, behind)]
    return average(_difference(direct, implicit), logits)


Unrolled = Callable[[Loss, Loss, Sequence[nn.Parameter], Sequence[torch.optim.Optimizer], nn.Module, Average], Gradients]


def choose(unrolled: Any) -> Optional[Unrolled]:
    """The estimator for an ``unrolled`` argument; None for the first order. Raises :class:`TrainingError` if it is not one of
    False, True, 'exact' and 'finite_difference'."""
    if unrolled is False:
        return None
    if unrolled is True or (isinstance(unrolled, str) and unrolled == 'exact'):
        return unrolled_exact
    if isinstance(unrolled, str) and unrolled == 'finite_difference':
        return unrolled_finite_difference
    raise TrainingError(f"unrolled={unrolled!r} is unknown. Expected False (first order), True or 'exact' (second order), or "
                        "'finite_difference' (the paper's approximation of the second order).")


# The virtual step ----------------------------------------------------------------------------------------------------------

class _Weight(NamedTuple):
    """A weight, with the options and the state of its optimiser."""

    parameter: nn.Parameter
    group: Mapping[str, Any]
    buffer: Optional[Tensor]
    """The momentum buffer. None before the first step."""

    def step(self, gradient: Tensor) -> Tuple[Tensor, Any]:
        """The weight after a step, and the derivative of the step by the gradient, which is the factor of the implicit term."""
        group, share = self.group, -1.0 if self.group.get('maximize') else 1.0
        change = share * gradient + group.get('weight_decay', 0) * self.parameter.data
        momentum = group['momentum'] if {'momentum', 'dampening', 'nesterov'} <= set(group) else 0  # RMSprop's momentum differs
        if momentum != 0:
            fresh = 1 if self.buffer is None else 1 - group['dampening']
            buffer = change if self.buffer is None else momentum * self.buffer + fresh * change
            change = change + momentum * buffer if group['nesterov'] else buffer
            share = share * (1 + momentum * fresh if group['nesterov'] else fresh)
        return self.parameter.data - group['lr'] * change, group['lr'] * share


def _weights(optimizers: Sequence[torch.optim.Optimizer], logits: Sequence[nn.Parameter]) -> List[_Weight]:
    own = set(logits)
    found: Dict[nn.Parameter, _Weight] = {}
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            for parameter in group['params']:
                if parameter.requires_grad and parameter not in own:
                    state = optimizer.state.get(parameter, {})  # indexing would add an entry
                    buffer = state.get('momentum_buffer')
                    dense = buffer.to_dense() if isinstance(buffer, Tensor) and buffer.is_sparse else buffer
                    found.setdefault(parameter, _Weight(parameter, group, dense))
    return list(found.values())


def _after_virtual_step(validation: Loss, logits: Sequence[nn.Parameter], weights: Sequence[_Weight], gradients: Gradients,
                        model: nn.Module, average: Average) -> Tuple[Gradients, Gradients]:
    """At the virtual weights: ``dV/da`` of this process, and ``dV/dw'`` averaged over all processes and multiplied by the factors
    of :meth:`_Weight.step`."""
    moved: Dict[nn.Parameter, Tensor] = {}
    shares: List[Any] = []
    for weight, gradient in zip(weights, gradients):
        share: Any = None
        if gradient is not None:
            moved[weight.parameter], share = weight.step(gradient.detach())
        shares.append(share)
    with without_side_effects(model), _moved(moved):
        found = gradients_of(validation(), [*logits, *(weight.parameter for weight in weights)])
    by_weights = average(found[len(logits):], [weight.parameter for weight in weights])
    along = [None if share is None or part is None else share * part for share, part in zip(shares, by_weights)]
    return found[:len(logits)], along


# Gradients -----------------------------------------------------------------------------------------------------------------

def _difference(ones: Gradients, others: Gradients) -> Gradients:
    return [one if other is None else -other if one is None else one - other for one, other in zip(ones, others)]


def _lengths(parts: Iterable[Tensor], norm: Tensor) -> Dict[Any, Tensor]:
    """By dtype and device what the parts are divided by: the norm; infinity if it is 0, so that the CPU need not wait for it.
    Complex parts are divided by 1 then, as 0 divided by a complex infinity may be NaN."""
    norms = {(part.dtype, part.device): norm.to(part) for part in parts}
    return {kind: norm.masked_fill(norm == 0, 1 if norm.is_complex() else math.inf) for kind, norm in norms.items()}


# What is put back ----------------------------------------------------------------------------------------------------------

@contextmanager
def _moved(values: Mapping[nn.Parameter, Tensor]) -> Iterator[None]:
    """Set parameters to other values, and restore them at the end.

    The tensors are exchanged, not overwritten, so that recorded graphs stay valid and values are restored exactly.
    """
    kept = {parameter: parameter.data for parameter in values}
    try:
        for parameter, value in values.items():
            parameter.data = value
        torch.clear_autocast_cache()  # it contains casts of the previous values
        yield
    finally:
        for parameter, value in kept.items():
            parameter.data = value
        torch.clear_autocast_cache()
