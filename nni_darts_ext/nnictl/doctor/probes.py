"""Try what works in the installed NNI: each probe in its own process, with a time limit and without side effects.

The processes get a temporary home, configuration and working folder. This module imports only the standard library.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import re
import shutil
import signal
import site
import subprocess
import sys
import tempfile
import textwrap
import threading
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any, Dict, Iterator, Mapping, NamedTuple, Optional

from .rot import ASSESSOR, EVALUATOR, SEARCH, parse

PACKAGE = str(Path(__file__).resolve().parents[3])
"""The folder from which the processes import this package."""

LIMIT = 120
"""Time limit of a process in seconds. Importing NNI, PyTorch and Lightning from a cold disk takes a large part of it."""

CONFIG = """\
searchSpace: {x: {_type: choice, _value: [1, 2]}}
trialCommand: python3 -c 1
trialConcurrency: 1
maxTrialNumber: 1
tuner: {name: TPE}
trainingService: {platform: local}
"""
"""Every NNI from 2.0 on accepts this configuration; 2.0 to 2.2 convert it."""

# Before 2.4 NNI ignores NNI_CONFIG_DIR and writes its registry below sys.prefix, which is therefore set to the temporary folder.
RUN_NNICTL = """\
import sys
sys.prefix = sys.base_prefix = {folder!r}
sys.argv = ['nnictl', *{arguments!r}]
from nni.tools.nnictl.nnictl import parse_args
parse_args()
"""

ASK_HOSTS = """\
import json
from nni_darts_ext import hosts
answer = dict(nni=None, families=hosts.available())
try:
    import nni
    answer['nni'] = str(nni.__version__)
except Exception:
    pass
with open({answer!r}, 'w', encoding='utf-8') as file:
    json.dump(answer, file)
"""

TRY_SEARCH = """\
import torch
from nni.retiarii.evaluator.pytorch import DataLoader, Lightning, LightningModule, Trainer
from nni.retiarii.experiment.pytorch import RetiariiExeConfig, RetiariiExperiment
from nni.retiarii.nn.pytorch import LayerChoice
from nni_darts_ext.hosts.lightning import DARTS

class Model(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.a = LayerChoice([torch.nn.Linear(2, 2), torch.nn.Identity()], label='a')

    def forward(self, x):
        return self.a(x)

class Module(LightningModule):
    def forward(self, x):
        return self.model(x)

    def training_step(self, batch, batch_idx):
        return self(batch).square().mean()

    def validation_step(self, batch, batch_idx):
        pass

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)

trainer = Trainer(max_epochs=1, enable_progress_bar=False, enable_model_summary=False, enable_checkpointing=False,
                  logger=False, accelerator='cpu', num_sanity_val_steps=0)
loaders = [DataLoader(list(torch.randn(2, 4, 2)), batch_size=None) for _ in range(2)]
experiment = RetiariiExperiment(Model(), Lightning(Module(), trainer, *loaders), [], DARTS())
config = RetiariiExeConfig('local')
config.execution_engine = 'oneshot'
experiment.run(config)
experiment.export_top_models()
"""

TRY_EVALUATOR = """\
from nni.retiarii.evaluator.pytorch import Classification
Classification(enable_progress_bar=False)
"""

TRY_ASSESSOR = """\
from nni.algorithms.hpo.curvefitting_assessor.model_factory import CurveModel
model = CurveModel(20)
model.effective_model_num = 0
model.mcmc_sampling()
"""


ASK_SERVER = """\
from nni.tools.nnictl.rest_utils import rest_get
answer = rest_get('http://localhost:{port}/', 20)
print(None if answer is None else answer.text)
"""
"""Sends a request as nnictl sends them to its server."""

REDIRECTED = "nnictl's requests to its own server on localhost do not arrive there. If http_proxy is set, " \
             'no_proxy=localhost must also be set'

NODE = """\
import os, subprocess, nni_node
node = os.path.join(list(nni_node.__path__)[0], 'node.exe' if os.name == 'nt' else 'node')
subprocess.run([node, '--version'], check=True)
"""


class Nnictl(NamedTuple):
    starts: bool
    reason: Optional[str]


class Hosts(NamedTuple):
    nni: Optional[str]
    families: Dict[str, Optional[str]]
    reason: Optional[str]  # why the process failed; None if it did not


class _Ended(NamedTuple):
    status: Optional[int]  # None: it was killed at the time limit
    output: str


def nnictl() -> Nnictl:
    """Whether ``nnictl create`` would start an experiment.

    It runs until it finds its port in use, so nothing is started. The next steps are tried separately: locking the list of
    experiments by ``nnictl experiment list``, starting the server by ``node --version``, and requests to it by a server of this
    process.
    """
    with _server() as port:
        ended = _nnictl('create', '--config', 'config.yml', '--port', str(port))
        if not re.search(rf'[Pp]ort {port} is ', ended.output):
            return Nnictl(False, f'nnictl create: {_error_of(ended)}')
        if not reaches_server(port):
            return Nnictl(False, REDIRECTED)
    ended = _nnictl('experiment', 'list')
    if 'Cannot find experiments' not in ended.output:
        return Nnictl(False, f'nnictl experiment list: {_error_of(ended)}')
    ended = _python(NODE)
    if ended.status != 0:
        return Nnictl(False, f"NNI's server: {_error_of(ended)}")
    return Nnictl(True, None)


def reaches_server(port: int) -> bool:
    """Whether nnictl's requests to localhost arrive there, and are not redirected by a proxy in the environment."""
    return _Server.ANSWER in _python(ASK_SERVER.format(port=port)).output


