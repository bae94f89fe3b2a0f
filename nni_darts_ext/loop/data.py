"""The two halves of the data that a search learns from: one for the weights, one for the logits."""

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
from .batches import in_words

Data = Union[Dataset, Sequence[Any], Tuple[Any, Any]]


class Loading:
    """How loaders are made where the user gives none.

    In training the samples of a data set come in a new order in each epoch, in validation in their own. Several ranks share a
    data set: in training ``DistributedSampler`` deals it out to them, in equal numbers, for which a few samples may come twice
    in an epoch; in validation each sample is one rank's. An ``IterableDataset`` and what is a loader already keep their order,
    and what they give a rank is that rank's.

    Parameters
    ----------
    batch_size, workers, device, collate_fn
        Of the loaders; batches are pinned for a GPU.
    takes_pairs
        Whether batches must be pairs of inputs and labels.
    """

    def __init__(self, batch_size: int, workers: int, device: torch.device,
                 collate_fn: Optional[Callable[[Any], Any]] = None, takes_pairs: bool = True) -> None:
        self.batch_size, self.workers, self.device = batch_size, workers, device
        self.collate_fn, self.takes_pairs = collate_fn, takes_pairs

    def halves(self, data: Data, split: float) -> Tuple[Iterable[Any], Iterable[Any]]:
        """Loaders for weights and logits: of a pair each part, of one data set by splitting it.

        Parameters
        ----------
        data
            A tuple or list of exactly two is a pair: a data set, an ``IterableDataset``, a loader or another iterable of batches
            (a list of them, say) each. Whatever else has a length and can be indexed is a data set, and so is a longer list of
            samples.

        Raises
        ------
        TrainingError
            The data is none of these or cannot be split, or one of the parts has not one batch.
        """
        seed, *_ = processes.gathered(torch.initial_seed())
        if isinstance(data, (tuple, list)) and not isinstance(data, Dataset) and len(data) == 2:
            for one in data:
                if hasattr(one, '__array__'):  # inputs and labels, or two samples
                    raise TrainingError(f'dataset_train is a {type(data).__name__} of two, and so a pair of data for the weights '
                                        f'and data for the logits, but found {in_words(one)} in it. Expected data sets, loaders '
                                        'or other iterables of batches. Tensors of inputs and labels make a TensorDataset.')
                _check_part(one, 'dataset_train is a pair of data for the weights and data for the logits')
            if all(isinstance(one, itertools.cycle) for one in data):
                raise TrainingError('Both parts of dataset_train are endless, and so would be an epoch. Give one of them an end.')
            return self._shuffled(data[0], 'weights', seed), self._shuffled(data[1], 'logits', seed)
        check_samples(data, 'dataset_train', 'Give a pair of data sets or loaders, for weights and logits.')
        n = len(data)  # type: ignore[arg-type]
        at = int(n * split)
        if not 0 < at < n:
            raise TrainingError(f'A data set of {n} samples with split={split} leaves {at} for the weights and {n - at} for '
                                'the logits. Both need one at least.')
        return (self._shuffled(data, 'weights', seed, range(at)), self._shuffled(data, 'logits', seed, range(at, n)))

    def validation(self, data: Any) -> Iterable[Any]:
        """A loader of what is validated on.

        Raises
        ------
        TrainingError
            It is no data, or has not one batch, or has no end.
        """
        _check_part(data, 'dataset_valid is one data set or one loader')
        if isinstance(data, itertools.cycle):
            raise TrainingError('dataset_valid is endless, and so would be its validation. Give data with an end.')
        if _is_set(data) and processes.size() > 1:
            return self._loader(data, range(processes.rank(), len(data), processes.size()), 'validation')
        return self._loader(data, None, 'validation')

    def _shuffled(self, data: Any, part: str, seed: int, indices: Optional[Sequence[int]] = None) -> Iterable[Any]:
        """A loader of what a part of the search learns from: of these samples of a data set, by default of all."""
        if not _is_set(data, indices is not None):
            return self._loader(data, None, part)
        if processes.size() == 1:
            return self._loader(data, SubsetRandomSampler(range(len(data)) if indices is None else indices), part)
        dealt = data if indices is None else Subset(data, indices)
        return self._loader(dealt, DistributedSampler(dealt, seed=seed), part)

    def _loader(self, data: Any, sampler: Any, part: str) -> Iterable[Any]:
        if sampler is None and not isinstance(data, Dataset) and not _is_set(data):
            loader = data  # batches already
            if isinstance(data, (list, tuple)) and len(data):
                self._check_first(data, part)
        else:
            loader = DataLoader(data, self.batch_size, sampler=sampler, num_workers=self.workers, collate_fn=self.collate_fn,
                                pin_memory=self.device.type == 'cuda')
        check_batches(loader if sampler is None else data, part)  # a sampler may leave this rank nothing
        return loader

    def _check_first(self, batches: Sequence[Any], part: str) -> None:
        """Raise where a list that stands for batches is seen to hold something else."""
        first = batches[0]
        is_pair = isinstance(first, (tuple, list)) and len(first) == 2
        label = first[1] if is_pair else None
        is_sample = isinstance(label, numbers.Number) or (isinstance(label, Tensor) and label.dim() == 0)
        if isinstance(first, (Dataset, DataLoader)) or (self.takes_pairs and (is_sample or not is_pair)):
            found = f'one sample, whose label is {in_words(label)}' if is_sample else in_words(first)
            raise TrainingError(f'For the {part} a {type(batches).__name__} is given, which stands for its batches here, but the '
                                f'first of them is {found}. Expected pairs of inputs and labels, each of a whole batch (with '
                                'forward_batch: batches of any form). Put samples into a Dataset or a DataLoader. A tuple or '
                                'list of exactly two is a pair: data for the weights and data for the logits.')


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


