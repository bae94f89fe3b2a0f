"""Nested structures of tensors, as models take and return them: lists, tuples, mappings and dataclasses, each of any type.

A structure that is made of another one keeps its type: a namedtuple stays one, and so does a mapping or dataclass with
attributes of its own, as tokenizers and models of other libraries return them. Of a :class:`~torch.nn.utils.rnn.PackedSequence`
only the data are values; how they are packed stays. Whatever is none of these is a leaf.
"""

from __future__ import annotations

import copy
import dataclasses
from typing import Any, Callable, Dict, Hashable, Iterator, List, Mapping, MutableMapping, Optional

from torch import Tensor
from torch.nn.utils.rnn import PackedSequence


def map_tensors(function: Callable[..., Any], first: Any, *others: Any) -> Any:
    """Apply a function to the tensors of one structure, or to those at the same place of several structures of the same form.

    Returns
    -------
    Any
        A structure of the type of ``first``. Leaves that are not tensors are those of ``first``.
    """
    if isinstance(first, Tensor):  # at once, for most are
        return function(first, *others)
    parts = parts_of(first)
    if parts is None:
        return first
    others_parts = [parts_of(other) or {} for other in others]
    return with_parts(first, {name: map_tensors(function, part, *(other[name] for other in others_parts))
                              for name, part in parts.items()})


def tensors_of(value: Any) -> Iterator[Tensor]:
    """The tensors of a structure, in their order."""
    if isinstance(value, Tensor):
        yield value
        return
    for part in (parts_of(value) or {}).values():
        yield from tensors_of(part)


def parts_of(value: Any) -> Optional[Dict[Hashable, Any]]:
    """The parts of a structure by key, index or name of the field; None for a leaf."""
    if isinstance(value, PackedSequence):
        return {'data': value.data}
    if isinstance(value, Mapping):
        return {key: value[key] for key in value}
    if isinstance(value, (list, tuple)):
        return dict(enumerate(value))
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value) if hasattr(value, field.name)}
    return None


def with_parts(value: Any, parts: Mapping[Hashable, Any]) -> Any:
    """A structure like ``value`` with other parts in their places: as :func:`parts_of` gives them."""
    if isinstance(value, PackedSequence):
        return value._replace(data=parts['data'])
    if isinstance(value, Mapping):
        return _mapping(value, parts)
    if isinstance(value, (list, tuple)):
        return _sequence(value, list(parts.values()))
    made = copy.copy(value)
    for name, part in parts.items():
        object.__setattr__(made, str(name), part)  # a frozen dataclass refuses setattr
    return made


def _mapping(value: Mapping[Any, Any], parts: Mapping[Hashable, Any]) -> Any:
    if type(value) is dict:
        return dict(parts)
    try:
        if not isinstance(value, MutableMapping):
            return type(value)(parts)  # type: ignore[call-arg]
        made: Any
        if getattr(value, '__dict__', None) is value:  # whose items are its attributes
            made = type(value).__new__(type(value))
            made.__dict__ = made
        else:
            made = copy.copy(value)  # with its attributes, in one of which the items of a mapping that is no dict lie
            for name, held in list(getattr(made, '__dict__', {}).items()):
                if isinstance(held, dict):
                    made.__dict__[name] = copy.copy(held)
        for key, part in parts.items():
            made[key] = part
        return made
    except (TypeError, KeyError):  # of a type that cannot be made so
        return dict(parts)


def _sequence(value: Any, parts: List[Any]) -> Any:
    if isinstance(value, list):
        made = copy.copy(value)  # with its attributes
        made[:] = parts
        return made
    try:
        return tuple.__new__(type(value), parts)  # as namedtuples make themselves, whatever their constructor takes
    except TypeError:  # of a type written in C
        return type(value)(parts)
