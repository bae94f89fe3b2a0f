"""``nni-darts-ext doctor --worker``: whether trials of NNI's ``remote`` platform can run in this environment of a worker.

It changes nothing. This module imports only the standard library.
"""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import socket
import sys
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Dict, Iterator, List, NamedTuple, Optional, Tuple

from . import probes
from .rot import parse

PORT = 8080
"""NNI's default port of the manager."""

TIMEOUT = 10
"""Seconds to wait for the manager."""

SMALL = 64
"""MiB of shared memory that containers have by default, which are too few to load data in several processes."""

DOCTOR = 'nni-darts-ext doctor may name the cause.'

ASK_TORCH = 'import torch\nprint(torch.__version__, "with", torch.cuda.device_count(), "GPUs")'
ASK_PACKAGE = 'import nni_darts_ext\nprint(nni_darts_ext.__version__)'
TRIAL_TOOL = """\
import os, nni
os.environ.update(dict.fromkeys(('MULTI_PHASE', *('NNI_' + name for name in (
    'EXP_ID', 'OUTPUT_DIR', 'PLATFORM', 'SYS_DIR', 'TRIAL_JOB_ID'))), '.'))
from nni.tools.trial_tool import {}
"""
"""NNI's own processes on the worker, up to 2.10; they expect the variables of a trial."""

KEEPER = 'from nni.tools.nni_manager_scripts import check_trial_keeper_alive, create_trial_keeper_dir, launch_trial_keeper'
"""The same of NNI 3.0."""

PIP = """\
import pip, runpy, sys
print("pip", pip.__version__)
sys.argv = ["pip", "--isolated", "--quiet", "--disable-pip-version-check", "install", "--no-index", "nni"]
runpy.run_module("pip", run_name="__main__")
"""
"""As NNI 3.0 calls it, without an index: nothing can be installed, and an NNI that is installed satisfies it."""


class Check(NamedTuple):
    """Something that a worker needs."""
    name: str
    ok: bool
    found: str
    needed: str
    """What is needed, or what to do about it; empty if there is nothing to do."""


class Worker(NamedTuple):
    """The findings."""
    python: str
    executable: str
    nni: Optional[str]
    """The version of NNI; None if it is not installed."""
    checks: List[Check]

    @property
    def status(self) -> int:
        """The exit status: 1 if something is missing that trials need."""
        return 0 if all(check.ok for check in self.checks) else 1

    def as_dict(self) -> Dict[str, Any]:
        """The report as values for JSON. Later versions keep these keys."""
        return {**self._asdict(), 'checks': [check._asdict() for check in self.checks], 'status': self.status}


def examine(nni: Optional[str], manager: Optional[Tuple[str, int]] = None) -> Worker:
    """Examine this environment as a worker.

    Parameters
    ----------
    nni
        The version of NNI in it; None if it is not installed.
    manager
        Host and port of a manager whose experiment is running, which is also tried then.
    """
    checks = [_python(), *_programs(nni), *_imports(nni), _folder(nni), _shared_memory()]
    if manager is not None:
        checks += _manager(nni, *manager)
    return Worker(platform.python_version(), sys.executable, nni, checks)


def address(text: str) -> Tuple[str, int]:
    """``host`` or ``host:port`` as host and port."""
    host, _, port = text.partition(':')
    try:
        return host, int(port or PORT)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f'{text!r} is no address. Expected HOST or HOST:PORT.') from error


def _is_3(nni: Optional[str]) -> bool:
    return nni is None or parse(nni) >= (3,)


def _python() -> Check:
    folder = os.path.dirname(sys.executable)
    missing = [name for name in ('python', 'python3') if not shutil.which(name, path=folder)]
    if missing:
        return Check('Python', False, f'{folder} has no {" and no ".join(missing)}', 'Both names, as NNI runs both. A virtual '
                     'environment has them.')
    return Check('Python', True, f'pythonPath: {folder}', '')


def _programs(nni: Optional[str]) -> Iterator[Check]:
    for name in ('bash',) if _is_3(nni) else ('bash', 'ps', 'tar'):
        found = shutil.which(name)
        yield Check(name, found is not None, found or 'not on the PATH', '' if found else f'NNI runs {name}: install it.')


