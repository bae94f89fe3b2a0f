"""The data for the weights and for the logits, and the loaders of both."""

from __future__ import annotations

import itertools
import numbers
from contextlib import suppress
from typing import Any, Callable, Iterable, Mapping, Optional, Sequence, Tuple, Union

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset, Subset
from torch.utils.data.distributed import DistributedSampler
from torch.utils.data.sampler import SubsetRandomSampler

from ..core.nested import parts_of, with_parts
from ..errors import TrainingError
from . import processes
from .batches import description_of

Data = Union[Dataset, Sequence[Any], Tuple[Any, Any]]


class Loading:
    """Builds the loaders of a search.

    In training, the samples of a data set are shuffled in each epoch; in validation they are not. Several ranks share a data
    set: in training by ``DistributedSampler``, which repeats a few samples so that all ranks get equally many; in validation
    each sample goes to exactly one rank. An ``IterableDataset`` or a loader is used as it is, separately on each rank.

    Parameters
    ----------
    batch_size, workers, device, collate_fn
        The options of the loaders. Batches for a GPU are pinned.
    takes_pairs
        Whether batches must be pairs of inputs and labels. Default True.
    seed
        The seed with which training data is shuffled: n ranks with batches of b samples then get together the batches of one
        process with n * b. Default: several ranks use the seed of rank 0, one process draws the order from its random state.
    """

    def __init__(self, batch_size: int, workers: int, device: torch.device, collate_fn: Optional[Callable[[Any], Any]] = None,
                 takes_pairs: bool = True, seed: Optional[int] = None) -> None:
        self.batch_size, self.workers, self.device = batch_size, workers, device
        self.collate_fn, self.takes_pairs, self.seed = collate_fn, takes_pairs, seed

    def halves(self, data: Data, split: float) -> Tuple[Iterable[Any], Iterable[Any]]:
        """Loaders for weights and logits: from a pair of data, or by splitting one data set.

        Parameters
        ----------
        data
            A tuple or list of exactly two is a pair, of which each part is a data set, an ``IterableDataset``, a loader or
            another iterable of batches, such as a list. Anything else with a length and indices is a data set, also a longer
            list of samples.
        split
            The share of a data set that is for the weights.

        Raises
        ------
        TrainingError
            The data has another form or cannot be split, or one of the parts has no batch.
        """
        if isinstance(data, (tuple, list)) and not isinstance(data, Dataset) and len(data) == 2:
            for one in data:
                if hasattr(one, '__array__'):  # inputs and labels, or two samples
                    raise TrainingError(f'dataset_train is a {type(data).__name__} of two, that is a pair of data for the '
                                        f'weights and data for the logits, but it contains {description_of(one)}. Expected data '
                                        'sets, loaders or other iterables of batches. Put tensors of inputs and labels into a '
                                        'TensorDataset.')
                _check_part(one, 'dataset_train is a pair of data for the weights and data for the logits')
            if all(isinstance(one, itertools.cycle) for one in data):
                raise TrainingError('Both parts of dataset_train are endless, so an epoch would not end. One must be finite.')
            return self.training(data[0], 'weights'), self.training(data[1], 'logits')
        check_samples(data, 'dataset_train', 'Pass a pair of data sets or loaders, for weights and logits.')
        n = len(data)  # type: ignore[arg-type]
        at = int(n * split)
        if not 0 < at < n:
            raise TrainingError(f'A data set of {n} samples with split={split} leaves {at} for the weights and {n - at} for '
                                'the logits. Both need at least one.')
        return self.training(data, 'weights', range(at)), self.training(data, 'logits', range(at, n))

    def validation(self, data: Any) -> Iterable[Any]:
        """A loader of the validation data. Raises :class:`TrainingError` if the data has another form, no batch, or no end."""
        _check_part(data, 'dataset_valid is one data set or one loader')
        if isinstance(data, itertools.cycle):
            raise TrainingError('dataset_valid is endless, so a validation would not end. Pass finite data.')
        if _is_set(data) and processes.size() > 1:
            return self._loader(data, range(processes.rank(), len(data), processes.size()), 'validation')
        return self._loader(data, None, 'validation')

    def training(self, data: Any, part: str, indices: Optional[Sequence[int]] = None, drop_last: bool = False) -> Iterable[Any]:
        """A loader of training data, of these samples of a data set. Default: all. ``part`` is its name in messages. With
        ``drop_last``, the last batch of an epoch is left out if it is smaller than the others."""
        if not _is_set(data, indices is not None):
            return self._loader(data, None, part)
        if processes.size() == 1 and self.seed is None:
            return self._loader(data, SubsetRandomSampler(range(len(data)) if indices is None else indices), part, drop_last)
        samples = data if indices is None else Subset(data, indices)
        seed = processes.gathered(torch.initial_seed())[0] if self.seed is None else self.seed
        sampler: Any = DistributedSampler(samples, processes.size(), processes.rank(), seed=seed, drop_last=drop_last)
        return self._loader(samples, sampler, part, drop_last)

    def _loader(self, data: Any, sampler: Any, part: str, drop_last: bool = False) -> Iterable[Any]:
        if sampler is None and not isinstance(data, Dataset) and not _is_set(data):
            loader = data  # an iterable of batches
            if isinstance(data, (list, tuple)) and len(data):
                self._check_first(data, part)
        else:
            loader = DataLoader(data, self.batch_size, sampler=sampler, num_workers=self.workers, collate_fn=self.collate_fn,
                                pin_memory=self.device.type == 'cuda',
                                drop_last=drop_last and len(sampler) > self.batch_size)
        check_batches(loader if sampler is None else data, part)  # a sampler may give this rank no samples
        return loader

    def _check_first(self, batches: Sequence[Any], part: str) -> None:
        """Raise :class:`TrainingError` if the first element of a list of batches is not a batch."""
        first = batches[0]
        is_pair = isinstance(first, (tuple, list)) and len(first) == 2
        label = first[1] if is_pair else None
        is_sample = isinstance(label, numbers.Number) or (isinstance(label, Tensor) and label.dim() == 0)
        if isinstance(first, (Dataset, DataLoader)) or (self.takes_pairs and (is_sample or not is_pair)):
            found = f'one sample, whose label is {description_of(label)}' if is_sample else description_of(first)
            raise TrainingError(f'A {type(batches).__name__} is given as the batches for the {part}, but its first element is '
                                f'{found}. Expected pairs of inputs and labels, each of a whole batch (with forward_batch: '
                                'batches of any form). Put samples into a Dataset or a DataLoader. A tuple or list of exactly '
                                'two is a pair: data for the weights and data for the logits.')


