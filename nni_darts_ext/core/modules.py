"""Find and replace the modules of a model, registered (possibly under several names) or in plain containers."""

from __future__ import annotations

from contextlib import contextmanager
from typing import Any, Iterator, List, Mapping, Set, Tuple, Type, Union

from torch import nn

Kinds = Union[Type[nn.Module], Tuple[Type[nn.Module], ...]]


def replace(model: nn.Module, instead: Mapping[nn.Module, nn.Module]) -> None:
    """Replace modules: under every name, and in the lists, tuples and dicts among the attributes of modules."""
    for parent in list(model.modules()):
        for name, child in parent._modules.items():
            if child is not None and child in instead:
                parent._modules[name] = instead[child]
        for name, value in _plain(parent):
            vars(parent)[name] = _replaced(value, instead)


@contextmanager
def replaced(model: nn.Module, instead: Mapping[nn.Module, nn.Module]) -> Iterator[None]:
    """Replace modules inside a ``with`` block."""
    replace(model, instead)
    try:
        yield
    finally:
        replace(model, {new: old for old, new in instead.items()})


def unregistered(model: nn.Module, kinds: Kinds) -> List[Tuple[str, nn.Module]]:
    """The modules of some kinds that are only in plain containers and not registered, with their paths."""
    registered = set(model.modules())
    return [(f'{path}.{name}' if path else name, module)
            for path, parent in model.named_modules() for name, value in _plain(parent)
            for module in _modules_in(value, set()) if isinstance(module, kinds) and module not in registered]


def _plain(module: nn.Module) -> List[Tuple[str, Any]]:
    return [(name, value) for name, value in vars(module).items()
            if isinstance(value, (list, tuple, dict)) and name not in ('_modules', '_parameters', '_buffers')]


def _modules_in(value: Any, seen: Set[int]) -> Iterator[nn.Module]:
    if isinstance(value, nn.Module):
        yield value
    elif isinstance(value, (list, tuple, dict)) and id(value) not in seen:
        seen.add(id(value))
        for part in value.values() if isinstance(value, dict) else value:
            yield from _modules_in(part, seen)


def _replaced(value: Any, instead: Mapping[nn.Module, nn.Module]) -> Any:
    """A plain container with its modules replaced; lists and dicts are changed in place."""
    if isinstance(value, nn.Module):
        return instead.get(value, value)
    if not any(module in instead for module in _modules_in(value, set())):
        return value
    if isinstance(value, tuple):
        parts = [_replaced(part, instead) for part in value]
        return type(value)(*parts) if hasattr(value, '_fields') else type(value)(parts)
    for place, part in list(enumerate(value) if isinstance(value, list) else value.items()):
        value[place] = _replaced(part, instead)
    return value
