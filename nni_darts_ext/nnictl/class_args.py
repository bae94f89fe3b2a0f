"""The checks of ``classArgs``, used both by ``nnictl`` and by the algorithms themselves."""

from __future__ import annotations

import inspect
from typing import Any, Callable, Mapping, Optional, Sequence

from ..errors import ClassArgsError


def whole(name: str, value: Any, at_least: int) -> int:
    """Check that a value is an integer of at least ``at_least``."""
    if not isinstance(value, int) or isinstance(value, bool) or value < at_least:
        raise ClassArgsError(f'{name}={value!r} in classArgs. Expected a whole number, at least {at_least}.')
    return value


def number(name: str, value: Any, at_least: float, at_most: Optional[float] = None) -> float:
    """Check that a value is a number within bounds."""
    fits = isinstance(value, (int, float)) and not isinstance(value, bool) and at_least <= value
    if not fits or (at_most is not None and value > at_most):
        raise ClassArgsError(f'{name}={value!r} in classArgs. Expected a number, at least {at_least}'
                             + ('.' if at_most is None else f', at most {at_most}.'))
    return float(value)


def one_of(name: str, value: Any, expected: Sequence[Any]) -> Any:
    """Check that a value is one of the expected ones."""
    if value not in expected:
        raise ClassArgsError(f'{name}={value!r} in classArgs. Expected one of {", ".join(map(repr, expected))}.')
    return value


def check_class_args(algorithm: Callable[..., Any], given: Mapping[str, Any]) -> None:
    """Check the arguments of an algorithm by constructing it. Raises :class:`ClassArgsError` if an argument is unknown or has an
    invalid value."""
    known = list(inspect.signature(algorithm).parameters)
    unknown = sorted(set(given) - set(known))
    if unknown:
        raise ClassArgsError(f'{", ".join(unknown)} in classArgs: {algorithm.__name__} has no such argument. '
                             f'It has {", ".join(known)}.')
    algorithm(**given)
