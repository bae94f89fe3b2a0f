"""DARTS for an NNI that is already installed: trainer and mutator on every version, a one-shot strategy from 2.8 on.

Importing this package imports neither NNI nor PyTorch; each name is imported when it is first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, List

from . import errors
from .errors import *  # noqa: F403

if TYPE_CHECKING:
    from . import methods as methods
    from . import nn as nn
    from .core.costs import cost as cost
    from .fixed import apply_fixed_architecture as apply_fixed_architecture
    from .fixed import random_architecture as random_architecture
    from .hosts import available as available
    from .hosts.nas import DARTS as DARTS
    from .hosts.nas import DartsMutator as DartsMutator
    from .run import Run as Run
    from .run.recorder import Recorder as Recorder
    from .trainer import DartsTrainer as DartsTrainer

# A star import must not fail where NNI lacks something, so the names of _LAZY are left out.
__all__ = [name for name in vars(errors) if not name.startswith('_')]
__version__ = '0.1.0'

_LAZY = {  # the module that defines each name; a subpackage stands for itself
    'DartsTrainer': '.trainer',
    'Recorder': '.run.recorder',
    'Run': '.run',
    'apply_fixed_architecture': '.fixed',
    'available': '.hosts',
    'cost': '.core.costs',
    'methods': '.methods',
    'nn': '.nn',
    'random_architecture': '.fixed',
}
_FROM_HOSTS = {  # the module depends on the installed NNI; without one, the error starts with this sentence
    'DARTS': 'DARTS needs the one-shot strategies of NNI 2.8 - 3.0. Before them, use DartsTrainer.',
    'DartsMutator': 'DartsMutator needs NNI 2.0 - 3.0.',
}


def __getattr__(name: str) -> Any:
    if name in _FROM_HOSTS:
        from .hosts import find
        return getattr(find(name, _FROM_HOSTS[name]), name)
    if name in _LAZY:
        module = importlib.import_module(_LAZY[name], __name__)
        return module if _LAZY[name] == f'.{name}' else getattr(module, name)
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')


def __dir__() -> List[str]:
    return sorted([*globals(), *_FROM_HOSTS, *_LAZY])
