"""Additions to plain DARTS, one file per method. A search takes them as ``methods=[...]``, or ``methods='recommended'``.

A method of your own derives from :class:`~nni_darts_ext.methods.base.Method` and overrides the hooks that it needs.
"""

from __future__ import annotations

import importlib
import pkgutil
from typing import TYPE_CHECKING, Any, Dict, List, Type

from .base import ARCHITECTURE, READING, VALIDATION, WEIGHTS, At, EndOfEpoch, Method
from .composition import Methods
from .naming import all_named, named
from .recommendation import RECOMMENDED, recommended

if TYPE_CHECKING:
    from .auxiliary_skip import AuxiliarySkip as AuxiliarySkip
    from .beta_decay import BetaDecay as BetaDecay
    from .dirichlet import Dirichlet as Dirichlet
    from .early_stopping import EarlyStopping as EarlyStopping
    from .edge_normalization import EdgeNormalization as EdgeNormalization
    from .eigenvalue import Eigenvalue as Eigenvalue
    from .expected_cost import ExpectedCost as ExpectedCost
    from .gumbel_softmax import GumbelSoftmax as GumbelSoftmax
    from .perturbation_selection import PerturbationSelection as PerturbationSelection
    from .random_perturbation import RandomPerturbation as RandomPerturbation
    from .shrinking import Shrinking as Shrinking
    from .skip_limit import SkipLimit as SkipLimit
    from .softmax import Softmax as Softmax
    from .stop_at_skips import StopAtSkips as StopAtSkips
    from .unmoved_logits import UnmovedLogits as UnmovedLogits
    from .warmup import Warmup as Warmup

__all__ = ['ARCHITECTURE', 'READING', 'RECOMMENDED', 'VALIDATION', 'WEIGHTS', 'At', 'EndOfEpoch', 'Method', 'Methods',
           'all_named', 'known', 'named', 'recommended']


def known() -> Dict[str, Type[Method]]:
    """The methods in this folder, by class name. New files are found automatically."""
    modules = (importlib.import_module(f'{__name__}.{found.name}') for found in pkgutil.iter_modules(__path__))
    return {name: value for module in modules for name, value in vars(module).items()
            if isinstance(value, type) and issubclass(value, Method) and value.__module__ == module.__name__
            and value is not Method}


def __getattr__(name: str) -> Any:
    found = {} if name.startswith('_') else known()
    if name not in found:
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    globals()[name] = found[name]
    return found[name]


def __dir__() -> List[str]:
    return sorted({*globals(), *known()})
