"""``nni-darts-ext doctor``: what works in the NNI installation that it is in, what has rotted, and what mends it.

The verdict comes from trying (probes.py), the explanation and the advice from what is known (rot.py). It changes nothing.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Optional, Tuple

from ...hosts import FAMILIES
from . import probes, rot

NNI = 'NNI 2.0 - 3.0'
NO_RELEASE = ' There is no such release for this Python: an older one is needed.'


class Family(NamedTuple):
    """A family of NNI's hosts, as ``nni_darts_ext.hosts.available()`` sees it."""
    nni: str
    """The versions that have it, in words."""
    expected: bool
    """Whether the installed version has it."""
    offered: bool
    reason: Optional[str]
    """Why it is not offered."""


class Report(NamedTuple):
    """What was found."""
    python: str
    executable: str
    nni: Optional[str]
    """The version of NNI, None where it is not installed."""
    torch: Optional[str]
    """The version of PyTorch, None where it is not installed."""
    nnictl: probes.Nnictl
    families: Dict[str, Family]
    uses: Dict[str, Optional[str]]
    """Things that fail only in use: None where they work, else what they said."""
    rot: List[rot.Found]
    unexplained: Dict[str, str]
    """Failures whose cause is not known, and what was said."""
    mend: Optional[str]
    """The command that mends what nnictl and the search need."""
    mend_all: Optional[str]
    """The command that mends all that has rotted; it differs where only something in ``rot.ON_DEMAND`` fails."""

    @property
    def status(self) -> int:
        """The exit status: 1 where nnictl would not start."""
        return 0 if self.nnictl.starts else 1

    def as_dict(self) -> Dict[str, Any]:
        """For JSON. The keys stay."""
        return {**self._asdict(), 'nnictl': self.nnictl._asdict(), 'rot': [found._asdict() for found in self.rot],
                'families': {name: family._asdict() for name, family in self.families.items()}, 'status': self.status}


def examine() -> Report:
    """Look at the NNI installation that this Python has. Takes up to half a minute and leaves no trace."""
    with probes.without_a_trace():
        return _examine()


def _examine() -> Report:
    with ThreadPoolExecutor(2) as pool:
        trying = pool.submit(probes.nnictl)
        asked = probes.hosts()
        nnictl = trying.result()
    nni, torch = installed('nni') or asked.nni, installed('torch')
    families = {name: _family(name, asked, nni) for name in FAMILIES}
    if nni is None:
        absent = probes.Nnictl(False, 'NNI is not installed')
        return Report(platform.python_version(), sys.executable, None, torch, absent, families, {}, [], {}, None, None)
    uses = probes.uses(nni, asked.families)
    failures: Dict[str, str] = {check: said for check, said in uses.items() if said}
    if nnictl.reason and nnictl.reason != probes.REDIRECTED:  # that is no rot
        failures[rot.NNICTL] = nnictl.reason
    if torch:  # without it there are no families, and that is no rot
        failures.update({name: family.reason for name, family in families.items() if family.expected and family.reason})
    names = {name for known in rot.KNOWN for name in (known.dependency, *known.along)}
    found = rot.find(nni, failures, {name: installed(name) for name in names}, sys.version_info[:2])
    return Report(platform.python_version(), sys.executable, nni, torch, nnictl, families, uses, found,
                  rot.unexplained(found, failures),
                  rot.mend([each for each in found if not each.on_demand], sys.executable), rot.mend(found, sys.executable))


def _family(name: str, asked: probes.Hosts, nni: Optional[str]) -> Family:
    first, _, last = FAMILIES[name].replace('NNI ', '').partition(' - ')
    expected = nni is not None and rot.parse(first) <= rot.parse(nni)[:2] <= rot.parse(last or first)
    reason = asked.families.get(name, asked.reason)
    return Family(FAMILIES[name], expected, reason is None, reason)


def installed(name: str) -> Optional[str]:
    """The version of an installed distribution, None where there is none. Reads its metadata, imports nothing of it."""
    try:
        from importlib.metadata import PackageNotFoundError, version
    except ImportError:  # Python 3.7, where pkg_resources may be the thing that is missing
        return _read_version(name)
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _read_version(name: str) -> Optional[str]:
    for folder in sys.path:
        for metadata in [*Path(folder or '.').glob('*.dist-info/METADATA'), *Path(folder or '.').glob('*.egg-info/PKG-INFO')]:
            head = metadata.read_text('utf-8', 'replace').partition('\n\n')[0]
            fields = dict(line.split(': ', 1) for line in head.splitlines() if line.startswith(('Name: ', 'Version: ')))
            if rot.canonical(fields.get('Name', '')) == rot.canonical(name):
                return fields.get('Version')
    return None


def render(report: Report) -> str:
    """The report for people."""
    if report.nni is None:
        return (f'There is no NNI in {report.executable} (Python {report.python}).\n'
                f'nni_darts_ext works with {NNI}; which of them is for you to choose, for example:\n'
                f'  {rot.quote(report.executable)} -m pip install nni==3.0')
    torch = f'PyTorch {report.torch}' if report.torch else 'no PyTorch'
    lines = [f'NNI {report.nni}, {torch}, Python {report.python} ({report.executable})', '']
    rows = [('nnictl', 'starts' if report.nnictl.starts else f'DOES NOT START\n{report.nnictl.reason}')]
    rows += [(name, _offer(family, report)) for name, family in report.families.items()]
    lines += [f'{name:<12}' + text.replace('\n', '\n' + ' ' * 12) for name, text in rows]
    broken = [(check, said) for check, said in report.uses.items() if said]
    if broken:
        lines += ['', 'Fails in use:', *_bullets(broken)]
    if report.rot:
        lines += ['', 'What has rotted:', *_bullets([
            (f'{found.dependency} {found.installed or "is not installed"} (needed: {found.requirement})',
             f'{found.because}. Breaks: {", ".join(found.breaks)}.{"" if found.exists else NO_RELEASE}')
            for found in report.rot])]
    if report.unexplained:
        lines += ['', 'Of unknown cause; no rot that the doctor knows explains:', *_bullets(list(report.unexplained.items()))]
    if report.mend:
        lines += ['', 'This mends what nnictl and the search need:', f'  {report.mend}']
    if not report.rot and not report.unexplained:
        lines += ['', 'Nothing has rotted.']
    if report.mend_all != report.mend:
        lines += ['', 'This mends all of it. It is for those who use what fails:', f'  {report.mend_all}']
    return '\n'.join(lines)


def _offer(family: Family, report: Report) -> str:
    if family.offered:
        return 'offered'
    if not family.expected:
        return f'not in NNI {report.nni}, but in {family.nni}'
    return f'MISSING\n{family.reason if report.torch else "PyTorch is not installed."}'


def _bullets(rows: List[Tuple[str, str]]) -> List[str]:
    return [f'  {name}\n    {text}' for name, text in rows]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``nni-darts-ext doctor``."""
    parser.add_argument('--json', action='store_true', help='print one JSON object and nothing else')


def run(args: argparse.Namespace) -> int:
    """Print what was found and return the exit status: 1 where nnictl would not start."""
    report = examine()
    print(json.dumps(report.as_dict(), indent=2) if args.json else render(report))
    return report.status
