"""The architecture gradient of the bilevel problem (Liu et al., section 2.3), one function per estimator.

With training loss T, validation loss V, weights w, logits a and the virtual weights ``w' = w - xi * step``, where xi is the
learning rate and the step is ``momentum * m + dT/dw(w, a) + weight_decay * w``:

==================================  ==========================================================================================
:func:`first_order`                 ``dV/da(w, a)``
:func:`unrolled_exact`              ``dV/da(w', a) - xi * d2T/(da dw)(w, a) . dV/dw(w', a)``, the product by double backward
:func:`unrolled_finite_difference`  the same, the product by the paper's difference quotient (equation 8)
==================================  ==========================================================================================

**The virtual step** is the one that the optimiser would take, without gradient clipping, for each parameter group and from the
optimiser's state: where its groups have ``momentum``, ``dampening`` and ``nesterov`` that of ``torch.optim.SGD``, which scales
the implicit term too. For any other optimiser (Adam, say) it is that of plain SGD at its learning rate and weight decay. A
weight that T does not reach, or that is frozen, does not move.

**Nothing stays of it.** Weights and buffers come back bit for bit, also when a loss raises; no ``.grad`` is written. Each
evaluation of a loss starts from the same buffers (BatchNorm's statistics) and the same random state of the CPU and of the CUDA
devices that hold the model, so that dropout draws what the weight step is about to draw.

**Several processes** that share the data each compute the losses of their own part. T and V are the means over all of them: an
``average`` of gradients over the processes goes into the virtual step, into ``dV/dw'`` and into the result.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import Any, Callable, Dict, Iterator, List, Mapping, NamedTuple, Optional, Sequence, Tuple

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
"""How far the finite difference moves the weights. Source: the paper, ``eps = 0.01 / ||dV/dw'||``."""


# The estimators ------------------------------------------------------------------------------------------------------------

def first_order(validation: Loss, logits: Sequence[nn.Parameter], model: nn.Module, average: Average = one_process,
                weights: Optional[Sequence[nn.Parameter]] = None,
                gradients: Callable[[Tensor, Sequence[nn.Parameter]], Gradients] = gradients_of) -> Gradients:
    """The gradient at the weights as they are. Nothing is computed or saved for the weights.

    The validation pass is an ordinary one: it moves running statistics and the random state.

    Parameters
    ----------
    validation, logits, model, average
        See :func:`unrolled_exact`.
    weights
        The other parameters of the model, where they are known already.
    gradients
        Gives those of a loss by the logits. Default: autograd's.
    """
    with frozen(all_but(logits, model) if weights is None else weights):
        return average(gradients(validation(), logits), logits)