def _imports(nni: Optional[str]) -> Iterator[Check]:
    code = {'PyTorch': (ASK_TORCH, 'Install PyTorch.'), 'nni_darts_ext': (ASK_PACKAGE, 'Install it.')}
    if nni is None:
        yield Check('NNI', False, 'not installed', 'Install the version that the manager has.')
    elif _is_3(nni):
        code['trial keeper'] = KEEPER, DOCTOR
        code["NNI's node"] = probes.NODE, 'Install NNI anew.'
        code['pip'] = PIP, 'Without reuseMode NNI runs python -m pip install nni --upgrade. Use a virtual environment with pip.'
    else:
        code['trial keeper'] = TRIAL_TOOL.format('trial_keeper'), f'NNI runs it without reuseMode. {DOCTOR}'
        code['trial runner'] = TRIAL_TOOL.format('trial, trial_runner, web_channel'), f'NNI runs it with reuseMode. {DOCTOR}'
    with ThreadPoolExecutor(2) as pool:
        for (name, (_, needed)), ended in zip(code.items(), pool.map(probes._python, [each for each, _ in code.values()])):
            ok = ended.status == 0
            said = (ended.output.strip() or 'imports').splitlines()
            yield Check(name, ok, said[-1] if ok else probes._error_of(ended), '' if ok else needed)


def _folder(nni: Optional[str]) -> Check:
    """Where NNI puts the trials: 3.0 in the home, the others in /tmp whatever TMPDIR says."""
    folder = Path.home() / 'nni-experiments' if _is_3(nni) else Path('/tmp/nni-experiments')
    there = folder if folder.exists() else folder.parent
    if not os.access(str(there), os.W_OK | os.X_OK):
        return Check('folder', False, f'{there} is not writable', f"The trials' files are written to {folder}.")
    return Check('folder', True, f'{folder}: {shutil.disk_usage(str(there)).free / 2 ** 30:.1f} GiB free', '')


def _shared_memory() -> Check:
    try:
        size = shutil.disk_usage('/dev/shm').total / 2 ** 20
    except OSError as error:
        return Check('shared memory', False, f'/dev/shm: {error.strerror}', 'Trials with --workers load data through it.')
    return Check('shared memory', True, f'/dev/shm: {size:.0f} MiB', '' if size > SMALL else
                 'This is little for trials with --workers: start the container with a larger --shm-size.')


def _manager(nni: Optional[str], host: str, port: int) -> Iterator[Check]:
    url = f'http://{host}:{port}/api/v1/nni/version'
    try:
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(url, timeout=TIMEOUT) as answer:
            version = answer.read().decode('utf-8').strip('"v')
    except (OSError, ValueError) as error:
        yield Check('manager', False, f'{url}: {getattr(error, "reason", error)}', 'An experiment that is running there, and a '
                    f'firewall that lets this machine connect to ports {port} and {port + 1}.')
        return
    same = nni is not None and (*parse(version), 0)[:3] == (*parse(nni), 0)[:3]  # the manager says 3.0.0
    yield Check('manager', same, f'NNI {version} on {host}', '' if same else f'Both need the same NNI; here it is {nni}.')
    if _is_3(nni):
        return
    try:
        socket.create_connection((host, port + 1), TIMEOUT).close()
    except OSError as error:
        yield Check('port', False, f'{host}:{port + 1}: {error}', "Trials connect to the port after the manager's.")
    proxy = urllib.request.getproxies().get('http')
    if proxy and not urllib.request.proxy_bypass(host):
        yield Check('proxy', False, f'http_proxy={proxy}', f'Trials must reach the manager without it: no_proxy={host}')


def render(worker: Worker) -> str:
    """The report as text for the terminal."""
    width = max(len(check.name) for check in worker.checks) + 2
    lines = [f'A worker with NNI {worker.nni or "missing"}, Python {worker.python} ({worker.executable})', '']
    for check in worker.checks:
        lines += [f'{check.name:<{width}}{"" if check.ok else "MISSING: "}{check.found}',
                  *([' ' * width + check.needed] if check.needed else [])]
    return '\n'.join(lines)
