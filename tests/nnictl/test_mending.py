"""Environments that are broken on purpose: the doctor names the cause, and its command mends them.

Each is a virtual environment with real wheels. This takes a package index and some minutes: ``tox -e faults``.
"""

import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest
from conftest import USERS_HOME

from nni_darts_ext.nnictl.doctor import rot

pytestmark = pytest.mark.slow

ask = urllib.request.build_opener(urllib.request.ProxyHandler({})).open
ROOT = Path(__file__).parents[2]
ENVIRONMENT = {**os.environ, 'HOME': USERS_HOME}  # in which pip and uv have their caches
SOUND = ('setuptools<81', 'filelock<3.12')
TORCH = ('torch==2.13.0', *SOUND, 'typeguard<3')

NNICTL = {  # what makes nnictl fail
    'setuptools': ('nni==3.0', 'setuptools>=81'),
    'filelock': ('nni==2.8', 'setuptools<81', 'typeguard<3', 'filelock>=3.12'),
    'typeguard': ('nni==2.6.1', *SOUND, 'typeguard>=3'),
    'ruamel.yaml': ('nni==2.2', *SOUND, 'ruamel.yaml>=0.18'),
}
IN_USE = {  # what fails in use
    'pytorch_lightning': (rot.SEARCH, ('nni==2.8', *TORCH, 'pytorch_lightning>=2')),
    'torchmetrics': (rot.EVALUATOR, ('nni==2.10.1', *TORCH, 'pytorch_lightning<2', 'torchmetrics>=0.11', 'numpy<1.24')),
    'numpy': (rot.ASSESSOR, ('nni==2.4', *SOUND, 'numpy>=1.24')),
}
EXPERIMENT = """\
searchSpace: {{x: {{_type: choice, _value: [1, 2]}}}}
trialCommand: {python} trial.py
trialCodeDirectory: .
trialConcurrency: 1
maxTrialNumber: 1
tuner: {{name: Random}}
trainingService: {{platform: local}}
"""


class Venv:
    def __init__(self, folder):
        self.folder, self.python = folder, folder / 'bin' / 'python'
        self.environment = {**ENVIRONMENT, 'PYTHONPATH': str(ROOT), 'NNI_CONFIG_DIR': str(folder / 'config')}
        # with pip, because the doctor prints a pip command
        self.run([sys.executable, '-m', 'uv', 'venv', '-q', '--seed', '-p', sys.executable, str(folder)], times=3)

    def run(self, command, times=1, limit=300, **more):
        for attempt in range(times):
            ended = subprocess.run(command, shell=isinstance(command, str), timeout=limit, cwd=str(self.folder.parent),
                                   env={**self.environment, **more}, universal_newlines=True, stdout=subprocess.PIPE,
                                   stderr=subprocess.PIPE)
            if ended.returncode == 0 or attempt == times - 1:
                return ended
            time.sleep(5)

    def install(self, *requirements):
        ended = self.run([sys.executable, '-m', 'uv', 'pip', 'install', '-q', '-p', str(self.python), *requirements], times=3)
        assert ended.returncode == 0, ended.stderr

    def doctor(self):
        ended = self.run([str(self.python), '-m', 'nni_darts_ext', 'doctor', '--json'])
        report = json.loads(ended.stdout)
        assert ended.returncode == report['status'] == (0 if report['nnictl']['starts'] else 1)
        return report

    def follow(self, advice):
        """Run the printed command."""
        ended = self.run(advice, times=3)
        assert ended.returncode == 0, ended.stdout + ended.stderr

    def experiment(self):
        """Run one trial from `nnictl create` to its end. Returns its status and the output of nnictl."""
        with socket.socket() as free:
            free.bind(('127.0.0.1', 0))
            port = free.getsockname()[1]
        config = self.folder.parent / 'experiment.yml'
        (self.folder.parent / 'trial.py').write_text('import nni; nni.get_next_parameter(); nni.report_final_result(1)')
        config.write_text(EXPERIMENT.format(python=self.python))
        # as in an activated environment, because older NNI start the first python3 of PATH
        home = {'HOME': str(self.folder.parent), 'PATH': os.pathsep.join([str(self.python.parent), self.environment['PATH']]),
                'no_proxy': 'localhost', 'NO_PROXY': 'localhost'}
        nnictl = [str(self.python), '-m', 'nni.tools.nnictl.nnictl']
        try:
            said = self.run([*nnictl, 'create', '--config', str(config), '--port', str(port)], limit=120, **home)
            until = time.monotonic() + 60
            while said.returncode == 0 and time.monotonic() < until:
                with ask(f'http://127.0.0.1:{port}/api/v1/nni/trial-jobs', timeout=10) as answer:
                    jobs = json.load(answer)
                if jobs and jobs[0]['status'] not in ('WAITING', 'RUNNING', 'UNKNOWN'):
                    return jobs[0]['status'], ''
                time.sleep(0.5)
            return None, said.stdout + said.stderr
        finally:
            self.run([*nnictl, 'stop', '--all'], limit=60, **home)


@pytest.fixture
def venv(tmp_path):
    return Venv(tmp_path / 'venv')


@pytest.mark.parametrize('dependency', NNICTL)
def test_its_advice_followed_makes_nnictl_start(venv, dependency):
    venv.install(*NNICTL[dependency])
    report = venv.doctor()
    assert report['status'] == 1 and report['unexplained'] == {}
    assert [found['dependency'] for found in report['rot'] if rot.NNICTL in found['breaks']] == [dependency]

    venv.follow(report['mend'])
    mended = venv.doctor()
    assert mended['status'] == 0 and mended['mend'] is None, mended
    assert venv.experiment() == ('SUCCEEDED', '')


def test_an_environment_with_the_latest_of_everything_is_mended_by_one_command(venv):
    venv.install('nni==2.2', 'setuptools>=81', 'filelock>=3.12', 'ruamel.yaml>=0.18')
    assert venv.experiment()[0] is None
    printed = venv.run([str(venv.python), '-m', 'nni_darts_ext', 'doctor'])
    assert printed.returncode == 1 and 'DOES NOT START' in printed.stdout
    advice, = {line.strip() for line in printed.stdout.splitlines() if '-m pip install' in line and 'numpy' not in line}

    venv.follow(advice)
    assert venv.doctor()['status'] == 0
    assert venv.experiment() == ('SUCCEEDED', '')


@pytest.mark.parametrize('dependency', IN_USE)
def test_its_advice_followed_makes_work_what_failed_in_use(venv, dependency):
    check, requirements = IN_USE[dependency]
    venv.install(*requirements)
    report = venv.doctor()
    assert report['status'] == 0 and report['uses'][check] and report['unexplained'] == {}
    assert dependency in [found['dependency'] for found in report['rot'] if check in found['breaks']]

    venv.follow(report['mend' if check == rot.SEARCH else 'mend_all'])
    mended = venv.doctor()
    assert mended['status'] == 0 and mended['uses'][check] is None, mended
    assert all(family['offered'] for family in mended['families'].values() if family['expected']) or not mended['torch']
