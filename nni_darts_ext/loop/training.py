"""Training a network from scratch, such as one that a search has found."""

from __future__ import annotations

import logging
import math
from typing import Any, Callable, Dict, Iterator, List, Mapping, Optional, Tuple

import torch
from torch import nn
from torch.utils.data import default_collate

from .. import __version__
from ..core import files
from ..core.random_states import random_states
from ..errors import CheckpointError, DartsExtError, TrainingError
from . import batches, processes
from .batches import ForwardBatch, Loss
from .checkpoint import Checkpoints
from .data import Loading, begin_epoch, describe, to_device
from .meters import number
from .resuming import agreed, differences, restore_random_states, save
from .stateful import state_of

_logger = logging.getLogger(__name__)


class Training:
    """A network that is trained on labelled data or, with ``forward_batch``, any other.

    Several ranks train together, see :mod:`.processes`.

    Parameters
    ----------
    model, optimizer, scheduler, num_epochs
        The scheduler is stepped after each epoch.
    loss, forward_batch
        As those of :class:`nni_darts_ext.DartsTrainer`.
    dataset
        A data set to train on. Shuffled; the last batch of an epoch is left out if it is smaller than the others.
    loading
        How to load it. Its batches are each rank's own.
    grad_clip
        The norm that the gradient is clipped to; 0 or None for no clipping. Default None.
    checkpoint_dir
        A folder for checkpoints of the state after each epoch. If it contains any, the training resumes from the last one that
        can be read; on a CPU the result is that of a training without interruption, bit for bit. Default: none.
    settings
        What must be the same for a training to resume, under the names that messages use. Default: nothing.

    Raises
    ------
    CheckpointError
        ``checkpoint_dir`` cannot be created. Raised by :meth:`epochs`: a checkpoint other than the last cannot be written, or
        none can be read and restored, as those of another training.
    """

    def __init__(self, model: nn.Module, optimizer: torch.optim.Optimizer, scheduler: Any, num_epochs: int, loss: Optional[Loss],
                 dataset: Any, loading: Loading, *, forward_batch: Optional[ForwardBatch] = None,
                 grad_clip: Optional[float] = None, checkpoint_dir: Optional[files.Path] = None,
                 settings: Optional[Mapping[str, Any]] = None) -> None:
        self.model, self.optimizer, self.scheduler, self.num_epochs = model, optimizer, scheduler, num_epochs
        self.loss, self.forward_batch, self.grad_clip = loss, forward_batch, grad_clip
        self.loader = loading.training(dataset, 'training', drop_last=True)
        self._device = loading.device
        self._settings = {'the number of processes': processes.size(), 'the number of epochs': num_epochs,
                          'the training data': describe(self.loader), **(settings or {})}
        self._checkpoints = None if checkpoint_dir is None else Checkpoints(checkpoint_dir)

    def epochs(self) -> Iterator[int]:
        """Train. Yields the number of each epoch, from 0, at its end. Its checkpoint is written when the next is requested."""
        processes.share(self.model)
        done = 0
        if self._checkpoints is not None:
            self._checkpoints.resume(self._restore)
            done = agreed(self._epochs)
        for epoch in range(done, self.num_epochs):
            self._train_one_epoch(epoch)
            yield epoch
            try:
                self._save(epoch + 1)
            except CheckpointError as error:
                if epoch + 1 < self.num_epochs:
                    raise
                _logger.error('%s The training is complete.', error)  # which must not be lost

    _epochs = 0
    """The number of finished epochs."""

    def _train_one_epoch(self, epoch: int) -> None:
        self.model.train()
        parameters = list(self.model.parameters())
        begin_epoch(self.loader, epoch)
        for batch in self.loader:
            self.optimizer.zero_grad()
            _, loss = batches.forward(self.model, to_device(batch, self._device), self.loss, self.forward_batch)
            loss.backward()
            processes.average_gradients(parameters)
            nn.utils.clip_grad_norm_(parameters, self.grad_clip or math.inf)
            self.optimizer.step()
        self.scheduler.step()
        processes.share(self.model)  # running statistics differ between processes

    def _save(self, epochs: int) -> None:
        self._epochs = epochs
        if self._checkpoints is not None:
            state = {**{name: state_of(part) for name, part in self._parts().items()}, 'nni_darts_ext': __version__,
                     'settings': self._settings, 'epochs': epochs, 'random': processes.gathered(random_states([self.loader]))}
            save(self._checkpoints, epochs, state)

    def _restore(self, state: Any) -> None:
        try:
            different = differences(state['settings'], self._settings) + differences(state['model'], self.model.state_dict())
            if different:
                raise CheckpointError(f'It belongs to another training: {"; ".join(different)}.')
            for name, part in self._parts().items():
                part.load_state_dict(state[name])
            restore_random_states(state['random'], [self.loader])
            self._epochs = int(state['epochs'])
        except DartsExtError:
            raise
        except Exception as error:  # PyTorch raises various errors for a state that does not fit
            raise CheckpointError(f'It does not fit this training: {type(error).__name__}: {error}') from error
        if processes.is_first():
            _logger.info('Resuming: %d of %d epochs are done.', self._epochs, self.num_epochs)

    def _parts(self) -> Dict[str, Any]:
        return {'model': self.model, 'optimizer': self.optimizer, 'scheduler': self.scheduler}


def mean_metric(model: nn.Module, metric: Callable[[Any, Any], Any], dataset: Any, loading: Loading,
                forward_batch: Optional[ForwardBatch] = None) -> Optional[float]:
    """The mean of a metric over the samples of a data set, in evaluation mode. Several ranks share the samples.

    Parameters
    ----------
    metric
        A function of output and labels, or with ``forward_batch`` of output and batch, that returns the mean over a batch.
    dataset
        A data set, also an ``IterableDataset``.
    loading
        How to load it.

    Returns
    -------
    float or None
        None if ``forward_batch`` gives no output.

    Raises
    ------
    TrainingError
        There are no samples, or the metric is not a number.
    """
    model.eval()
    counting = Loading(loading.batch_size, loading.workers, loading.device, _Counted(loading.collate_fn))
    total, n = 0.0, 0
    with torch.no_grad():
        for n_samples, batch in counting.validation(dataset):
            batch = to_device(batch, loading.device)
            output, _ = batches.forward(model, batch, None, forward_batch)
            if output is None and forward_batch is not None:
                return None
            total += float(number('metric', metric(output, batches.target(batch, forward_batch)))) * n_samples
            n += n_samples
    sums = processes.gathered((total, n))
    of_all = sum(n for _, n in sums)
    if not of_all:
        raise TrainingError('The data to validate on gave no samples.')
    return sum(total for total, _ in sums) / of_all


class _Counted:
    """A ``collate_fn`` that returns the number of samples and their batch, as a batch of any form does not tell its size."""

    def __init__(self, collate_fn: Optional[Callable[[Any], Any]]) -> None:
        self._collate_fn = default_collate if collate_fn is None else collate_fn

    def __call__(self, samples: List[Any]) -> Tuple[int, Any]:
        return len(samples), self._collate_fn(samples)
