"""Gradients of a loss, and which parameters they are of: neither step of the bilevel problem moves what is the other's."""

from __future__ import annotations

import inspect
from contextlib import contextmanager
from typing import Callable, Dict, Iterable, Iterator, List, Optional, Sequence, Set

import torch
from torch import Tensor, nn

from ...errors import TrainingError

Loss = Callable[[], Tensor]
"""Runs the supernet on one batch as it is now and returns the loss, a scalar."""

Gradients = List[Optional[Tensor]]
"""One for each of some parameters, None where the loss does not reach it."""

Average = Callable[[Gradients, Sequence[Tensor]], Gradients]
"""Gives the mean of gradients, of some parameters, over all processes, without a graph."""


def one_process(gradients: Gradients, parameters: Sequence[Tensor]) -> Gradients:
    """The mean over one process."""
    return gradients


def gradients_of(loss: Tensor, parameters: Sequence[nn.Parameter], create_graph: bool = False) -> Gradients:
    """Those of the parameters that are not frozen, none of them sparse; nothing is accumulated."""
    reachable = [i for i, parameter in enumerate(parameters) if parameter.requires_grad]
    found: Gradients = [None] * len(parameters)
    if loss.requires_grad and reachable:
        of_each = torch.autograd.grad(loss, [parameters[i] for i in reachable], create_graph=create_graph, allow_unused=True)
        for i, gradient in zip(reachable, of_each):
            found[i] = gradient.to_dense() if gradient is not None and gradient.is_sparse else gradient
    return found


def gradients_along(gradients: Gradients, vector: Gradients, parameters: Sequence[nn.Parameter],
                    retain_graph: bool = False) -> Gradients:
    """The product of a matrix of second derivatives and a vector: the gradient, by the parameters, along the vector.

    Parameters
    ----------
    gradients
        With their graph.
    vector
        One part for each of them.
    parameters
        Those that the result is by.
    retain_graph
        Whether there will be another product. Default False.
    """
    through = [(gradient, along) for gradient, along in zip(gradients, vector)
               if gradient is not None and along is not None and gradient.requires_grad]
    if not through:
        return [None] * len(parameters)
    outputs, along_each = zip(*through)
    return list(torch.autograd.grad(outputs, list(parameters), along_each, retain_graph=retain_graph, allow_unused=True))


def set_gradients(parameters: Sequence[nn.Parameter], gradients: Gradients) -> None:
    """Make the gradients those that an optimiser of the parameters steps by."""
    for parameter, gradient in zip(parameters, gradients):
        parameter.grad = gradient


def norm_of(parts: Sequence[Tensor]) -> Tensor:
    """The norm of all parts together, on the device of the first."""
    if not parts:
        return torch.zeros(())
    parts = [part.coalesce().values() if part.is_sparse else part for part in parts]
    if hasattr(nn.utils, 'get_total_norm'):  # since PyTorch 2.6; one call for all of them
        return nn.utils.get_total_norm(parts)
    return torch.stack([part.norm().to(parts[0]) for part in parts]).norm()


def clip(parameters: Iterable[nn.Parameter], limit: float) -> Tensor:
    """Clip the gradients of parameters to a norm. Returns what the norm was.

    It is that of ``nn.utils.clip_grad_norm_``, which does not take sparse gradients in every PyTorch.
    """
    return nn.utils.clip_grad_norm_([_clippable(parameter) for parameter in parameters], limit)


def _clippable(parameter: nn.Parameter) -> Tensor:
    """A tensor whose gradient is the values of a sparse one, in the same memory."""
    gradient = parameter.grad
    if gradient is None or not gradient.is_sparse:
        return parameter
    parameter.grad = gradient.coalesce()
    values = parameter.grad.values()
    stand_in = values.detach()
    stand_in.grad = values
    return stand_in


