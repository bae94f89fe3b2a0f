"""A real experiment: nnictl, its manager and its trials, in a temporary home, on a free port, with time limits."""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import nni
import psutil

HERE = Path(__file__).parent
METHODS = ['Shrinking:schedule={1: 1}', 'tiny.Tempered:temperature=0.5']
IS_V1 = nni.__version__ in ('2.0', '2.1', '2.2')  # the schema of its configurations

MIXES_UP_TRIALS = nni.__version__ == '3.0'  # it may report the failure of another trial


ask = urllib.request.build_opener(urllib.request.ProxyHandler({})).open


def free_port():
    with socket.socket() as probe:
        probe.bind(('127.0.0.1', 0))
        return probe.getsockname()[1]


class Experiment:
    def __init__(self, folder):
        self.home = folder
        self.homes = [folder]  # with those on other machines
        self.mark = folder / 'failed-once'
        # As behind a company's proxy. Without no_proxy nnictl's requests to localhost would not reach the manager.
        proxies = {'http_proxy': 'http://127.0.0.1:9', 'no_proxy': 'localhost', 'NO_PROXY': 'localhost'}
        self.env = {**os.environ, **proxies, 'HOME': str(folder), 'NNI_CONFIG_DIR': str(folder / 'config'),
                    'TINY_MARK': str(self.mark), 'OMP_NUM_THREADS': '1',
                    'PATH': os.pathsep.join([str(Path(sys.executable).parent), os.environ['PATH']])}
        (folder / 'config').mkdir(exist_ok=True)
        self.port = None

    def run(self, command, *arguments, status=0, timeout=120):
        """Run an executable of the environment."""
        ran = subprocess.run([str(Path(sys.executable).with_name(command)), *map(str, arguments)], env=self.env,
                             cwd=str(self.home), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                             universal_newlines=True, timeout=timeout)
        assert status is None or ran.returncode == status, ran.stdout
        return ran.stdout

    def config(self, tuner, assessor=None, space='tiny:failing_once'):
        """Write the configuration in the schema of the installed NNI."""
        command = f'python -m nni_darts_ext.trial --space {space} --data tiny:digits --batch-size 8 ' \
                  '--search-epochs 2 --evaluation-epochs 1 --final-epochs 1'
        search_space = self.home / 'search_space.json'
        search_space.write_text(json.dumps({name: {'_type': 'choice', '_value': [value]} for name, value in {
            'arc_learning_rate': 0.01, 'methods': METHODS}.items()}))
        name, prefix = ('{}Name', 'builtin') if IS_V1 else ('name', '')

        def algorithm(kind, arguments):
            return {(prefix + name.format(kind.title())) if IS_V1 else 'name': f'Darts{kind.title()}', 'classArgs': arguments}
        algorithms = {'tuner': algorithm('tuner', tuner), 'assessor': algorithm('assessor', assessor or {})}
        if IS_V1:
            config = {'authorName': 'tests', 'experimentName': 'tiny', 'trialConcurrency': 2, 'maxExecDuration': '1h',
                      'trainingServicePlatform': 'local', 'searchSpacePath': str(search_space), 'useAnnotation': False,
                      'trial': {'command': command, 'codeDir': str(HERE), 'gpuNum': 0}, **algorithms}
        else:
            config = {'experimentName': 'tiny', 'trialConcurrency': 2, 'searchSpaceFile': str(search_space),
                      'trialCommand': command, 'trialCodeDirectory': str(HERE), 'trainingService': {'platform': 'local'},
                      **algorithms}
        file = self.home / 'config.yml'
        file.write_text(json.dumps(config))  # JSON is YAML
        return file

    def try_to_create(self, config):
        """Create an experiment with nnictl, on a port that is free now. Returns its output."""
        self.port = free_port()
        return self.run('nnictl', 'create', '--config', config, '--port', self.port, status=None)

    def create(self, config):
        """Create an experiment and wait until it is running."""
        for _ in range(3):
            said = self.try_to_create(config)
            if self.has_begun():
                return
            self.run('nnictl', 'stop', '--all', status=None)
            self.kill()
            self.wait_for_the_end()
            shutil.rmtree(str(self.home / 'nni-experiments'))
        raise AssertionError(said)

    def has_begun(self, but=()):
        """Whether other trials than these have begun: a dispatcher that takes more than ten seconds to start, as on a machine
        that is busy, NNI gives up."""
        end = time.time() + 120
        while time.time() < end:
            with contextlib.suppress(OSError):
                if self.status() == 'ERROR':
                    return False
                if self.trials() - set(but):
                    return True
            time.sleep(0.5)
        return False

    @property
    def id(self):
        folders = [path.parent.name for path in self.home.glob('nni-experiments/*/db') if not path.parent.is_symlink()]
        return folders[0] if folders else None

    @property
    def folder(self):
        return self.home / 'nni-experiments' / self.id

    def status(self):
        with ask(f'http://127.0.0.1:{self.port}/api/v1/nni/check-status', timeout=10) as answer:
            return json.loads(answer.read().decode())['status']

    def trials(self, status=None):
        """The ids of all trials, or of those with a status."""
        with ask(f'http://127.0.0.1:{self.port}/api/v1/nni/trial-jobs', timeout=10) as answer:
            return {trial.get('trialJobId', trial.get('id')) for trial in json.loads(answer.read().decode())
                    if status in (None, trial['status'])}

    def wait(self, until, timeout=600):
        """Wait until a condition holds while the experiment is running."""
        end = time.time() + timeout
        while not until():
            assert time.time() < end and self.status() != 'ERROR', self.logs()
            time.sleep(0.5)

    def wait_for_the_end(self, timeout=60):
        """Wait until no process is running."""
        end = time.time() + timeout
        while self.processes():
            assert time.time() < end, self.processes()
            time.sleep(0.5)

    def logs(self):
        """The logs of the manager, the dispatcher and the trials."""
        files = [*self.folder.rglob('*.log'), *self.folder.rglob('stderr')]
        return '\n'.join(f'--- {file}\n{file.read_text(errors="replace")[-3000:]}' for file in files)

    def manager(self):
        """The process of the manager."""
        return psutil.Process(int(json.loads((self.home / 'nni-experiments' / '.experiment').read_text())[self.id]['pid']))

    def processes(self):
        """All processes with one of the homes."""
        found = []
        for process in psutil.process_iter():
            try:
                if process.environ().get('HOME') in map(str, self.homes) and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
            except psutil.Error:
                pass
        return [process for process in found if process.pid != os.getpid()]

    def kill(self):
        """End all remaining processes."""
        for process in self.processes():
            with contextlib.suppress(psutil.Error):
                process.send_signal(signal.SIGKILL)
