"""The random states of a process, saved and restored."""

from __future__ import annotations

import random
import sys
from contextlib import contextmanager
from typing import Any, Dict, Iterator, List, Mapping, Sequence

import torch

from ..errors import CheckpointError


def random_states(loaders: Sequence[Any] = ()) -> Dict[str, Any]:
    """The random states of Python, NumPy, PyTorch and the loaders' own generators. They seed a loader's workers in each epoch."""
    numpy = sys.modules.get('numpy')
    name, key, *rest = numpy.random.get_state() if numpy else ('', [])
    return {'python': random.getstate(),
            'numpy': (name, [int(word) for word in key], *rest) if numpy else None,
            'torch': torch.get_rng_state(),
            'cuda': torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else [],
            'loaders': [generator.get_state() for generator in _generators(loaders)]}


def set_random_states(states: Mapping[str, Any], loaders: Sequence[Any] = ()) -> None:
    """Set what :func:`random_states` has returned, except for the states of CUDA devices that do not exist now."""
    generators = _generators(loaders)
    if len(generators) != len(states['loaders']):
        raise CheckpointError(f'The loaders had {len(states["loaders"])} generators and now have {len(generators)}. Use loaders '
                              'with the same generators as at the start of the search.')
    for generator, state in zip(generators, states['loaders']):
        generator.set_state(state)
    numpy = sys.modules.get('numpy')  # PyTorch has imported it, if it is installed
    if numpy and states['numpy'] is not None:
        name, key, position, *gauss = states['numpy']
        if len(gauss) != 2 or not 0 <= position <= len(key):  # for which NumPy reads beyond its memory
            raise CheckpointError('The random state of NumPy is damaged.')
        numpy.random.set_state((name, key, position, *gauss))
    if torch.cuda.is_initialized():
        for device, state in enumerate(states['cuda'][:torch.cuda.device_count()]):
            torch.cuda.set_rng_state(state, device)
    torch.set_rng_state(states['torch'])
    random.setstate(states['python'])


@contextmanager
def with_random_states_restored(loaders: Sequence[Any] = ()) -> Iterator[None]:
    """Restore the random states at the end."""
    states = random_states(loaders)
    try:
        yield
    finally:
        set_random_states(states, loaders)


def _generators(loaders: Sequence[Any]) -> List[torch.Generator]:
    samplers = [getattr(loader, name, None) for loader in loaders for name in ('sampler', 'batch_sampler')]
    holders = [*loaders, *samplers, *(getattr(sampler, 'sampler', None) for sampler in samplers)]
    found = [getattr(holder, 'generator', None) for holder in holders]
    return list({id(generator): generator for generator in found if isinstance(generator, torch.Generator)}.values())
