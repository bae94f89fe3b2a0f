"""What has rotted around NNI: newer releases of its dependencies broke it, as it pins hardly any of them.

Only data and rules: this module does not examine the machine, and imports only the standard library.
"""

from __future__ import annotations

import os
import re
import shlex
from typing import Dict, Iterable, List, Mapping, NamedTuple, Optional, Tuple

Version = Tuple[int, ...]
NNICTL = 'nnictl'
SEARCH = 'a one-shot search with Lightning'
EVALUATOR = "NNI's own Classification evaluator"
ASSESSOR = "NNI's curve fitting assessor"
ON_DEMAND = frozenset({EVALUATOR, ASSESSOR})
"""Parts of NNI that many users do not need. What only they need is in a separate command."""
UNIFIED = 'lightning'
"""Lightning's other distribution, in which all its packages are one. It brings a copy of what ``pytorch_lightning`` has."""
LIGHTNING_SINCE = (2, 7)
"""The first NNI whose search imports Lightning."""
COMPILED = ('pandas', 'scipy', 'scikit-learn', 'matplotlib', 'contourpy')
"""Packages that are compiled against numpy and do not work with a much older one."""


class Rot(NamedTuple):
    """A dependency of which some NNI versions do not work with every release."""
    dependency: str
    first_nni: Version
    last_nni: Version
    needs: str
    breaks: Tuple[str, ...]  # checks of probes.py; a family's name stands for its import
    because: str
    sign: str  # a regular expression that matches the error of a check that fails because of this rot
    when_absent: bool = False  # whether it also counts as rot if the package is not installed, as NNI does not require it
    along: Tuple[str, ...] = ()  # installed packages that pip must also reinstall, so that they remain compatible
    last_python: Version = (4,)  # the last Python for which such a release exists


KNOWN = (
    Rot('setuptools', (2, 0), (3, 0), '<81', (NNICTL,), 'nnictl imports pkg_resources, which 81 removed',
        'pkg_resources', when_absent=True),
    Rot('filelock', (2, 0), (2, 10), '<3.12', (NNICTL,), 'nnictl reads a private attribute, which 3.12 removed',
        "SimplePreemptiveLock|BaseFileLock|unexpected keyword argument 'stale'"),
    Rot('filelock', (3, 0), (3, 0), '<3.12', (NNICTL,), "nnictl's lock is never acquired, or refused, from 3.12 on",
        "BaseFileLock|'stale'|object.__init__|SimplePreemptiveLock|nnictl experiment list: did not end"),
    Rot('ruamel.yaml', (2, 0), (2, 2), '<0.18', (NNICTL,), 'nnictl calls yaml.load, which 0.18 removed',
        r'load\(\)'),
    Rot('typeguard', (2, 6), (2, 10), '<3', (NNICTL,), "3 changed check_type, with which NNI reads an experiment's configuration",
        "'dict' object has no attribute 'name'|typeguard|check_type"),
    Rot('typeguard', (3, 0), (3, 0), '>=3,<4.1.3', (NNICTL,), 'NNI 3.0 reads configurations with functions of 3.0 to 4.1.2',
        'typeguard|check_type|TypeCheckError'),
    Rot('pytorch_lightning', (2, 7), (2, 7), '<2', ('retiarii',),
        'importing Retiarii imports Lightning, and NNI 2.7 needs 1.x', 'lightning', when_absent=True),
    Rot('pytorch_lightning', (2, 8), (2, 8), '>=1.6,<1.7', ('retiarii', 'lightning', SEARCH),
        'the one-shot modules use hooks and return values that 1.7 and later changed', '', when_absent=True),
    Rot('pytorch_lightning', (2, 9), (2, 10), '>=1.6,<2', ('retiarii', 'lightning', SEARCH),
        'the one-shot modules use hooks that 2.0 removed', '', when_absent=True),
    Rot('pytorch_lightning', (3, 0), (3, 0), '>=1.9', ('nas',), 'nni.nas imports Lightning', 'lightning', when_absent=True),
    Rot('torchmetrics', (2, 8), (2, 10), '<0.11', (EVALUATOR,), 'from 0.11 on Accuracy needs a task argument', 'task'),
    Rot('numpy', (2, 8), (2, 10), '<2', (EVALUATOR,), 'Lightning 1 reads np.Inf, which 2.0 removed', r'np\.Inf',
        along=COMPILED, last_python=(3, 12)),
    Rot('numpy', (2, 0), (2, 10), '<1.24', (ASSESSOR,),
        'it, the PPO and network morphism tuners and masks as ndarrays read np.bool, np.float or np.int, which 1.24 removed',
        r'np\.(bool|float|int)', along=COMPILED, last_python=(3, 11)),
)


