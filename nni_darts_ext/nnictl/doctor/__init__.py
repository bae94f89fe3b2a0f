"""``nni-darts-ext doctor``: what works in its NNI installation, what has rotted, and what mends it.

It tries what works (probes.py), and explains failures by known incompatibilities (rot.py). It changes nothing.
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
from . import probes, rot, worker

NNI = 'NNI 2.0 - 3.0'
NO_RELEASE = ' There is no such release for this Python: use an older Python.'


class Family(NamedTuple):
    """A family of NNI's hosts, as ``nni_darts_ext.hosts.available()`` sees it."""
    nni: str
    """The versions that have it, as text."""
    expected: bool
    """Whether the installed version has it."""
    offered: bool
    reason: Optional[str]
    """Why it is not offered."""


class Report(NamedTuple):
    """The findings."""
    python: str
    executable: str
    nni: Optional[str]
    """The version of NNI; None if it is not installed."""
    torch: Optional[str]
    """The version of PyTorch; None if it is not installed."""
    nnictl: probes.Nnictl
    families: Dict[str, Family]
    uses: Dict[str, Optional[str]]
    """Features that fail only in use: None if they work, else the error."""
    rot: List[rot.Found]
    remarks: List[str]
    """What works and is still easily mistaken."""
    unexplained: Dict[str, str]
    """Failures of unknown cause, with their errors."""
    mend: Optional[str]
    """The command that mends what nnictl and the search need."""
    mend_all: Optional[str]
    """The command that mends everything, including what only ``rot.ON_DEMAND`` needs."""

    @property
    def status(self) -> int:
        """The exit status: 1 if nnictl would not start."""
        return 0 if self.nnictl.starts else 1

    def as_dict(self) -> Dict[str, Any]:
        """The report as values for JSON. Later versions keep these keys."""
        return {**self._asdict(), 'nnictl': self.nnictl._asdict(), 'rot': [found._asdict() for found in self.rot],
                'families': {name: family._asdict() for name, family in self.families.items()}, 'status': self.status}


@probes.without_a_trace()
def examine() -> Report:
    """Examine the NNI installation of this Python. Takes up to half a minute and changes nothing."""
    with ThreadPoolExecutor(2) as pool:
        trying = pool.submit(probes.nnictl)
        asked = probes.hosts()
        nnictl = trying.result()
    nni, torch = installed('nni') or asked.nni, installed('torch')
    families = {name: _family(name, asked, nni) for name in FAMILIES}
    if nni is None:
        absent = probes.Nnictl(False, 'NNI is not installed')
        return Report(platform.python_version(), sys.executable, None, torch, absent, families, {}, [], [], {}, None, None)
    uses = probes.uses(nni, asked.families)
    failures: Dict[str, str] = {check: said for check, said in uses.items() if said}
    if nnictl.reason and nnictl.reason != probes.REDIRECTED:  # a proxy is not rot
        failures[rot.NNICTL] = nnictl.reason
    if torch:  # without PyTorch there are no families, which is not rot
        failures.update({name: family.reason for name, family in families.items() if family.expected and family.reason})
    names = {name for known in rot.KNOWN for name in (known.dependency, *known.along)}
    versions = {name: installed(name) for name in (*names, rot.UNIFIED)}
    found = rot.find(nni, failures, versions, sys.version_info[:2])
    return Report(platform.python_version(), sys.executable, nni, torch, nnictl, families, uses, found,
                  rot.remarks(nni, versions), rot.unexplained(found, failures),
                  rot.mend([each for each in found if not each.on_demand], sys.executable), rot.mend(found, sys.executable))


def _family(name: str, asked: probes.Hosts, nni: Optional[str]) -> Family:
    first, _, last = FAMILIES[name].replace('NNI ', '').partition(' - ')
    expected = nni is not None and rot.parse(first) <= rot.parse(nni)[:2] <= rot.parse(last or first)
    reason = asked.families.get(name, asked.reason)
    return Family(FAMILIES[name], expected, reason is None, reason)


def installed(name: str) -> Optional[str]:
    """The version of a distribution from its metadata; None if it is not installed. Does not import it."""
    try:
        from importlib.metadata import PackageNotFoundError, version
    except ImportError:  # Python 3.7, where pkg_resources may be missing
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
    """The report as text for the terminal."""
    if report.nni is None:
        return (f'There is no NNI in {report.executable} (Python {report.python}).\n'
                f'nni_darts_ext works with {NNI}. Install one of them, for example:\n'
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
        lines += ['', 'Failures of unknown cause:', *_bullets(list(report.unexplained.items()))]
    if report.mend:
        lines += ['', 'This mends what nnictl and the search need:', f'  {report.mend}']
    if not report.rot and not report.unexplained:
        lines += ['', 'Nothing has rotted.']
    if report.remarks:
        lines += ['', *report.remarks]
    if report.mend_all != report.mend:
        lines += ['', 'This also mends the rest, if you use what fails:', f'  {report.mend_all}']
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
    parser.add_argument('--worker', action='store_true', help='examine what a worker of NNI\'s remote platform needs instead')
    parser.add_argument('--manager', type=worker.address, metavar='HOST[:PORT]',
                        help='with --worker: also try to reach an experiment that is running there (default port: '
                        f'{worker.PORT})')
    parser.set_defaults(parser=parser)


def run(args: argparse.Namespace) -> int:
    """Print the report and return the exit status: 1 if nnictl would not start, or trials on the worker."""
    if args.manager and not args.worker:
        args.parser.error('--manager needs --worker')
    if args.worker:
        of_worker = worker.examine(installed('nni'), args.manager)
        status, values, text = of_worker.status, of_worker.as_dict(), worker.render(of_worker)
    else:
        report = examine()
        status, values, text = report.status, report.as_dict(), render(report)
    print(json.dumps(values, indent=2) if args.json else text)
    return status