class _Server(BaseHTTPRequestHandler):
    ANSWER = 'the doctor is here'

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(self.ANSWER.encode())

    def log_message(self, *args: Any) -> None:
        pass


@contextlib.contextmanager
def _server() -> Iterator[int]:
    """The port of a running HTTP server."""
    with HTTPServer(('127.0.0.1', 0), _Server) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_address[1]
        server.shutdown()


def hosts() -> Hosts:
    """The result of ``nni_darts_ext.hosts.available()`` in a new process."""
    with _folder() as folder:
        answer = Path(folder, 'answer.json')
        ended = _python(ASK_HOSTS.format(answer=str(answer)))
        if not answer.exists():
            return Hosts(None, {}, _error_of(ended))
        return Hosts(reason=None, **json.loads(answer.read_text(encoding='utf-8')))


def uses(nni: str, families: Mapping[str, Optional[str]]) -> Dict[str, Optional[str]]:
    """Try the features that fail only in use: None for each that works, else its error."""
    code = {}
    if parse(nni) < (3,):
        code[ASSESSOR] = TRY_ASSESSOR
    if families.get('lightning', '') is None:
        code[SEARCH], code[EVALUATOR] = TRY_SEARCH, TRY_EVALUATOR
    with ThreadPoolExecutor(2) as pool:
        ended = dict(zip(code, pool.map(_python, code.values())))
    return {check: None if end.status == 0 else _error_of(end) for check, end in ended.items()}


CACHES = ('retiarii/nn/pytorch/_nn.py', 'nas/nn/pytorch/_layers.py')
"""Files that NNI writes into its own package when its choices are first imported."""


@contextlib.contextmanager
def without_a_trace() -> Iterator[None]:
    """Restore the files that NNI caches in its own package."""
    spec = importlib.util.find_spec('nni')
    caches = [Path(folder, cache) for folder in (spec and spec.submodule_search_locations) or () for cache in CACHES]
    before = {cache: cache.read_bytes() if cache.exists() else None for cache in caches}
    try:
        yield
    finally:
        for cache, content in before.items():
            if content is not None and cache.read_bytes() != content:
                cache.write_bytes(content)
            elif content is None and cache.exists():
                cache.unlink()


def _nnictl(*arguments: str) -> _Ended:
    with _folder() as folder:
        Path(folder, 'config.yml').write_text(CONFIG, encoding='utf-8')
        return _run(RUN_NNICTL.format(folder=folder, arguments=list(arguments)), folder)


def _python(code: str) -> _Ended:
    with _folder() as folder:
        return _run(f'import sys\nsys.path.append({PACKAGE!r})\n{code}', folder)


@contextlib.contextmanager
def _folder() -> Iterator[str]:
    folder = tempfile.mkdtemp(prefix='nni-darts-ext-')
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)  # children of a killed process may still hold a file open


def _run(code: str, folder: str) -> _Ended:
    with open(os.path.join(folder, 'output'), 'w+b') as output:  # a pipe would stay open as long as a grandchild lives
        process = subprocess.Popen([sys.executable, '-W', 'ignore', '-c', code], stdin=subprocess.DEVNULL, stdout=output,
                                   stderr=subprocess.STDOUT, cwd=folder, env=_environment(folder), start_new_session=True)
        status: Optional[int] = None
        try:
            status = process.wait(LIMIT)
        except subprocess.TimeoutExpired:
            pass
        finally:
            if status is None:
                _end(process)
        output.seek(0)
        return _Ended(status, output.read().decode('utf-8', 'replace'))


def _end(process: subprocess.Popen[bytes]) -> None:
    if hasattr(os, 'killpg'):
        os.killpg(process.pid, signal.SIGKILL)
    else:
        process.kill()
    process.wait()


def _environment(folder: str) -> Dict[str, str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(('NNI_', 'XDG_'))}
    places = ('HOME', 'USERPROFILE', 'APPDATA', 'LOCALAPPDATA', 'TMPDIR', 'TEMP', 'TMP', 'NNI_CONFIG_DIR')
    return {**inherited, **dict.fromkeys(places, folder),
            'PYTHONUSERBASE': site.getuserbase(),  # to keep the packages of `pip install --user` despite the temporary home
            'PYTHONDONTWRITEBYTECODE': '1', 'PYTHONIOENCODING': 'utf-8'}


def _error_of(ended: _Ended) -> str:
    if ended.status is None:
        return f'did not end within {LIMIT} seconds'
    lines = [line.rstrip() for line in re.sub(r'\x1b\[[\d;]*m', '', ended.output).splitlines() if line.strip()]
    named = [number for number, line in enumerate(lines) if re.match(r'(?!INFO|WARNING)[A-Za-z_][\w.]*:( |$)', line)]
    if lines:  # for a traceback, its last exception with all lines of the message
        return textwrap.shorten(' '.join(lines[named[-1]:] if named else lines[-1:]), 160, placeholder=' ...')
    return f'ended with status {ended.status} and without output'
