"""The two halves of the data that a search learns from: one for the weights, one for the logits."""

from __future__ import annotations

from contextlib import suppress
from typing import Any, Iterable, Optional, Tuple, Union

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Subset
from torch.utils.data.distributed import DistributedSampler
from torch.utils.data.sampler import SubsetRandomSampler

from ..core.nested import parts_of, with_parts
from ..errors import TrainingError
from . import processes

Data = Union[Dataset, Tuple[Any, Any]]


class Loading:
    """How loaders are made where the user gives none.

    Several ranks share a data set: in training ``DistributedSampler`` deals it out to them, in equal numbers, for which a few
    samples may come twice in an epoch; in validation each sample is one rank's. What is a loader already is left to its rank.

    Parameters
    ----------
    batch_size, workers, device
        Of the loaders; batches are pinned for a GPU.
    """

    def __init__(self, batch_size: int, workers: int, device: torch.device) -> None:
        self.batch_size, self.workers, self.device = batch_size, workers, device

    def halves(self, data: Data, split: float) -> Tuple[Iterable[Any], Iterable[Any]]:
        """Loaders for weights and logits: of a pair as it is, of one data set by splitting it.

        Raises
        ------
        TrainingError
            The data cannot be split, or one of the parts has not one batch.
        """
        if isinstance(data, (tuple, list)) and len(data) == 2:
            return (self.loader(data[0], self._dealt(data[0]), 'weights'), self.loader(data[1], self._dealt(data[1]), 'logits'))
        if not hasattr(data, '__len__') or not hasattr(data, '__getitem__'):
            raise TrainingError(f'A {type(data).__name__} cannot be split for weights and logits, for it has no length. Give '
                                'a pair of data sets or loaders as dataset_train.')
        n = len(data)  # type: ignore[arg-type]
        at = int(n * split)
        if not 0 < at < n:
            raise TrainingError(f'A data set of {n} samples with split={split} leaves {at} for the weights and {n - at} for '
                                'the logits. Both need one at least.')
        indices = list(range(n))
        if processes.size() == 1:
            return (self.loader(data, SubsetRandomSampler(indices[:at]), 'weights'),
                    self.loader(data, SubsetRandomSampler(indices[at:]), 'logits'))
        seed, *_ = processes.gathered(torch.initial_seed())
        weights, logits = (Subset(data, part) for part in (indices[:at], indices[at:]))
        return (self.loader(weights, DistributedSampler(weights, seed=seed), 'weights'),
                self.loader(logits, DistributedSampler(logits, seed=seed), 'logits'))

    def validation(self, data: Any) -> Iterable[Any]:
        """A loader of what is validated on."""
        share = range(processes.rank(), len(data), processes.size()) if processes.size() > 1 and _is_set(data) else None
        return self.loader(data, share)

    def _dealt(self, data: Any) -> Any:
        """How a data set comes to its ranks, in its order."""
        return DistributedSampler(data, shuffle=False) if processes.size() > 1 and _is_set(data) else None

    def loader(self, data: Any, sampler: Any = None, part: str = 'validation') -> Iterable[Any]:
        """A loader of a data set; loaders and lists of batches as they are."""
        if not _is_set(data):
            loader = data  # batches already
        else:
            loader = DataLoader(data, self.batch_size, sampler=sampler, num_workers=self.workers,
                                pin_memory=self.device.type == 'cuda')
        check_batches(loader if sampler is None else data, part)  # a sampler may leave this rank nothing
        return loader


def check_batches(loader: Any, part: str) -> None:
    """Raise :class:`TrainingError` where a loader is known to give no batch. Of a stream nobody knows before it runs."""
    if length(loader) == 0:
        details = [f'{name}={getattr(loader, name)!r}' for name in ('batch_size', 'drop_last') if hasattr(loader, name)]
        with suppress(AttributeError, TypeError):
            details.insert(0, f'{len(loader.dataset)} samples')
        of = f' ({", ".join(details)})' if details else ''
        raise TrainingError(f'For the {part} a {type(loader).__name__}{of} gives no batch at all. Give more data, a smaller '
                            'batch_size, or no drop_last.')


def begin_epoch(loader: Any, epoch: int) -> None:
    """Tell a ``DistributedSampler``, which has another order for each epoch, which one begins."""
    sampler = getattr(loader, 'sampler', None)
    if isinstance(sampler, DistributedSampler):
        sampler.set_epoch(epoch)


def length(*loaders: Any) -> Optional[int]:
    """How many batches some loaders have together, that is the shortest of them; None where one does not know."""
    try:
        return min(len(loader) for loader in loaders)
    except TypeError:  # a stream
        return None


def describe(loader: Any) -> str:
    """What can be said of a loader without reading it."""
    dataset = getattr(loader, 'dataset', loader)
    samples, batches = ('unknown length' if n is None else n for n in (length(dataset), length(loader)))
    return f'{type(dataset).__name__} of {samples} in {batches} batches'


def _is_set(data: Any) -> bool:
    """Whether it is a data set, not batches."""
    return hasattr(data, '__getitem__') and not isinstance(data, (DataLoader, list, tuple))


def to_device(value: Any, device: torch.device) -> Any:
    """A batch, with its tensors on a device."""
    if isinstance(value, Tensor):
        return value.to(device, non_blocking=device.type == 'cuda')
    if callable(getattr(value, 'to', None)):  # batches of text, graphs and packed sequences know how
        return value.to(device)
    parts = parts_of(value)
    return value if parts is None else with_parts(value, {name: to_device(part, device) for name, part in parts.items()})
