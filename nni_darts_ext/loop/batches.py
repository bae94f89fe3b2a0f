"""What a batch is: a pair of inputs and labels, or of any other form with a function of the user's that takes it apart."""

from __future__ import annotations

from typing import Any, Callable, Dict, Mapping, Optional, Tuple

from torch import Tensor, nn

from ..errors import TrainingError

Loss = Callable[..., Tensor]
MetricsFunction = Callable[..., Mapping[str, Any]]
ForwardBatch = Callable[[nn.Module, Any], Tuple[Any, Optional[Tensor]]]


def check(loss: Any, forward_batch: Any) -> None:
    """Raise :class:`TrainingError` where no loss is given, or one that nothing would call."""
    if loss is None and forward_batch is None:
        raise TrainingError('loss is None. Give a function of the output and the labels, or forward_batch, a function of the '
                            'model and a batch that returns output and loss.')
    if forward_batch is not None and not (loss is None or isinstance(loss, nn.Module)):
        raise TrainingError(f'Both a loss ({in_words(loss)}) and forward_batch, which returns the loss, are given. Give '
                            'loss=None, and call the loss in forward_batch. (Only a module may be given beside it: it is put '
                            'on the device and into the checkpoints, and forward_batch calls it.)')


def forward(model: nn.Module, batch: Any, loss: Optional[Loss], forward_batch: Optional[ForwardBatch] = None
            ) -> Tuple[Any, Any]:
    """The output of a model and its loss on a batch.

    Parameters
    ----------
    batch
        A pair of inputs and labels; with ``forward_batch`` whatever that takes.
    loss
        Of output and labels. Not called with ``forward_batch``.

    Returns
    -------
    output
        Of any type.
    loss
        A floating-point tensor of one element; in evaluation mode it may be None.

    Raises
    ------
    TrainingError
        The batch is no pair, and there is no ``forward_batch``; that returns something else than output and loss; the loss is no
        such tensor.
    """
    if forward_batch is None:
        inputs, labels = pair(batch)
        output = model(inputs)
        value = None if loss is None else loss(output, labels)
        whose = 'The loss'
    else:
        found = forward_batch(model, batch)
        if not isinstance(found, (tuple, list)) or len(found) != 2:
            raise TrainingError(f'forward_batch returned {in_words(found)}. Expected a pair: the output, for the metrics (None '
                                'if there is none to measure), and the loss, in this order.')
        output, value = found
        whose = 'The loss, the second of what forward_batch returned,'
    if isinstance(value, Tensor) and value.numel() == 1 and value.is_floating_point():
        return output, value
    if value is None and not model.training:
        return output, None
    raise TrainingError(f'{whose} is {in_words(value)}. Expected a scalar: a floating-point tensor of one element, the mean over '
                        'the batch, say.')


def judged(metrics: Optional[MetricsFunction], output: Any, batch: Any, loss: Optional[Tensor],
           forward_batch: Optional[ForwardBatch] = None) -> Dict[str, Any]:
    """The metrics of an output by name, and the loss where there is one. None of ``forward_batch`` is no output to measure.

    Raises
    ------
    TrainingError
        The metrics are no mapping.
    """
    is_measured = metrics is not None and (output is not None or forward_batch is None)
    found = metrics(output, target(batch, forward_batch)) if is_measured else {}  # type: ignore[misc]
    if not isinstance(found, Mapping):
        raise TrainingError(f'metrics returned {in_words(found)}. Expected a dict of numbers, or of tensors of one element, by '
                            'name; metrics=None if nothing is to be measured but the loss.')
    return dict(found) if loss is None else {**found, 'loss': loss}


def target(batch: Any, forward_batch: Optional[ForwardBatch] = None) -> Any:
    """What metrics get beside the output: the labels; with ``forward_batch`` the whole batch."""
    return pair(batch)[1] if forward_batch is None else batch


def pair(batch: Any) -> Tuple[Any, Any]:
    """The inputs and labels of a batch.

    Raises
    ------
    TrainingError
        It is no tuple or list of two.
    """
    if isinstance(batch, (tuple, list)) and len(batch) == 2:
        return batch[0], batch[1]
    raise TrainingError(f'A batch is {in_words(batch)}. Expected a pair (inputs, labels), for model(inputs) and loss(output, '
                        'labels). For batches of any other form give forward_batch, a function of the model and a batch that '
                        'returns output and loss.')


def in_words(value: Any) -> str:
    """What a value is, for a message."""
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