def check_batches(loader: Any, part: str) -> None:
    """Raise :class:`TrainingError` if the length of a loader is 0. A stream without length is not checked."""
    if length(loader) == 0:
        details = [f'{name}={getattr(loader, name)!r}' for name in ('batch_size', 'drop_last') if hasattr(loader, name)]
        with suppress(AttributeError, TypeError):
            details.insert(0, f'{len(loader.dataset)} samples')
        of = f' ({", ".join(details)})' if details else ''
        raise TrainingError(f'The {type(loader).__name__}{of} for the {part} has no batches. Pass more data, a smaller '
                            'batch_size, or drop_last=False.')


def begin_epoch(loader: Any, epoch: int) -> None:
    """Call ``set_epoch`` of a ``DistributedSampler``, which shuffles differently in each epoch."""
    sampler = getattr(loader, 'sampler', None)
    if isinstance(sampler, DistributedSampler):
        sampler.set_epoch(epoch)


def length(*loaders: Any) -> Optional[int]:
    """The number of batches of the shortest loader; None if one has no length."""
    try:
        return min(len(loader) for loader in loaders)
    except TypeError:  # a stream
        return None


def describe(loader: Any) -> str:
    """A description of a loader, which is not iterated."""
    dataset = getattr(loader, 'dataset', loader)
    samples, batches = ('unknown length' if n is None else n for n in (length(dataset), length(loader)))
    return f'{type(dataset).__name__} of {samples} in {batches} batches'


def check_samples(data: Any, name: str, way_out: str) -> None:
    """Raise :class:`TrainingError` unless the data is a data set with a length and indices. ``name`` is its name in the message,
    and ``way_out`` what to pass instead."""
    if isinstance(data, (tuple, list)):
        of_sets = [one for one in data if isinstance(one, (Dataset, DataLoader))]
        if of_sets and not isinstance(data, Dataset):
            raise TrainingError(f'{name} is a {type(data).__name__} of {len(data)} that contains {description_of(of_sets[0])}. '
                                f'Expected one data set, or a list of samples. {way_out}')
    if isinstance(data, (str, bytes, Mapping)):
        raise TrainingError(f'{name} is {description_of(data)}, not a data set. {way_out}')
    if isinstance(data, IterableDataset) or not (hasattr(data, '__len__') and hasattr(data, '__getitem__')):
        raise TrainingError(f'A {type(data).__name__} cannot be split into parts and batches. Expected a data set with '
                            f'__len__ and __getitem__. {way_out}')


def _check_part(data: Any, where: str) -> None:
    """Raise :class:`TrainingError` unless the data is a data set, a loader or another iterable of batches."""
    if isinstance(data, (str, bytes, Mapping)) or not (hasattr(data, '__iter__') or hasattr(data, '__getitem__')):
        raise TrainingError(f'{where}, but found {description_of(data)}. Expected a data set, a loader or another iterable of '
                            'batches.')
    if isinstance(data, Dataset) and not isinstance(data, IterableDataset) and not hasattr(data, '__len__'):
        raise TrainingError(f'{where}, but a {type(data).__name__} has no length. Define its __len__, or make it an '
                            'IterableDataset.')


def _is_set(data: Any, may_be_list: bool = False) -> bool:
    """Whether the data is a data set with indices, neither a stream nor batches."""
    if isinstance(data, Dataset):
        return not isinstance(data, IterableDataset)
    return (hasattr(data, '__getitem__') and hasattr(data, '__len__') and not isinstance(data, DataLoader)
            and (may_be_list or not isinstance(data, (list, tuple))))


def to_device(value: Any, device: torch.device) -> Any:
    """Move the tensors of a batch to a device."""
    if isinstance(value, Tensor):
        return value.to(device, non_blocking=device.type == 'cuda')
    if callable(getattr(type(value), 'to', None)):  # such as packed sequences, and batches of text or graphs
        moved = value.to(device)
        return value if moved is None else moved  # None if it was moved in place
    parts = parts_of(value)
    return value if parts is None else with_parts(value, {name: to_device(part, device) for name, part in parts.items()})
