"""Builds methods from strings, for the command line and the search space of an experiment."""

from __future__ import annotations

import ast
import difflib
import importlib
import inspect
import math
import re
from typing import Any, Dict, Iterable, List, Sequence, Type, Union

from ..errors import DartsExtError, MethodError
from .base import Method
from .recommendation import RECOMMENDED, recommended

EXPECTED = 'Expected NAME[:argument=value,...], such as EarlyStopping or Shrinking:schedule={10: 5, 20: 3}'


def named(text: str) -> Method:
    """Build a method from its name and its arguments.

    Parameters
    ----------
    text
        ``NAME[:argument=value,...]``, such as ``EarlyStopping`` or ``Shrinking:schedule={10: 5, 20: 3}``. NAME is the class name
        of a method of :mod:`nni_darts_ext.methods`, or the import path of another one, such as ``my_module.MyMethod``. A value
        is a Python literal; a word without quotes is a string, except for ``inf`` and ``nan``. No expression is evaluated.

    Returns
    -------
    Method
        A new object, for one search.

    Raises
    ------
    MethodError
        The text cannot be parsed; the method does not exist or cannot be imported; an argument is unknown or missing; the
        constructor fails. A :class:`DartsExtError` that the constructor raises is not changed.
    """
    if not isinstance(text, str):
        raise MethodError(f'{text!r} is not a string that names a method. {EXPECTED}.')
    name, _, arguments = text.partition(':')
    method = _class(name.strip(), text)
    given = _arguments(arguments, text)
    _check_arguments(method, given, text)
    try:
        return method(**given)
    except DartsExtError:
        raise
    except Exception as error:  # a user's class may raise anything
        raise MethodError(f'{text!r} cannot be built: {type(error).__name__}: {error}') from error


def all_named(texts: Union[str, Sequence[str]]) -> List[Method]:
    """Build methods from one string, ``''`` for no method, or from a list of strings. See :func:`named`.

    ``'recommended'`` stands for the methods of :func:`nni_darts_ext.methods.recommendation.recommended`.
    """
    if not isinstance(texts, (str, list, tuple)):
        raise MethodError(f'methods={texts!r} is neither a string nor a list of strings. {EXPECTED}, {RECOMMENDED!r}, '
                          "or '' for no method.")
    return [method for text in ([texts] if isinstance(texts, str) else texts) if text != ''
            for method in (recommended() if text == RECOMMENDED else [named(text)])]


def _class(name: str, text: str) -> Type[Method]:
    """The class that a name or an import path names."""
    if not re.fullmatch(r'\w+(\.\w+)*', name):
        raise MethodError(f'{text!r} does not name a method. {EXPECTED}.')
    path, _, name = name.rpartition('.')
    if not path:
        from . import known
        found = known()
        if name not in found:
            raise MethodError(f'{text!r}: nni_darts_ext.methods has no method {name!r}.{_instead(name, [*found, RECOMMENDED])} '
                              'Name a method of your own by its import path, such as my_module.MyMethod.')
        return found[name]
    try:
        module = importlib.import_module(path)
    except Exception as error:  # importing a user's module may raise anything
        raise MethodError(f'{text!r}: the module {path} cannot be imported: {type(error).__name__}: {error}. Expected the import '
                          'path of a class, from the working directory or an installed package.') from error
    value = getattr(module, name, None)
    if not (isinstance(value, type) and issubclass(value, Method)):
        what = f'no {name!r}' if value is None else f'{name!r}, which is not a subclass of nni_darts_ext.methods.Method'
        derived = [name for name, value in vars(module).items() if isinstance(value, type) and issubclass(value, Method)]
        raise MethodError(f'{text!r}: the module {path} has {what}.{_instead(name, derived)}')
    return value


def _arguments(written: str, text: str) -> Dict[str, Any]:
    """The arguments, parsed like those of a function call."""
    try:
        call = ast.parse(f'_({written}\n)', mode='eval').body
    except (SyntaxError, ValueError, MemoryError, RecursionError) as error:
        why = getattr(error, 'msg', None) or type(error).__name__
        raise MethodError(f'{text!r} cannot be parsed: {why}. {EXPECTED}.') from error
    if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Name):
        raise MethodError(f'{text!r} cannot be parsed: what follows the colon is not a list of arguments. {EXPECTED}.')
    if call.args or any(keyword.arg is None for keyword in call.keywords):
        raise MethodError(f'{text!r} has a value without the name of its argument. {EXPECTED}.')
    given: Dict[str, Any] = {}
    for keyword in call.keywords:
        if keyword.arg in given:
            raise MethodError(f'{text!r} has {keyword.arg} twice. {EXPECTED}.')
        given[str(keyword.arg)] = _value(keyword, text)
    return given


def _value(keyword: ast.keyword, text: str) -> Any:
    try:
        return ast.literal_eval(_Words().visit(keyword.value))
    except (ValueError, TypeError, MemoryError, RecursionError) as error:
        raise MethodError(f'{text!r}: the value of {keyword.arg} is not a literal. Expected a number, a string, True, False, '
                          'None, or a list, tuple, dict or set of these. Quote strings that are not a single word.') from error


class _Words(ast.NodeTransformer):
    """Turns words without quotes into literals."""

    def visit_Name(self, node: ast.Name) -> ast.AST:
        if node.id in ('true', 'false', 'null', 'none'):  # of JSON or YAML; non-empty strings would count as true
            raise ValueError(node.id)
        return ast.Constant({'inf': math.inf, 'nan': math.nan}.get(node.id, node.id))


def _check_arguments(method: Type[Method], given: Iterable[str], text: str) -> None:
    parameters = inspect.signature(method).parameters.values()
    by_name = [one for one in parameters if one.kind in (one.POSITIONAL_OR_KEYWORD, one.KEYWORD_ONLY)]
    names = [one.name for one in by_name]
    unknown = [] if any(one.kind is one.VAR_KEYWORD for one in parameters) else [name for name in given if name not in names]
    if unknown:
        raise MethodError(f'{text!r}: {method.__name__} has no argument {unknown[0]!r}.{_instead(unknown[0], names)}')
    missing = [one.name for one in by_name if one.default is one.empty and one.name not in given]
    if missing:
        raise MethodError(f'{text!r} lacks {", ".join(missing)}. Expected '
                          f'{text.partition(":")[0]}:{",".join(f"{name}=value" for name in missing)}.')


def _instead(name: str, names: Iterable[str]) -> str:
    """Similar names, and all names."""
    there = sorted(names)
    near = difflib.get_close_matches(name, there)
    return (f' Did you mean {" or ".join(near)}?' if near else '') + f' It has {", ".join(there) or "none"}.'
