"""Makes the parts of the pages that say what is written elsewhere: ``python docs/tables.py`` writes them anew.

====================  =============================================================================================
``matrix``            what works with which NNI: tox.ini's environments, and the families of ``nni_darts_ext.hosts``
``held-back``         what is held back around each NNI: tests/constraints
``rot``               what has rotted around NNI: what ``nni-darts-ext doctor`` knows
``core``, ``loop``,   the modules of these packages
``methods``,
``oneshot``,
``nnictl``
====================  =============================================================================================
"""

from __future__ import annotations

import configparser
import itertools
import re
import sys
from functools import partial
from pathlib import Path
from typing import Dict, Iterable, Iterator, List, NamedTuple, Sequence, Set, Tuple

from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from nni_darts_ext.hosts import FAMILIES  # noqa: E402
from nni_darts_ext.nnictl.doctor import rot  # noqa: E402

PLACE = re.compile(r'^(<!--|\.\.) made by tables.py: ([\w-]+)( -->)?\n.*?(?=^\1 until here)', re.MULTILINE | re.DOTALL)


class Environment(NamedTuple):
    """One environment of the matrix."""

    python: str
    nni: str


# What the project's own files say ----------------------------------------------------------------------------------------

def matrix() -> List[Environment]:
    """The environments of tox.ini that have an NNI, in its order."""
    config = configparser.ConfigParser(interpolation=None)
    config.read(str(ROOT / 'tox.ini'), encoding='utf-8')
    names = itertools.chain.from_iterable(map(_expanded, config['tox']['env_list'].split()))
    found = [re.fullmatch(r'py3(\d+)-nni(.+)', name) for name in names]
    return [Environment(f'3.{match.group(1)}', match.group(2)) for match in found if match]


def _expanded(name: str) -> Iterator[str]:
    """``a{b,c}`` is ab and ac."""
    parts = [part.split(',') for part in re.split(r'[{}]', name)]
    return map(''.join, itertools.product(*parts))


def families_of(nni: str) -> Set[str]:
    """The families that a version of NNI has."""
    return {family for family, versions in FAMILIES.items() if within(nni, versions)}


def within(nni: str, versions: str) -> bool:
    """Whether a version is one of ``NNI 2.0 - 2.10``."""
    first, _, last = versions.replace('NNI ', '').partition(' - ')
    return rot.parse(first) <= rot.parse(nni)[:2] <= rot.parse(last or first)


def constraints(nni: str) -> Iterator[Tuple[Requirement, str]]:
    """What an environment with that NNI holds back, and why."""
    for line in (ROOT / 'tests' / 'constraints' / f'nni{nni}.txt').read_text(encoding='utf-8').splitlines():
        requirement, _, why = line.partition('#')
        if requirement.strip():
            yield Requirement(requirement), why.strip()


# The parts --------------------------------------------------------------------------------------------------------------

def matrix_table() -> str:
    pythons: Dict[str, List[str]] = {}
    for python, nni in matrix():
        pythons.setdefault(nni, []).append(python)
    rows: Dict[Tuple[str, ...], List[str]] = {}
    for nni in sorted(pythons, key=rot.parse):
        rows.setdefault((*_offers(nni), _tested(nni, pythons[nni])), []).append(nni)
    return _table(
        ['NNI', '`DartsTrainer`, `DartsMutator`, `apply_fixed_architecture` on its choices',
         "`DartsMutator` in NNI's own `DartsTrainer`", '`DartsTrainer` in `RetiariiExperiment`', '`DARTS`, a one-shot strategy',
         'tested with Python (PyTorch)'],
        ((', '.join(versions), *cells) for cells, versions in rows.items()))


