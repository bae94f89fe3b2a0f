"""DARTS for an NNI that is already installed: trainer and mutator on every version, a one-shot strategy from 2.8 on.

Nothing is imported before it is asked for, neither NNI nor PyTorch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, List

from .errors import (
    ArchitectureError,
    CheckpointError,
    DartsExtError,
    EvaluatorError,
    HostNotSupported,
    LogitsError,
    RunError,
    SearchSpaceError,
    TrainingError,
)

if TYPE_CHECKING:
    from .fixed import apply_fixed_architecture as apply_fixed_architecture
    from .hosts.nas import DARTS as DARTS
    from .hosts.nas import DartsMutator as DartsMutator
    from .trainer import DartsTrainer as DartsTrainer

# What the hosts offer is left out, for a star import must not fail where a host has less.
__all__ = ['ArchitectureError', 'CheckpointError', 'DartsExtError', 'EvaluatorError', 'HostNotSupported', 'LogitsError',
           'RunError', 'SearchSpaceError', 'TrainingError']
__version__ = '0.1.0'

_FROM_HOSTS = {
    'DartsMutator': 'DartsMutator needs NNI 2.0 - 3.0.',
    'DARTS': 'DARTS needs the one-shot strategies of NNI 2.8 - 3.0. Before them, use DartsTrainer.',
}


def __getattr__(name: str) -> Any:
    if name in _FROM_HOSTS:
        from .hosts import find
        return getattr(find(name, _FROM_HOSTS[name]), name)
    if name == 'apply_fixed_architecture':
        from .fixed import apply_fixed_architecture
        return apply_fixed_architecture
    if name == 'DartsTrainer':
        from .trainer import DartsTrainer
        return DartsTrainer
    if name == 'nn':
        import importlib
        return importlib.import_module('.nn', __name__)
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')


def __dir__() -> List[str]:
    return sorted([*globals(), *_FROM_HOSTS, 'apply_fixed_architecture', 'DartsTrainer', 'nn'])