def unrolled_exact(training: Loss, validation: Loss, logits: Sequence[nn.Parameter],
                   optimizers: Sequence[torch.optim.Optimizer], model: nn.Module, average: Average = one_process) -> Gradients:
    """The gradient through one virtual step: two forward passes, and one backward pass through a backward pass.

    Parameters
    ----------
    training, validation
        The losses of the two levels.
    logits
        The parameters of the upper level. They are none of the lower level, whatever optimiser holds them.
    optimizers
        Those that step the weights.
    model
        What the losses run, for its buffers and devices.
    average
        Over the processes that share the data. Default: there is one.

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
    """The gradient through one virtual step, approximated: four forward and backward passes, all of them ordinary.

    The weights move by ``radius`` to either side of w, along ``dV/dw'`` (with several parameter groups, each part times its
    group's learning rate). On the way they cross kinks of ReLU and max pooling, and the quotient counts these: on a small
    network of the paper's space (``examples/unrolled.py``), where the implicit term is 24 to 32 % of the gradient, it missed 10
    to 14 % of the gradient at radius 0.01 and up to twenty times the gradient at smaller ones. :func:`unrolled_exact` was
    right to 5e-7 in float32, in 1.2 to 1.5 times the time. It takes more memory: 0.9 GB against 0.3 with 8 channels, 5 cells of
    4 nodes and batches of 16.

    Parameters are those of :func:`unrolled_exact`, and ``radius``, default 0.01 (source: the paper).
    """
    weights = _weights(optimizers, logits)
    parameters = [weight.parameter for weight in weights]
    with without_side_effects(model), frozen(logits):
        gradients = average(gradients_of(training(), parameters), parameters)
    direct, direction = _after_virtual_step(validation, logits, weights, gradients, model, average)
    norm = norm_of([along for along in direction if along is not None])

    def logits_gradients(sign: float) -> Gradients:
        moved = {p: p.data + sign * radius * _unit(along, norm) for p, along in zip(parameters, direction) if along is not None}
        with without_side_effects(model), _moved(moved), frozen([*all_but(logits, model), *moved]):
            return gradients_of(training(), logits)

    ahead, behind = logits_gradients(1), logits_gradients(-1)
    implicit = [None if change is None else change * norm.to(change) / (2 * radius) for change in _difference(ahead, behind)]
    return average(_difference(direct, implicit), logits)


Unrolled = Callable[[Loss, Loss, Sequence[nn.Parameter], Sequence[torch.optim.Optimizer], nn.Module, Average], Gradients]


def choose(unrolled: Any) -> Optional[Unrolled]:
    """The estimator that an ``unrolled`` argument names, None for the first order.

    Raises
    ------
    TrainingError
        It is none of False, True, 'exact' and 'finite_difference'.
    """
    if unrolled is False:
        return None
    if unrolled is True or (isinstance(unrolled, str) and unrolled == 'exact'):
        return unrolled_exact
    if isinstance(unrolled, str) and unrolled == 'finite_difference':
        return unrolled_finite_difference
    raise TrainingError(f'unrolled={unrolled!r} names no order of DARTS. Expected False (first order), True or \'exact\' (second '
                        'order), or \'finite_difference\' (the paper\'s approximation of it).')


# The virtual step ----------------------------------------------------------------------------------------------------------

class _Weight(NamedTuple):
    """A weight and how its optimiser steps it."""

    parameter: nn.Parameter
    group: Mapping[str, Any]
    buffer: Optional[Tensor]
    """The momentum so far. None before the first step."""

    def step(self, gradient: Tensor) -> Tuple[Tensor, Any]:
        """Where a step of this gradient leads, and how much of the gradient is in it (the factor of the implicit term)."""
        group, share = self.group, -1.0 if self.group.get('maximize') else 1.0
        change = share * gradient + group.get('weight_decay', 0) * self.parameter.data
        momentum = group['momentum'] if {'momentum', 'dampening', 'nesterov'} <= set(group) else 0  # RMSprop's is another
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
                    state = optimizer.state.get(parameter, {})  # indexing would leave an entry behind
                    buffer = state.get('momentum_buffer')
                    dense = buffer.to_dense() if isinstance(buffer, Tensor) and buffer.is_sparse else buffer
                    found.setdefault(parameter, _Weight(parameter, group, dense))
    return list(found.values())


def _after_virtual_step(validation: Loss, logits: Sequence[nn.Parameter], weights: Sequence[_Weight], gradients: Gradients,
                        model: nn.Module, average: Average) -> Tuple[Gradients, Gradients]:
    """At the virtual weights ``dV/da`` of this process, and ``dV/dw'`` of all times the share that the gradient has in the step,
    xi included."""
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


def _unit(part: Tensor, norm: Tensor) -> Tensor:
    """The part's share in the direction of that norm; of no length where the norm is 0. The device decides, without the host."""
    norm = norm.to(part)
    return torch.where(norm == 0, torch.zeros_like(part), part / norm)


# What is put back ----------------------------------------------------------------------------------------------------------

@contextmanager
def _moved(values: Mapping[nn.Parameter, Tensor]) -> Iterator[None]:
    """Give parameters other values for a while.

    The values are exchanged, not written over: a graph that was recorded before stays good, and what comes back is the same.
    """
    kept = {parameter: parameter.data for parameter in values}
    try:
        for parameter, value in values.items():
            parameter.data = value
        torch.clear_autocast_cache()  # it holds weights of before in half precision
        yield
    finally:
        for parameter, value in kept.items():
            parameter.data = value
        torch.clear_autocast_cache()