def check_samples(data: Any, name: str, way_out: str) -> None:
    """Raise :class:`TrainingError` where something is no data set whose samples have indices from 0 and a number.

    Parameters
    ----------
    name, way_out
        For the message: what the data is called, and what to give in its place.
    """
    if isinstance(data, (tuple, list)):
        of_sets = [one for one in data if isinstance(one, (Dataset, DataLoader))]
        if of_sets and not isinstance(data, Dataset):
            raise TrainingError(f'{name} is a {type(data).__name__} of {len(data)}, among them {in_words(of_sets[0])}. Expected '
                                f'one data set, or a list of samples. {way_out}')
    if isinstance(data, (str, bytes, Mapping)):
        raise TrainingError(f'{name} is {in_words(data)}, and no data set. {way_out}')
    if isinstance(data, IterableDataset) or not (hasattr(data, '__len__') and hasattr(data, '__getitem__')):
        raise TrainingError(f'A {type(data).__name__} cannot be split into parts and batches: that takes a data set, with '
                            f'__len__ and __getitem__. {way_out}')


def _check_part(data: Any, where: str) -> None:
    """Raise :class:`TrainingError` where something can be the data of no part of the search."""
    if isinstance(data, (str, bytes, Mapping)) or not (hasattr(data, '__iter__') or hasattr(data, '__getitem__')):
        raise TrainingError(f'{where}, but found {in_words(data)}. Expected a data set, a loader or another iterable of batches.')
    if isinstance(data, Dataset) and not isinstance(data, IterableDataset) and not hasattr(data, '__len__'):
        raise TrainingError(f'{where}, but a {type(data).__name__} has no length. Give it a __len__, or make it an '
                            'IterableDataset.')


def _is_set(data: Any, may_be_list: bool = False) -> bool:
    """Whether it is a data set whose samples have indices, no stream of them and no batches."""
    if isinstance(data, Dataset):
        return not isinstance(data, IterableDataset)
    return (hasattr(data, '__getitem__') and hasattr(data, '__len__') and not isinstance(data, DataLoader)
            and (may_be_list or not isinstance(data, (list, tuple))))


def to_device(value: Any, device: torch.device) -> Any:
    """A batch, with its tensors on a device."""
    if isinstance(value, Tensor):
        return value.to(device, non_blocking=device.type == 'cuda')
    if callable(getattr(type(value), 'to', None)):  # batches of text, graphs and packed sequences know how
        moved = value.to(device)
        return value if moved is None else moved  # None where it moves itself
    parts = parts_of(value)
    return value if parts is None else with_parts(value, {name: to_device(part, device) for name, part in parts.items()})
