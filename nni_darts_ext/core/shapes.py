"""Candidates of an edge return the same shapes. The sum of others fails far from where they differ, or broadcasts in silence."""

from __future__ import annotations

from typing import Any, Iterable, Iterator, Sequence

from torch import Tensor

from ..errors import SearchSpaceError
from .nested import parts_of
from .space import Edge


class UnlikeCandidates(SearchSpaceError):
    """Two candidates of an edge return different shapes.

    Parameters
    ----------
    one, other
        Which ones, by index.
    shape, other_shape
        What they return for the same input.
    """

    def __init__(self, one: int, shape: Any, other: int, other_shape: Any) -> None:
        super().__init__(f'Candidates {one} and {other} return {shape} and {other_shape} for the same input.')
        self._found = one, shape, other, other_shape

    def of(self, edge: Edge) -> SearchSpaceError:
        """The same with names."""
        one, shape, other, other_shape = self._found
        return SearchSpaceError(
            f'The candidate {edge.names[other]!r} of LayerChoice {edge.key!r} returns the shape {other_shape}, but '
            f'{edge.names[one]!r} returns {shape} for the same input. What an edge adds up must have one shape: mind strides, '
            'paddings and channels.')


def alike(outputs: Iterable[Any], live: Sequence[int], reduction: str) -> Iterator[Any]:
    """Pass the outputs of candidates on, one by one, as long as they can be reduced.

    Parameters
    ----------
    outputs
        Tensors, or structures of them.
    live
        Which candidates they are of.
    reduction
        ``concat`` lets dimension 1 differ, ``none`` everything.

    Raises
    ------
    UnlikeCandidates
        One has another shape than the first.
    """
    first: Any = None
    for i, output in zip(live, outputs):
        shape = _shape(output)
        if first is None:
            first = shape
        elif shape != first and reduction != 'none' and (reduction != 'concat' or _without_1(shape) != _without_1(first)):
            raise UnlikeCandidates(live[0], first, i, shape)
        yield output


def _shape(value: Any) -> Any:
    if isinstance(value, Tensor):
        return tuple(value.shape)
    parts = parts_of(value)
    if parts is None:
        return None if value is None else type(value).__name__
    shapes = {name: _shape(part) for name, part in parts.items()}
    return list(shapes.values()) if isinstance(value, (list, tuple)) else shapes


def _without_1(shape: Any) -> Any:
    if isinstance(shape, tuple):
        return shape[:1] + shape[2:]
    if isinstance(shape, dict):
        return {key: _without_1(part) for key, part in shape.items()}
    return [_without_1(part) for part in shape] if isinstance(shape, list) else shape