class Found(NamedTuple):
    """A rot in this installation."""
    dependency: str
    installed: Optional[str]
    needs: str
    breaks: List[str]
    because: str
    along: List[str]
    exists: bool
    """Whether there is a suitable release for this Python."""

    @property
    def requirement(self) -> str:
        return self.dependency + self.needs

    @property
    def on_demand(self) -> bool:
        return ON_DEMAND.issuperset(self.breaks)


def canonical(name: str) -> str:
    """A distribution's name, normalized as package indexes do."""
    return re.sub(r'[-_.]+', '-', name).lower()


def quote(path: str) -> str:
    """A path, quoted for a shell."""
    return f'"{path}"' if os.name == 'nt' else shlex.quote(path)


def parse(version: str) -> Version:
    """The leading numbers of a version: ``2.10.1rc1`` is (2, 10, 1)."""
    match = re.match(r'\d+(\.\d+)*', version)
    return tuple(int(number) for number in match.group().split('.')) if match else ()


def fits(version: str, needs: str) -> bool:
    """Whether a version is within bounds such as ``>=1.6,<2``; local and pre-release parts are ignored."""
    here = parse(version)
    for bound in needs.split(','):
        limit = parse(bound.lstrip('<>='))
        padded = here + (0,) * (len(limit) - len(here))
        if not (padded < limit if bound.startswith('<') else padded >= limit):
            return False
    return True


def find(nni: str, failures: Mapping[str, str], installed: Mapping[str, Optional[str]],
         python: Version) -> List[Found]:
    """The known rot that can cause the failures, given for each failing check its error, and for each dependency its version,
    None if it is not installed. Every rot that breaks a failing check is named, because the check would meet the others after the
    first is mended."""
    found = []
    for rot in KNOWN:
        version, breaks = installed.get(rot.dependency), [check for check in rot.breaks if check in failures]
        bad = rot.when_absent if version is None else not fits(version, rot.needs)
        if bad and breaks and rot.first_nni <= parse(nni)[:2] <= rot.last_nni:
            found.append(Found(rot.dependency, version, rot.needs, breaks, rot.because,
                               [name for name in rot.along if installed.get(name)], python <= rot.last_python))
    return found


def unexplained(found: Iterable[Found], failures: Mapping[str, str]) -> Dict[str, str]:
    """The failing checks whose errors match none of the rot that was found."""
    signs = {(rot.dependency, rot.because): rot.sign for rot in KNOWN}
    found = list(found)
    return {check: said for check, said in failures.items()
            if not any(check in rot.breaks and re.search(signs[rot.dependency, rot.because], said) for rot in found)}


def remarks(nni: str, installed: Mapping[str, Optional[str]]) -> List[str]:
    """What works and is still easily mistaken."""
    unified = installed.get(UNIFIED)
    if unified is None or parse(nni) < LIGHTNING_SINCE:
        return []
    evaluators = f'nni.{"retiarii" if parse(nni) < (3,) else "nas"}.evaluator.pytorch'
    return [f'The package lightning {unified} is also installed. NNI {nni} works with pytorch_lightning and refuses the '
            f'LightningModule and the Trainer of lightning.pytorch, which are other classes. Import both from {evaluators}, and '
            'callbacks from pytorch_lightning.']


def mend(found: Iterable[Found], python: str) -> Optional[str]:
    """One pip command for all rot, so that pip chooses compatible releases; None if nothing has rotted."""
    bounds: Dict[str, List[str]] = {}
    along: List[str] = []
    for rot in found:
        if rot.exists:
            bounds.setdefault(rot.dependency, []).extend(rot.needs.split(','))
            along += [name for name in rot.along if name not in along]
    if not bounds:
        return None
    requirements = [f'"{name}{",".join(_tightest(all_of_them))}"' for name, all_of_them in bounds.items()]
    return ' '.join([quote(python), '-m pip install', *requirements, *along])


def _tightest(bounds: List[str]) -> List[str]:
    lower = sorted((bound for bound in bounds if bound.startswith('>=')), key=lambda bound: parse(bound[2:]))
    upper = sorted((bound for bound in bounds if bound.startswith('<')), key=lambda bound: parse(bound[1:]))
    return lower[-1:] + upper[:1]
