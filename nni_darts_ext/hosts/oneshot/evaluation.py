"""Evaluates the supernet of a strategy on the validation data. Lightning does not: its validation loop is empty in a search."""

from __future__ import annotations

from itertools import islice
from typing import Any, Dict, Iterable

import torch

from ...core.bilevel.side_effects import on_copied_buffers
from ...core.edge import memory_format
from ...core.random_states import with_random_states_restored
from ...errors import TrainingError
from ...loop import processes
from ...loop.data import length, to_device
from ...loop.meters import RunningAverages
from ...methods import VALIDATION


def evaluated(module: Any, steps: int) -> Dict[str, float]:
    """The means, over all processes, of the loss and of the numbers that the evaluator's ``training_step`` logs.

    Parameters
    ----------
    module
        A :class:`nni_darts_ext.hosts.oneshot.bilevel_module.BilevelSteps`, in evaluation mode.
    steps
        The number of batches to take from a stream of unknown length.

    Raises
    ------
    TrainingError
        The data gave no batch.
    """
    loader, means = validation_loader(module.trainer), RunningAverages()
    with with_random_states_restored([loader]), on_copied_buffers(module.modules()), torch.no_grad(), \
            module.trainer.precision_plugin.val_step_context():
        for batch in islice(loader, steps if length(loader) is None else None):
            batch = to_device(batch, module.device)
            if module.options.channels_last:
                batch = memory_format.channels_last(batch)
            with module.unlogged() as logged:
                _, loss = module.run_batch(batch, VALIDATION)
            means.add({**{name: value for name, value in logged.items() if _is_number(value)}, 'loss': loss})
    whole = RunningAverages.joined(processes.gathered(means.read())).values()
    if not whole:
        raise TrainingError('The validation data of the evaluator gave no batch. Pass a loader that gives its batches in each '
                            'iteration.')
    return whole


def validation_loader(trainer: Any) -> Iterable[Any]:
    """The evaluator's loader for the logits, as Lightning's trainer uses it: with the sampler of this process."""
    combined = trainer.train_dataloader
    loader = getattr(combined, 'loaders', combined)['val']
    return getattr(loader, 'loader', loader) if hasattr(combined, 'loaders') else loader  # Lightning 1 repeats the shorter one


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) or (isinstance(value, torch.Tensor) and value.numel() == 1)
