"""Candidates of an edge return the same shapes. The sum of others fails far from where they differ, or broadcasts in silence.

Weighed and added up are tensors of floating or complex numbers. Whatever else there is in a structure (None, strings, numbers,
tensors of integers such as lengths and indices) cannot be, and must be the same for all candidates.
"""

from __future__ import annotations

import reprlib
from typing import Any, Callable, Iterable, Iterator, Sequence, Tuple

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence

from ...errors import SearchSpaceError
from ..nested import parts_of
from ..space import Edge


class CandidateError(SearchSpaceError):
    """Something is wrong with candidates, whose names are unknown where it is found. ``named`` gives the message with names."""

    def __init__(self, message: str, named: Callable[[Edge], str]) -> None:
        super().__init__(message)
        self._named = named

    def of(self, edge: Edge) -> SearchSpaceError:
        """The same error with the names of the candidates."""
        return SearchSpaceError(self._named(edge))


class UnlikeCandidates(CandidateError):
    """Two candidates of an edge, given by index, return different forms for the same input, as :func:`form_of` gives them."""

    def __init__(self, one: int, shape: Any, other: int, other_shape: Any) -> None:
        super().__init__(
            f'Candidates {one} and {other} return {shape} and {other_shape} for the same input.', lambda edge:
            f'The candidate {edge.names[other]!r} of LayerChoice {edge.key!r} returns the shape {other_shape}, but '
            f'{edge.names[one]!r} returns {shape} for the same input. What an edge adds up must have one shape: mind strides, '
            'paddings and channels. What is no tensor of floating numbers is not added up and must be the same.')


def alike(outputs: Iterable[Any], live: Sequence[int], reduction: str) -> Iterator[Any]:
    """Pass on the outputs of the candidates ``live``, tensors or structures of them, one by one, as long as they can be reduced.
    Raises :class:`UnlikeCandidates` if one has another form than the first; ``concat`` lets dimension 1 differ, ``none``
    everything."""
    first: Any = None
    for i, output in zip(live, outputs):
        is_like_first = type(output) is Tensor and output.shape == first and is_weighed(output)  # at once, for most are
        if not is_like_first and reduction != 'none':
            form = form_of(output)
            if i == live[0]:
                first = form
            elif form != first and (reduction != 'concat' or map_shapes(_without_1, form) != map_shapes(_without_1, first)):
                raise UnlikeCandidates(live[0], first, i, form)
        yield output


def is_weighed(tensor: Tensor) -> bool:
    """Whether it is of floating or complex numbers."""
    return tensor.is_floating_point() or tensor.is_complex()


def form_of(value: Any) -> Any:
    """The shapes of the tensors in a structure, and what is not weighed itself. Equal where values can be added up."""
    if isinstance(value, Tensor) and is_weighed(value):
        return tuple(value.shape)
    if isinstance(value, PackedSequence):
        return {'data': form_of(value.data), **{name: _Leaf(part) for name, part in value._asdict().items() if name != 'data'}}
    parts = parts_of(value)
    if parts is None:
        return _Leaf(value)
    forms = {name: form_of(part) for name, part in parts.items()}
    return list(forms.values()) if isinstance(value, (list, tuple)) else forms


class _Leaf:
    """What is not weighed. Equal to what is the same, of whichever type."""

    def __init__(self, value: Any) -> None:
        self._value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Leaf) and _are_same(self._value, other._value)

    def __repr__(self) -> str:
        value = self._value
        if isinstance(value, Tensor):
            return f'{_in_short(value.tolist())} of {value.dtype}'
        return _in_short(value)


_short = reprlib.Repr()
_short.maxother = 100
_in_short = _short.repr


def _are_same(one: Any, other: Any) -> bool:
    if one is other:
        return True
    if isinstance(one, Tensor) and isinstance(other, Tensor):
        return one.dtype == other.dtype and one.device == other.device and torch.equal(one, other)
    try:
        same = one == other
        return bool(same.all() if hasattr(same, 'all') else same)  # arrays compare element by element
    except Exception:  # of somebody's class: it cannot be said
        return False


def map_shapes(function: Callable[[Any], Any], form: Any) -> Any:
    """Apply a function to the shapes in a form."""
    if isinstance(form, tuple):
        return function(form)
    if isinstance(form, dict):
        return {key: map_shapes(function, part) for key, part in form.items()}
    return [map_shapes(function, part) for part in form] if isinstance(form, list) else form


def _without_1(shape: Tuple[int, ...]) -> Tuple[int, ...]:
    return shape[:1] + shape[2:]