@contextmanager
def stepping(parameters: Iterable[nn.Parameter]) -> Iterator[None]:
    """Raise :class:`TrainingError` where an optimiser, or clipping, does not take the sparse gradients that parameters have."""
    try:
        yield
    except RuntimeError as error:
        is_of_them = any(sign in str(error) for sign in ('parse', 'set_indices_and_values'))
        if not is_of_them or not any(parameter.grad is not None and parameter.grad.is_sparse for parameter in parameters):
            raise
        raise TrainingError('The weights cannot be stepped by the sparse gradients that the model has, of an nn.Embedding('
                            f'sparse=True), say: {str(error).split(". ")[0]}. Use an optimiser that takes them as it is set, '
                            'such as torch.optim.SparseAdam, or SGD without momentum and weight decay; leave out '
                            'gradient_clip_val; or use sparse=False.') from error


@contextmanager
def twice_differentiable(what: str, way_out: str) -> Iterator[None]:
    """Raise :class:`TrainingError` where ``what`` meets an operation without second derivative, with the way out."""
    try:
        yield
    except RuntimeError as error:
        if not any(sign in str(error) for sign in ('derivative for', 'double backward', 'differentiate twice')):
            raise
        raise TrainingError(f'{what} needs second derivatives, which this model does not have everywhere: {error}. '
                            f'{way_out}') from error


# What belongs to which step ------------------------------------------------------------------------------------------------

@contextmanager
def frozen(parameters: Iterable[nn.Parameter]) -> Iterator[None]:
    """Keep a backward pass away from some parameters: neither computed nor accumulated for them.

    The architecture step freezes the weights and the weight step the logits, so that neither moves what the other owns.
    """
    held = [parameter for parameter in parameters if parameter.requires_grad]
    for parameter in held:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in held:
            parameter.requires_grad_(True)


def check_steps(optimizers: Iterable[torch.optim.Optimizer]) -> None:
    """Raise :class:`TrainingError` where an optimiser cannot step without a closure that computes the loss again (``LBFGS``)."""
    for optimizer in optimizers:
        closure = inspect.signature(optimizer.step).parameters.get('closure')
        if closure is not None and closure.default is inspect.Parameter.empty:
            raise TrainingError(f'{type(optimizer).__name__} computes the loss several times in a step, through a closure. A '
                                'search takes one step a batch, for weights and logits in turn, by gradients that are there. Use '
                                'an optimiser that steps by these, such as SGD or Adam.')


def check_holdings(for_logits: Iterable[torch.optim.Optimizer], for_weights: Iterable[torch.optim.Optimizer],
                   logits: Iterable[nn.Parameter], model: nn.Module) -> None:
    """Raise :class:`TrainingError` where an optimiser holds what is the other's to step."""
    own = set(logits)
    held = {parameter for optimizer in for_logits for group in optimizer.param_groups for parameter in group['params']} - own
    strange = [name for name, parameter in model.named_parameters() if parameter in held]
    if strange:
        raise TrainingError(f'The optimiser of the logits holds {len(strange)} weights of the model ({", ".join(strange[:3])}'
                            f'{", ..." if len(strange) > 3 else ""}), which would learn from the validation data. Give it the '
                            'parameters of the mutator alone.')
    if any(parameter in own for optimizer in for_weights for group in optimizer.param_groups for parameter in group['params']):
        raise TrainingError('The optimiser of the weights holds logits, which would learn from the training data. Give it the '
                            'parameters of the model alone.')


def all_but(logits: Sequence[nn.Parameter], model: nn.Module) -> List[nn.Parameter]:
    """The other parameters of the model, in no particular order. ``model.parameters()`` takes several times as long."""
    found: Dict[Optional[nn.Parameter], None] = {}
    seen: Set[nn.Module] = set()
    ahead = [model]
    while ahead:
        module = ahead.pop()
        if module not in seen:
            seen.add(module)
            found.update(dict.fromkeys(module._parameters.values()))
            ahead.extend(child for child in module._modules.values() if child is not None)
    own = set(logits)
    return [parameter for parameter in found if parameter is not None and parameter not in own]
