"""Nested structures of tensors, as models take and return them: lists, tuples, mappings and dataclasses, including subclasses.

A structure that is built from another one has its type: a namedtuple stays a namedtuple, and mappings and dataclasses of other
libraries (tokenizers, model outputs) keep their type and attributes. The only part of a
:class:`~torch.nn.utils.rnn.PackedSequence` is its data. Any other value is a leaf.
"""

from __future__ import annotations

import copy
import dataclasses
from typing import Any, Callable, Dict, Hashable, Iterator, List, Mapping, MutableMapping, Optional

from torch import Tensor
from torch.nn.utils.rnn import PackedSequence


def map_tensors(function: Callable[..., Any], first: Any, *others: Any) -> Any:
    """Apply a function to each tensor of a structure, or to corresponding tensors of several structures of the same form. The
    result has the type of ``first`` and its leaves that are not tensors."""
    if isinstance(first, Tensor):  # first, because most values are tensors
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
    """The parts of a structure by key, index or field name; None for a leaf."""
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
    """A structure like ``value`` with other parts, in the form that :func:`parts_of` returns."""
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
        if getattr(value, '__dict__', None) is value:  # its items are its attributes
            made = type(value).__new__(type(value))
            made.__dict__ = made
        else:
            made = copy.copy(value)  # a mapping that is not a dict holds its items in an attribute, which is also copied
            for name, held in list(getattr(made, '__dict__', {}).items()):
                if isinstance(held, dict):
                    made.__dict__[name] = copy.copy(held)
        for key, part in parts.items():
            made[key] = part
        return made
    except (TypeError, KeyError):  # its type cannot be built this way
        return dict(parts)


def _sequence(value: Any, parts: List[Any]) -> Any:
    if isinstance(value, list):
        made = copy.copy(value)  # with its attributes
        made[:] = parts
        return made
    try:
        return tuple.__new__(type(value), parts)  # as namedtuples do, because their constructors may take other arguments
    except TypeError:  # a type written in C
        return type(value)(parts)
