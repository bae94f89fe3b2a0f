"""Which methods can be combined."""

from __future__ import annotations

from typing import Any, Iterable, List, Union

from ..errors import MethodError
from .base import Method, overrides
from .recommendation import RECOMMENDED, recommended


def checked(methods: Union[str, Iterable[Method]]) -> List[Method]:
    """The methods as a list. Raises :class:`MethodError` where they cannot be combined."""
    if isinstance(methods, str) and methods == RECOMMENDED:
        return recommended()
    if isinstance(methods, (str, Method)) or not isinstance(methods, Iterable):
        raise MethodError(f'methods={methods!r} is not a list. Expected a list of objects of nni_darts_ext.methods, such as '
                          f'methods=[EarlyStopping()], or methods={RECOMMENDED!r}.')
    found: List[Any] = list(methods)
    for method in found:
        if isinstance(method, type) and issubclass(method, Method):
            raise MethodError(f'{method.__name__} in methods is a class. Expected an object: {method.__name__}(...).')
        if not isinstance(method, Method):
            raise MethodError(f'{method!r} in methods is not a method. Expected an object whose class derives from '
                              'nni_darts_ext.methods.Method.')
    for i, method in enumerate(found):
        for other in found[:i]:
            both = f'{other!r} and {method!r} cannot be combined'
            if name_of(method) == name_of(other):
                raise MethodError(f'{both}: a search has one method of a name. Leave one of them out.')
            if name_of(other) in method.conflicts or name_of(method) in other.conflicts:
                raise MethodError(f'{both}. Leave one of them out.')
            for hook, what in (('relax', 'the weights of the candidates'), ('weigh_inputs', 'the weights of inputs')):
                if overrides(method, hook) and overrides(other, hook):
                    raise MethodError(f'{both}: both decide {what}. Leave one of them out.')
    return found


def name_of(method: Method) -> str:
    """By which settings and states in a checkpoint go."""
    return type(method).__name__
