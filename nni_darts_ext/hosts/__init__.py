"""One module per family of NNI's interfaces. The families of the installed NNI are found by importing them, not by its version.

=========  ===============  ===================================================================================
family     NNI              what the module builds on
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
"""The environment variable that names the preferred family where NNI has several. Default: the order of ``FAMILIES``."""
CHOICES = {'lightning': 'retiarii'}
"""A family without choices of its own, and the family whose choices it uses."""
_missing: Dict[str, str] = {}
"""Why a family cannot be imported. Cached, because Python would repeat a failed import each time."""


def available() -> Dict[str, Optional[str]]:
    """For each family None if the installed NNI has it, else the reason why it cannot be imported."""
    return {family: _try(family) for family in FAMILIES}


def find(name: str, needs: str) -> ModuleType:
    """The first family's module that defines ``name``. Raises ``HostNotSupported`` if no family of the installed NNI has it;
    the message starts with ``needs`` and gives the reason for each family."""
    reasons = []
    for family in _in_order():
        reason = _try(family)
        if reason is None and hasattr(_module(family), name):
            return _module(family)
        reasons.append(f'{family}, {FAMILIES[family]}: {reason or f"has no {name}"}')
    raise HostNotSupported(f'{needs} Found {installed()} ({"; ".join(reasons)}).')


def of_model(model: nn.Module) -> ModuleType:
    """The module of the family to which the choices of a model belong; the preferred family's if the model has no choices."""
    offered = [_module(family) for family in _in_order() if _try(family) is None and hasattr(_module(family), 'read_space')]
    if not offered:
        find('read_space', 'A search space needs NNI 2.0 - 3.0.')
    return next((host for host in offered if any(isinstance(module, host.LayerChoice) for module in model.modules())), offered[0])


def refuse_foreign(model: nn.Module, own: Tuple[Type[nn.Module], ...], family: str) -> None:
    """Raise :class:`SearchSpaceError` if a choice belongs to another family: the search would silently ignore it."""
    for path, module in model.named_modules():
        kind = next((base for base in type(module).__mro__
                     if base.__name__ in ('LayerChoice', 'InputChoice') and base.__module__.startswith('nni.')), None)
        if kind is not None and not isinstance(module, own):
            theirs = 'retiarii' if family == 'classic' else 'classic'  # the only families that one NNI has at the same time
            raise SearchSpaceError(
                f'{kind.__name__} at {path!r} comes from {kind.__module__}, the {theirs} family of NNI. Only choices of the '
                f'{family} family are searched here. Build the whole model with the environment variable {PREFERENCE}={family}, '
                'which makes nni_darts_ext.nn.LayerChoice and InputChoice belong to this family. Or build all of it with choices '
                f'of the {theirs} family, and use nni_darts_ext.DartsTrainer or nni_darts_ext.hosts.{theirs}.DartsMutator.')


def every(name: str) -> List[Any]:
    """The attribute ``name`` of every family of the installed NNI that has one."""
    return [getattr(_module(family), name) for family in _in_order() if _try(family) is None and hasattr(_module(family), name)]


def installed() -> str:
    """A description of the installed NNI, for messages."""
    try:
        import nni
    except Exception as error:  # a broken NNI raises various errors
        return f'no NNI that can be imported ({_in_one_line(error)})'
    return f'NNI {getattr(nni, "__version__", "of unknown version")}'


def _in_order() -> List[str]:
    first = os.environ.get(PREFERENCE, '')
    if first and first not in FAMILIES:
        raise HostNotSupported(f'The environment variable {PREFERENCE}={first!r} does not name a family of NNI. Set it to one '
                               f'of {", ".join(FAMILIES)}, or unset it.')
    return sorted(FAMILIES, key=lambda family: family not in (first, CHOICES.get(first)))


def _module(family: str) -> ModuleType:
    return importlib.import_module(f'{__name__}.{family}')


def _try(family: str) -> Optional[str]:
    """Why a family cannot be imported; None if it can."""
    if family not in _missing:
        try:
            _module(family)
        except Exception as error:  # an NNI with incompatible dependencies raises more than ImportError
            _missing[family] = _in_one_line(error)
    return _missing.get(family)


def _in_one_line(error: Exception) -> str:
    return f'{type(error).__name__}: {error}'.splitlines()[0]
