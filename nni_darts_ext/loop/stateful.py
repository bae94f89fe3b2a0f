"""Objects with a state besides model, logits and optimisers: callbacks, losses, metrics, and learning rate schedulers."""

from __future__ import annotations

import weakref
from typing import Any, Dict, Iterable, Iterator, Mapping, Tuple

from torch import Tensor

LENGTHS = ('T_max', 'T_0', 'total_steps', 'total_iters', 'total_size', 'anneal_epochs', 'step_size', 'milestones', '_milestones')
"""The names that PyTorch's learning rate schedulers give to the number of epochs or steps they are made for."""


def stateful(holders: Mapping[str, Any], known: Iterable[Any]) -> Dict[str, Any]:
    """The objects with ``state_dict`` and ``load_state_dict``, by name: the ``holders`` themselves, such as callbacks, or if they
    have none, those of their attributes that do, such as the scheduler in classic NNI's ``LRSchedulerCallback``. Objects of
    ``known``, such as the model, are left out because they are saved elsewhere."""
    others = {id(one) for one in known}
    found: Dict[str, Any] = {}
    for holder, held in holders.items():
        if _has_state(held) and id(held) not in others:
            found[holder] = held
        elif not _has_state(held):
            found.update((f'{holder}.{name}', value) for name, value in getattr(held, '__dict__', {}).items()
                         if _has_state(value) and id(value) not in others)
    return found


def _has_state(value: Any) -> bool:
    return not isinstance(value, type) and hasattr(value, 'state_dict') and hasattr(value, 'load_state_dict')


def state_of(part: Any) -> Any:
    """The ``state_dict()`` of an object, without functions if it is a scheduler: before PyTorch 2.0 some schedulers include their
    own methods, which a new scheduler also has and keeps when it loads a state without them."""
    state = part.state_dict()
    is_scheduler = hasattr(part, 'optimizer') and hasattr(part, 'last_epoch')
    return _without_functions(state) if is_scheduler else state


def _without_functions(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _without_functions(part) for name, part in value.items()
                if not (callable(part) or isinstance(part, weakref.ref))}
    return [_without_functions(part) for part in value] if isinstance(value, list) else value


def lengths(state: Any) -> Iterator[Tuple[str, Any]]:
    """The lengths of a scheduler and of its nested schedulers, in order."""
    for name in LENGTHS if isinstance(state, Mapping) else ():
        if name in state and not isinstance(state[name], Tensor):
            value = state[name]
            yield name, sorted(value) if isinstance(value, Mapping) else value
    nested = state.get('_schedulers', ()) if isinstance(state, Mapping) else ()
    for part in nested if isinstance(nested, (list, tuple)) else ():
        yield from lengths(part)
