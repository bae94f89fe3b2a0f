"""What has a state beside model, logits and optimisers: callbacks, losses, metrics, and schedulers of learning rates."""

from __future__ import annotations

import weakref
from typing import Any, Dict, Iterable, Iterator, List, Mapping, Tuple

from torch import Tensor

LENGTHS = ('T_max', 'T_0', 'total_steps', 'total_iters', 'total_size', 'anneal_epochs', 'step_size', 'milestones', '_milestones')
"""What PyTorch's schedulers of learning rates call the epochs or steps that they are made for."""


def stateful(holders: Mapping[str, Any], known: Iterable[Any]) -> Dict[str, Any]:
    """What has a state among callbacks, say, by name: those with ``state_dict`` and ``load_state_dict``, and of the others each
    attribute that has both, such as the scheduler in classic NNI's ``LRSchedulerCallback``.

    Parameters
    ----------
    known
        What is somebody else's, the model say.
    """
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
    """Its ``state_dict()``. That of a scheduler is without functions: before PyTorch 2.0 some have methods of themselves in it,
    which a new one has as well, and keeps when it loads a state without."""
    state = part.state_dict()
    return _without_functions(state) if _is_scheduler(part) else state


def _is_scheduler(part: Any) -> bool:
    return hasattr(part, 'optimizer') and hasattr(part, 'last_epoch')


def _without_functions(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _without_functions(part) for name, part in value.items() if not _is_function(part)}
    return [_without_functions(part) for part in value] if isinstance(value, list) else value


def _is_function(value: Any) -> bool:
    return callable(value) or isinstance(value, weakref.ref)


def other_lengths(states: Mapping[str, Any], parts: Mapping[str, Any]) -> List[str]:
    """Which schedulers were made for other numbers of epochs or steps than they are now, in words.

    To load the state of such a scheduler is to get the old numbers back: behind its ``T_max`` a cosine goes up again.
    """
    return [f'{length} of {name} was {before} and is {now}' for name in parts if name in states
            for (length, before), (_, now) in zip(_lengths(states[name]), _lengths(parts[name].state_dict())) if before != now]


def _lengths(state: Any) -> Iterator[Tuple[str, Any]]:
    """Those of a scheduler, and of the schedulers in it, in their order."""
    for name in LENGTHS if isinstance(state, Mapping) else ():
        if name in state and not isinstance(state[name], Tensor):
            value = state[name]
            yield name, sorted(value) if isinstance(value, Mapping) else value
    nested = state.get('_schedulers', ()) if isinstance(state, Mapping) else ()
    for part in nested if isinstance(nested, (list, tuple)) else ():
        yield from _lengths(part)
