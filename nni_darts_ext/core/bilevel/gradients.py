"""Gradients of a loss, and checks that each step of the bilevel problem updates only its own parameters."""

from __future__ import annotations

import inspect
from contextlib import contextmanager
from typing import Callable, Dict, Iterable, Iterator, List, Optional, Sequence, Set

import torch
from torch import Tensor, nn

from ...errors import TrainingError

Loss = Callable[[], Tensor]
"""Runs the supernet on one batch with its current weights and returns the loss, a scalar tensor."""

Gradients = List[Optional[Tensor]]
"""One gradient per parameter; None for parameters that the loss does not depend on."""

Average = Callable[[Gradients, Sequence[Tensor]], Gradients]
"""Takes the gradients of some parameters and these parameters. Returns the mean gradients over all processes, without a graph."""


def one_process(gradients: Gradients, parameters: Sequence[Tensor]) -> Gradients:
    """The :data:`Average` for a single process."""
    return gradients


def gradients_of(loss: Tensor, parameters: Sequence[nn.Parameter], create_graph: bool = False) -> Gradients:
    """The gradients of a loss, as dense tensors; None for frozen parameters. No ``.grad`` is changed."""
    reachable = [i for i, parameter in enumerate(parameters) if parameter.requires_grad]
    found: Gradients = [None] * len(parameters)
    if loss.requires_grad and reachable:
        of_each = torch.autograd.grad(loss, [parameters[i] for i in reachable], create_graph=create_graph, allow_unused=True)
        for i, gradient in zip(reachable, of_each):
            found[i] = gradient.to_dense() if gradient is not None and gradient.is_sparse else gradient
    return found


def gradients_along(gradients: Gradients, vector: Gradients, parameters: Sequence[nn.Parameter],
                    retain_graph: bool = False) -> Gradients:
    """The product of a vector and a matrix of second derivatives: the derivative of ``gradients``, which have their graph, by
    ``parameters``. The vector has one tensor for each gradient. With ``retain_graph``, default False, the graph is kept for
    another product."""
    through = [(gradient, along) for gradient, along in zip(gradients, vector)
               if gradient is not None and along is not None and gradient.requires_grad]
    if not through:
        return [None] * len(parameters)
    outputs, along_each = zip(*through)
    return list(torch.autograd.grad(outputs, list(parameters), along_each, retain_graph=retain_graph, allow_unused=True))


def set_gradients(parameters: Sequence[nn.Parameter], gradients: Gradients) -> None:
    """Set the ``.grad`` of parameters, for the step of their optimiser."""
    for parameter, gradient in zip(parameters, gradients):
        parameter.grad = gradient


def norm_of(parts: Sequence[Tensor]) -> Tensor:
    """The norm of all parts together, on the device of the first one."""
    if not parts:
        return torch.zeros(())
    parts = [part.coalesce().values() if part.is_sparse else part for part in parts]
    if hasattr(nn.utils, 'get_total_norm'):  # since PyTorch 2.6, and faster
        return nn.utils.get_total_norm(parts)
    return torch.stack([part.norm().to(parts[0]) for part in parts]).norm()


def clip(parameters: Iterable[nn.Parameter], limit: float) -> Tensor:
    """Clip the gradients of parameters to a norm. Returns the norm before clipping.

    Like ``nn.utils.clip_grad_norm_``, which does not support sparse gradients in some versions of PyTorch.
    """
    return nn.utils.clip_grad_norm_([_clippable(parameter) for parameter in parameters], limit)


def _clippable(parameter: nn.Parameter) -> Tensor:
    """The parameter; if its gradient is sparse, a tensor whose gradient shares memory with the values of the sparse one."""
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
    """Raise :class:`TrainingError` if an optimiser, or clipping, does not support the sparse gradients of the parameters."""
    try:
        yield
    except RuntimeError as error:
        is_of_them = any(sign in str(error) for sign in ('parse', 'set_indices_and_values'))
        if not is_of_them or not any(parameter.grad is not None and parameter.grad.is_sparse for parameter in parameters):
            raise
        raise TrainingError('The weight step does not support the sparse gradients of the model, such as those of '
                            f'nn.Embedding(sparse=True): {str(error).split(". ")[0]}. Use sparse=False, or an optimiser that '
                            'supports sparse gradients, such as torch.optim.SparseAdam or SGD without momentum and weight '
                            'decay, without gradient_clip_val.') from error


@contextmanager
def twice_differentiable(what: str, way_out: str) -> Iterator[None]:
    """Raise :class:`TrainingError` if an operation has no second derivative. The message starts with ``what``, the thing that
    needs it, and ends with ``way_out``."""
    try:
        yield
    except RuntimeError as error:
        if not any(sign in str(error) for sign in ('derivative for', 'double backward', 'differentiate twice')):
            raise
        raise TrainingError(f'{what} needs second derivatives, but an operation of the model has none: {error}. '
                            f'{way_out}') from error


# What belongs to which step ------------------------------------------------------------------------------------------------

@contextmanager
def frozen(parameters: Iterable[nn.Parameter]) -> Iterator[None]:
    """Compute no gradients of these parameters in the context.

    The architecture step freezes the weights, and the weight step freezes the logits.
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
    """Raise :class:`TrainingError` if an optimiser needs a closure that computes the loss again, such as ``LBFGS``."""
    for optimizer in optimizers:
        closure = inspect.signature(optimizer.step).parameters.get('closure')
        if closure is not None and closure.default is inspect.Parameter.empty:
            raise TrainingError(f'{type(optimizer).__name__} needs a closure, with which it computes the loss several times per '
                                'step. A search does not support this. Use another optimiser, such as SGD or Adam.')


def check_holdings(for_logits: Iterable[torch.optim.Optimizer], for_weights: Iterable[torch.optim.Optimizer],
                   logits: Iterable[nn.Parameter], model: nn.Module) -> None:
    """Raise :class:`TrainingError` if the optimiser of the logits holds weights, or that of the weights holds logits."""
    own = set(logits)
    held = {parameter for optimizer in for_logits for group in optimizer.param_groups for parameter in group['params']} - own
    strange = [name for name, parameter in model.named_parameters() if parameter in held]
    if strange:
        raise TrainingError(f'The optimiser of the logits holds {len(strange)} weights of the model ({", ".join(strange[:3])}'
                            f'{", ..." if len(strange) > 3 else ""}), which would be trained on the validation data. '
                            'Give it only the parameters of the mutator.')
    if any(parameter in own for optimizer in for_weights for group in optimizer.param_groups for parameter in group['params']):
        raise TrainingError('The optimiser of the weights holds logits, which would be trained on the training data. Give it '
                            'only the parameters of the model.')


def all_but(logits: Sequence[nn.Parameter], model: nn.Module) -> List[nn.Parameter]:
    """All parameters of the model except the logits, in no particular order. Much faster than ``model.parameters()``."""
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
