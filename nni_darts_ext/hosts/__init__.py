"""One file per family of NNI's hosts, found by trying them, never by parsing versions.

=========  ===============  ===================================================================================
family     NNI              what is built on
=========  ===============  ===================================================================================
classic    2.0 - 2.8        ``nni.nas.pytorch``: Mutator, DartsTrainer
retiarii   2.0 - 2.10       ``nni.retiarii.nn.pytorch``: choices, ``fixed_arch``
lightning  2.8 - 2.10       one-shot strategies around a Lightning module, on Retiarii's choices
nas        3.0              ``nni.nas.nn.pytorch``: ModelSpace, NasExperiment, one-shot strategies
=========  ===============  ===================================================================================
"""

from __future__ import annotations

import importlib
import os
from types import ModuleType
from typing import TYPE_CHECKING, Any, Dict, List, Optional, Tuple, Type

from ..errors import HostNotSupported, SearchSpaceError

if TYPE_CHECKING:
    from torch import nn

FAMILIES = {'classic': 'NNI 2.0 - 2.8', 'retiarii': 'NNI 2.0 - 2.10', 'lightning': 'NNI 2.8 - 2.10',
            'nas': 'NNI 3.0'}
PREFERENCE = 'NNI_DARTS_EXT_FAMILY'
"""The environment variable that says which family comes first where NNI offers several. Default: the order above."""
CHOICES = {'lightning': 'retiarii'}
"""A family without choices of its own, and the one that it has them from."""
_missing: Dict[str, str] = {}
"""Why families do not import. Python keeps what it has imported, but would try anew each time what it has not."""


def available() -> Dict[str, Optional[str]]:
    """For each family None where the installed NNI offers it, else the reason why not."""
    return {family: _try(family) for family in FAMILIES}


def find(name: str, needs: str) -> ModuleType:
    """The host file of the installed NNI that defines ``name``.

    Raises
    ------
    HostNotSupported
        No family that the installed NNI offers has it. The message starts with ``needs`` and says what each family lacks.
    """
    reasons = []
    for family in _in_order():
        reason = _try(family)
        if reason is None and hasattr(_module(family), name):
            return _module(family)
        reasons.append(f'{family}, {FAMILIES[family]}: {reason or "has no such thing"}')
    raise HostNotSupported(f'{needs} Found {installed()} ({"; ".join(reasons)}).')


def of_model(model: nn.Module) -> ModuleType:
    """The host file of the family that the choices of a model are of; of the one that comes first where it has none."""
    offered = [_module(family) for family in _in_order() if _try(family) is None and hasattr(_module(family), 'read_space')]
    if not offered:
        find('read_space', 'A search space needs NNI 2.0 - 3.0.')
    return next((host for host in offered if any(isinstance(module, host.LayerChoice) for module in model.modules())), offered[0])


def refuse_foreign(model: nn.Module, own: Tuple[Type[nn.Module], ...], family: str) -> None:
    """Raise unless all choices of a model are of the kinds that a family searches: it would pass over others in silence.

    Raises
    ------
    SearchSpaceError
        One is of another family.
    """
    for path, module in model.named_modules():
        kind = next((base for base in type(module).__mro__
                     if base.__name__ in ('LayerChoice', 'InputChoice') and base.__module__.startswith('nni.')), None)
        if kind is not None and not isinstance(module, own):
            theirs = 'retiarii' if family == 'classic' else 'classic'  # no NNI has choices of others beside each other
            raise SearchSpaceError(
                f'{kind.__name__} at {path!r} is of {kind.__module__}, the {theirs} family of NNI: here choices of the {family} '
                f'family alone are searched. Build the whole model with {PREFERENCE}={family} in the environment, where '
                'nni_darts_ext.nn.LayerChoice and InputChoice are of this family, or search one of the other family alone '
                f'with nni_darts_ext.DartsTrainer or nni_darts_ext.hosts.{theirs}.DartsMutator.')


def every(name: str) -> List[Any]:
    """What each family that the installed NNI offers has under a name."""
    return [getattr(_module(family), name) for family in _in_order() if _try(family) is None and hasattr(_module(family), name)]


def installed() -> str:
    """The installed NNI in words, for messages only."""
    try:
        import nni
    except Exception as error:  # a broken NNI says so in many ways
        return f'no NNI that can be imported ({_in_one_line(error)})'
    return f'NNI {getattr(nni, "__version__", "of unknown version")}'


def _in_order() -> List[str]:
    first = os.environ.get(PREFERENCE, '')
    if first and first not in FAMILIES:
        raise HostNotSupported(f'{PREFERENCE}={first!r} names no family of hosts. Expected one of {", ".join(FAMILIES)}, or '
                               'no such variable.')
    return sorted(FAMILIES, key=lambda family: family not in (first, CHOICES.get(first)))


def _module(family: str) -> ModuleType:
    return importlib.import_module(f'{__name__}.{family}')


def _try(family: str) -> Optional[str]:
    """Why a family does not import, None where it does."""
    if family not in _missing:
        try:
            _module(family)
        except Exception as error:  # what has rotted around NNI fails with more than ImportError
            _missing[family] = _in_one_line(error)
    return _missing.get(family)


def _in_one_line(error: Exception) -> str:
    return f'{type(error).__name__}: {error}'.splitlines()[0]
