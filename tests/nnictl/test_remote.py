"""A real experiment on two machines over SSH: NNI's remote platform, with both machines on the loopback."""

import ensurepip
import json
import os
import re
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import nni
import pytest
from experiment import HERE, Experiment, ask
from ssh_server import HOSTS, SSHD, SshServer

from nni_darts_ext.nnictl import results
from nni_darts_ext.run import DONE, Run

yaml = pytest.importorskip('yaml')
CHOSEN = [('2.8', (3, 8)), ('2.10.1', (3, 11)), ('3.0', (3, 11))]
pytestmark = [
    pytest.mark.skipif((nni.__version__, sys.version_info[:2]) not in CHOSEN, reason=f'takes a minute: runs with {CHOSEN}'),
    pytest.mark.skipif(SSHD is None, reason='there is no sshd: install openssh-server'),
]
HAS_STORAGE = nni.__version__ == '2.10.1'
"""Whether the runs are on a share; otherwise they are copied from the machines."""
BIN = Path(sys.executable).parent
IN_TMP = Path('/tmp/nni-experiments')
"""Where NNI puts the trials on a machine, up to 2.10, whatever its environment says; NNI 3.0 puts them into the home."""


@pytest.fixture
def server(tmp_path):
    """The machines have the environment of the tests and no package index. What NNI leaves on them is removed."""
    pip = next((Path(ensurepip.__file__).parent / '_bundled').glob('pip-*.whl'))  # NNI 3.0 runs pip there; tox installs none
    path = os.pathsep.join([*filter(None, [os.environ.get('PYTHONPATH')]), str(pip)])
    before = set(IN_TMP.glob('*'))
    with SshServer(tmp_path / 'ssh', {'PYTHONPATH': path, 'PIP_NO_INDEX': '1', 'OMP_NUM_THREADS': '1'}).running() as made:
        yield made
    for left in set(IN_TMP.glob('*')) - before:
        shutil.rmtree(str(left))
    if IN_TMP.exists() and not before:
        IN_TMP.rmdir()


@pytest.fixture
def experiment(tmp_path, server, nnis_configuration):
    made = Experiment(tmp_path)
    made.homes += [server.home(host) for host in HOSTS]
    made.run('nni-darts-ext', 'register')  # on this machine alone
    yield made
    made.run('nnictl', 'stop', '--all', status=None)
    made.kill()
    made.run('nni-darts-ext', 'unregister')


def configured(experiment, server):
    """The example's configuration, with a smaller search and these machines."""
    example = yaml.safe_load((HERE.parents[1] / 'examples' / 'nnictl' / 'config_remote.yml').read_text())
    storage = f' --storage {experiment.home / "storage"}' if HAS_STORAGE else ''
    file = experiment.config({'searches': 2, 'evaluations': 1}, space='tiny:Space' + storage)
    service = example['trainingService']
    for machine, host in zip(service['machineList'], HOSTS):
        machine.update(host=host, port=server.port, user=server.user, sshKeyFile=str(server.key), pythonPath=str(BIN))
    file.write_text(json.dumps({**example, **json.loads(file.read_text()), 'trainingService': service, 'nniManagerIp': HOSTS[0]}))
    return file


def machines(experiment):
    """The machines that have run trials."""
    with ask(f'http://127.0.0.1:{experiment.port}/api/v1/nni/trial-jobs', timeout=10) as answer:
        return set(re.findall('|'.join(HOSTS), ' '.join(trial['logPath'] for trial in json.loads(answer.read().decode()))))


def test_two_machines_search_and_the_runs_come_home(experiment, server):
    experiment.create(configured(experiment, server))
    doctor = subprocess.run(['ssh', *server.options(), f'{server.user}@{HOSTS[1]}', f'{BIN}/nni-darts-ext', 'doctor', '--worker',
                             '--manager', f'{HOSTS[0]}:{experiment.port}', '--json'], stdout=subprocess.PIPE, timeout=120)
    found = json.loads(doctor.stdout.decode())
    assert found['status'] == doctor.returncode == 0 and found['checks'][-1]['name'] == 'manager', found
    experiment.wait(lambda: experiment.status() == 'DONE')
    assert machines(experiment) == set(HOSTS)

    said = experiment.run('nni-darts-ext', 'best', experiment.id)
    ranked = json.loads(experiment.run('nni-darts-ext', 'best', experiment.id, '--json'))
    assert {task['seed'] for one in ranked for task in one['found_by']} == {0, 1} and all(one['accuracies'] for one in ranked)
    assert len(said.splitlines()) == len(ranked) + 2
    assert not list(experiment.folder.rglob('run'))

    for host in () if HAS_STORAGE else HOSTS:  # sftp starts in the home of the user database, not in the temporary one
        place = server.home(host) / 'nni-experiments' if nni.__version__ == '3.0' else IN_TMP
        inside = 'environments' if nni.__version__ == '3.0' else 'trials'
        subprocess.run(['scp', '-q', *server.options(), '-r', f'{server.user}@{host}:{place}/{experiment.id}/{inside}',
                        str(experiment.folder)], check=True, timeout=60)
    searches = [trial for trial in results.read(experiment.folder).trials if trial.task.phase == 'search']
    runs = [Run.read(trial.run) for trial in searches]
    assert all((experiment.home / 'storage' in run.folder.parents) == HAS_STORAGE for run in runs)
    assert len(runs) == 2 and all(run.state.status == DONE and len(run.epochs) == 2 for run in runs)
    assert str(runs[0].folder) in experiment.run('nni-darts-ext', 'show', runs[0].folder)
    if find_spec('matplotlib') and find_spec('networkx'):
        experiment.run('nni-darts-ext', 'report', experiment.id)
        assert all(str(run.folder) in (experiment.folder / 'report.html').read_text() for run in runs)

    experiment.run('nnictl', 'stop', experiment.id)
    experiment.wait_for_the_end()

