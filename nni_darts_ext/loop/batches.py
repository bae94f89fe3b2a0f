"""Batches: pairs of inputs and labels, or any other form with the user's ``forward_batch``."""

from __future__ import annotations

from typing import Any, Callable, Dict, Mapping, Optional, Tuple

from torch import Tensor, nn

from ..errors import TrainingError

Loss = Callable[..., Tensor]
MetricsFunction = Callable[..., Mapping[str, Any]]
ForwardBatch = Callable[[nn.Module, Any], Tuple[Any, Optional[Tensor]]]


def check(loss: Any, forward_batch: Any) -> None:
    """Raise :class:`TrainingError` if there is no loss, or if it would not be called."""
    if loss is None and forward_batch is None:
        raise TrainingError('loss is None. Pass a function of the output and the labels, or forward_batch, a function of the '
                            'model and a batch that returns output and loss.')
    if forward_batch is not None and not (loss is None or isinstance(loss, nn.Module)):
        raise TrainingError(f'Both a loss ({description_of(loss)}) and forward_batch, which returns the loss, are given. Pass '
                            'loss=None, and call the loss in forward_batch. (A module is allowed: it is moved to the device '
                            'and saved in checkpoints, and forward_batch calls it.)')


def forward(model: nn.Module, batch: Any, loss: Optional[Loss], forward_batch: Optional[ForwardBatch] = None
            ) -> Tuple[Any, Any]:
    """The output of a model and its loss on a batch.

    Parameters
    ----------
    batch
        A pair of inputs and labels; with ``forward_batch`` any batch that it accepts.
    loss
        A function of output and labels. Not called with ``forward_batch``.

    Returns
    -------
    output
        Any type.
    loss
        A floating-point tensor of one element; in evaluation mode also None.

    Raises
    ------
    TrainingError
        The batch is not a pair and there is no ``forward_batch``; ``forward_batch`` does not return output and loss; the loss is
        not such a tensor.
    """
    if forward_batch is None:
        inputs, labels = pair(batch)
        output = model(inputs)
        value = None if loss is None else loss(output, labels)
        name = 'The loss'
    else:
        found = forward_batch(model, batch)
        if not isinstance(found, (tuple, list)) or len(found) != 2:
            raise TrainingError(f'forward_batch returned {description_of(found)}. Expected a pair: the output, for the metrics '
                                '(None to skip them), and the loss, in this order.')
        output, value = found
        name = 'The loss, the second value that forward_batch returned,'
    if isinstance(value, Tensor) and value.numel() == 1 and value.is_floating_point():
        return output, value
    if value is None and not model.training:
        return output, None
    raise TrainingError(f'{name} is {description_of(value)}. Expected a scalar: a floating-point tensor of one element, such as '
                        'the mean over the batch.')


def judged(metrics: Optional[MetricsFunction], output: Any, batch: Any, loss: Optional[Tensor],
           forward_batch: Optional[ForwardBatch] = None) -> Dict[str, Any]:
    """The metrics of an output by name, and the loss unless it is None. No metrics if ``forward_batch`` returned None as output.
    Raises :class:`TrainingError` if the metrics are not a mapping."""
    is_measured = metrics is not None and (output is not None or forward_batch is None)
    found = metrics(output, target(batch, forward_batch)) if is_measured else {}  # type: ignore[misc]
    if not isinstance(found, Mapping):
        raise TrainingError(f'metrics returned {description_of(found)}. Expected a dict of numbers, or of tensors of one '
                            'element, by name. Pass metrics=None to measure only the loss.')
    return dict(found) if loss is None else {**found, 'loss': loss}


def target(batch: Any, forward_batch: Optional[ForwardBatch] = None) -> Any:
    """The second argument of metrics: the labels; with ``forward_batch`` the whole batch."""
    return pair(batch)[1] if forward_batch is None else batch


def pair(batch: Any) -> Tuple[Any, Any]:
    """The inputs and labels of a batch. Raises :class:`TrainingError` if the batch is not a tuple or list of two."""
    if isinstance(batch, (tuple, list)) and len(batch) == 2:
        return batch[0], batch[1]
    raise TrainingError(f'A batch is {description_of(batch)}. Expected a pair (inputs, labels), for model(inputs) and '
                        'loss(output, labels). For batches of any other form pass forward_batch, a function of the model and a '
                        'batch that returns output and loss.')


def description_of(value: Any) -> str:
    """A description of a value, for messages."""
    name = type(value).__name__
    if value is None:
        return 'None'
    if isinstance(value, Tensor):
        return f'a tensor of shape {tuple(value.shape)} and {value.dtype}'
    if isinstance(value, Mapping):
        keys = [repr(key) for key in value]
        return f'a {name} of {", ".join(keys[:8])}{", ..." if len(keys) > 8 else ""}' if keys else f'an empty {name}'
    if isinstance(value, (tuple, list)):
        return f'a {name} of {len(value)} part{"" if len(value) == 1 else "s"}'
    return f'a {name} ({value!r:.40})' if isinstance(value, (int, float, complex, str)) else f'a {name}'
