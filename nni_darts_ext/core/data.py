"""The two halves of the data that a search learns from: one for the weights, one for the logits."""

from __future__ import annotations

from typing import Any, Iterable, Mapping, Tuple, Union

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torch.utils.data.sampler import SubsetRandomSampler

from ..errors import TrainingError

Data = Union[Dataset, Tuple[Any, Any]]


class Loading:
    """How loaders are made where the user gives none.

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
            return self.loader(data[0]), self.loader(data[1])
        if not hasattr(data, '__len__') or not hasattr(data, '__getitem__'):
            raise TrainingError(f'A {type(data).__name__} cannot be split for weights and logits, for it has no length. Give '
                                'a pair of data sets or loaders as dataset_train.')
        n = len(data)  # type: ignore[arg-type]
        at = int(n * split)
        if not 0 < at < n:
            raise TrainingError(f'A data set of {n} samples with split={split} leaves {at} for the weights and {n - at} for '
                                'the logits. Both need one at least.')
        indices = list(range(n))
        return self.loader(data, SubsetRandomSampler(indices[:at])), self.loader(data, SubsetRandomSampler(indices[at:]))

    def loader(self, data: Any, sampler: Any = None) -> Iterable[Any]:
        """A loader of a data set; loaders and lists of batches as they are."""
        if isinstance(data, DataLoader) or not hasattr(data, '__getitem__') or isinstance(data, (list, tuple)):
            loader = data  # batches already
        else:
            loader = DataLoader(data, self.batch_size, sampler=sampler, num_workers=self.workers,
                                pin_memory=self.device.type == 'cuda')
        if hasattr(loader, '__len__') and len(loader) == 0:
            raise TrainingError(f'A {type(data).__name__} gives no batch at all. Give more data, or a smaller batch_size.')
        return loader


def to_device(value: Any, device: torch.device) -> Any:
    """A batch, with its tensors on a device."""
    if isinstance(value, Tensor):
        return value.to(device, non_blocking=device.type == 'cuda')
    if isinstance(value, Mapping):
        return {key: to_device(part, device) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(to_device(part, device) for part in value)
    return value
