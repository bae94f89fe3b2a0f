"""A tensor without data that stands for one that is never computed."""

from __future__ import annotations

from typing import Any, Iterable, Mapping, Optional

import torch
from torch import Tensor

from ..errors import ArchitectureError
from .nested import map_tensors, tensors_of


class Absent(Tensor):
    """A tensor with a shape and a dtype, but no data (its device is ``meta``): the output of a dropped edge.

    Operations on it return absent tensors and compute nothing. So operations between the edge and the InputChoice that leaves
    it out work unchanged.
    """

    @classmethod
    def __torch_function__(cls, func: Any, types: Iterable[type], args: Any = (),
                           kwargs: Optional[Mapping[str, Any]] = None) -> Any:
        args, kwargs = map_tensors(_without_data, (tuple(args), dict(kwargs or {})))
        try:
            return super().__torch_function__(func, types, args, kwargs)
        except NotImplementedError:  # PyTorch 1 supports few operations on the meta device: run it on zeros for its shape
            with torch.random.fork_rng(devices=[]), torch.no_grad():
                args, kwargs = map_tensors(lambda one: torch.zeros(tuple(one.shape), dtype=one.dtype), (args, kwargs))
                found = func(*args, **kwargs)
            if not any(True for _ in tensors_of(found)):
                raise ArchitectureError(
                    f'{getattr(func, "__name__", func)} needs the data of a tensor that is computed from a LayerChoice which the '
                    'architecture drops. Name a candidate for that LayerChoice, or remove this call from the model.') from None
            return absent(found)


def absent(value: Any) -> Any:
    """The same structure with absent tensors in place of its tensors."""
    return map_tensors(lambda tensor: _without_data(tensor).as_subclass(Absent), value)


def is_absent(value: Any) -> bool:
    """Whether any tensor of a structure is absent."""
    return any(isinstance(tensor, Absent) for tensor in tensors_of(value))


def _without_data(tensor: Tensor) -> Tensor:
    return tensor if isinstance(tensor, Absent) else torch.empty_like(tensor, device='meta', requires_grad=False)
