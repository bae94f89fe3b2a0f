"""Running means of metrics. Tensors are read only when the means are needed, so that the host does not wait for a device."""

from __future__ import annotations

from collections import defaultdict
from contextlib import suppress
from typing import Any, Dict, Iterable, List, Mapping, Union

import torch
from torch import Tensor

from ..errors import TrainingError
from .batches import description_of

Metrics = Dict[str, float]


def number(name: str, value: Any) -> Union[float, Tensor]:
    """A metric as a number, or as a detached tensor without dimensions. Raises :class:`TrainingError` if the value is neither a
    number nor a tensor of one element."""
    with suppress(TypeError, ValueError):
        if not isinstance(value, Tensor):
            return float(value)
        if value.numel() == 1 and not value.is_complex():
            return value.detach().reshape(())
    raise TrainingError(f'The metric {name!r} is {description_of(value)}. Expected a number or a tensor of one element.')


class RunningAverages:
    """Running means of named numbers. Tensors are collected and read together when the means are requested."""

    def __init__(self) -> None:
        self._sums: Dict[str, float] = defaultdict(float)
        self._counts: Dict[str, int] = defaultdict(int)
        self._unread: Dict[str, List[Tensor]] = defaultdict(list)

    def add(self, values: Mapping[str, Any]) -> None:
        for name, value in values.items():
            self._counts[name] += 1
            value = number(name, value)
            if isinstance(value, Tensor):
                self._unread[name].append(value)
            else:
                self._sums[name] += value

    def values(self) -> Metrics:
        self.read()
        return {name: self._sums[name] / count for name, count in self._counts.items()}

    def read(self) -> RunningAverages:
        """Convert all tensors to numbers, so that the means can be sent to other processes."""
        for name, tensors in self._unread.items():
            self._sums[name] += sum(torch.stack(tensors).tolist())
        self._unread.clear()
        return self

    @classmethod
    def joined(cls, parts: Iterable[RunningAverages]) -> RunningAverages:
        """The means over the values of all parts."""
        whole = cls()
        for part in parts:
            for name, count in part.read()._counts.items():
                whole._counts[name] += count
                whole._sums[name] += part._sums[name]
        return whole

    def __str__(self) -> str:
        return ', '.join(f'{name} {value:.4f}' for name, value in self.values().items())