def _offers(nni: str) -> Tuple[str, ...]:
    families = families_of(nni)
    names = {'classic': 'classic', 'retiarii': "Retiarii's", 'nas': "`nni.nas`'"}
    torchvision = any(requirement.name == 'torchvision' for requirement, _ in constraints(nni))
    return (' and '.join(name for family, name in names.items() if family in families),
            'yes' if 'classic' in families else 'NNI has none for it',
            ('with torchvision' if torchvision else 'yes') if 'retiarii' in families else 'NNI has none',
            next((f'in `{experiment}`' for family, experiment in (('nas', 'NasExperiment'), ('lightning', 'RetiariiExperiment'))
                  if family in families), 'NNI has none'))


def _tested(nni: str, pythons: Iterable[str]) -> str:
    by_torch: Dict[str, List[str]] = {}
    for python in sorted(pythons, key=rot.parse):
        torch = [str(requirement.specifier) for requirement, _ in constraints(nni) if requirement.name == 'torch'
                 and (requirement.marker is None or requirement.marker.evaluate({'python_version': python}))]
        by_torch.setdefault(torch[0].lstrip('='), []).append(python)
    return '; '.join(f'{", ".join(versions)} ({torch})' for torch, versions in by_torch.items())


def held_back_table() -> str:
    rows: Dict[Tuple[str, str], List[str]] = {}
    for nni in sorted({environment.nni for environment in matrix()}, key=rot.parse):
        for requirement, why in constraints(nni):
            if requirement.name not in ('nni', 'torch'):
                rows.setdefault((f'`{requirement.name}{requirement.specifier}`'
                                 + (f', {_python(requirement)}' if requirement.marker else ''), why), []).append(nni)
    return _table(['what', 'around NNI', 'why'], ((what, _span(versions), why) for (what, why), versions in rows.items()))


def _python(requirement: Requirement) -> str:
    return str(requirement.marker).replace('python_version', 'Python').replace('"', '')


def _span(versions: Sequence[str]) -> str:
    known = sorted({environment.nni for environment in matrix()}, key=rot.parse)
    at = known.index(versions[0])
    together = len(versions) > 2 and list(versions) == known[at:at + len(versions)]
    return f'{versions[0]} - {versions[-1]}' if together else ', '.join(versions)


def rot_table() -> str:
    rows = []
    for known in rot.KNOWN:
        first, last = ('.'.join(map(str, version)) for version in (known.first_nni, known.last_nni))
        rows.append((f'`{known.dependency}{known.needs}`', first if first == last else f'{first} - {last}',
                     ', '.join(known.breaks), known.because))
    return _table(['needed', 'by NNI', 'breaks otherwise', 'because'], rows)


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [f'| {" | ".join(cells)} |' for cells in (head, *rows)]
    return '\n'.join([lines[0], '|' + '---|' * len(head), *lines[1:], ''])


def modules(package: str) -> str:
    folder = ROOT.joinpath('nni_darts_ext', *package.split('.'))
    files = sorted(file.relative_to(folder).with_suffix('') for file in folder.rglob('*.py'))
    names = ['.'.join(file.parts).replace('.__init__', '') for file in files]
    return '\n'.join(f'{name}\n{"-" * len(name)}\n\n.. automodule:: nni_darts_ext.{package}.{name}\n   :members:\n'
                     for name in names if name != '__init__')


TABLES = {'matrix': matrix_table, 'held-back': held_back_table, 'rot': rot_table,
          'core': partial(modules, 'core'), 'methods': partial(modules, 'methods'), 'loop': partial(modules, 'loop'),
          'oneshot': partial(modules, 'hosts.oneshot'), 'nnictl': partial(modules, 'nnictl')}


def filled(page: str) -> str:
    """A page with these parts as they are now."""
    return PLACE.sub(lambda match: f'{match.group().splitlines()[0]}\n\n{TABLES[match.group(2)]()}\n', page)


def pages() -> List[Path]:
    """All pages of the documentation."""
    return [ROOT / 'README.md', *sorted(page for page in (ROOT / 'docs').rglob('*') if page.suffix in ('.md', '.rst')
                                        and '_build' not in page.parts)]


if __name__ == '__main__':
    for page in pages():
        page.write_text(filled(page.read_text(encoding='utf-8')), encoding='utf-8')
