"""What the tests share: the installed hosts, and the recorded answers of NNI's own class."""

import atexit
import json
import os
import shutil
import sys
import tempfile
from pathlib import Path

import pytest

from nni_darts_ext import hosts

USERS_HOME, HOME = os.environ.get('HOME', ''), tempfile.mkdtemp()
"""NNI looks for it when it is imported, and reads and writes the list of its experiments there in each of them."""
os.environ.update(HOME=HOME, MPLCONFIGDIR=HOME)
atexit.register(shutil.rmtree, HOME, ignore_errors=True)

try:
    from nni import __version__ as version
except Exception:  # none, or a broken one
    version = None

DATA = Path(__file__).parent / 'data'
OFFERED = hosts.available()
ENDS = {(3, 11): ('2.0', '2.8', '2.10.1', '3.0'), (3, 8): ('2.0', '2.8', '2.10.1', '3.0'), (3, 7): ('2.0',)}
"""The first and the last NNI of each family, by Python. With Python 3.7 and NNI 3.0 there is the PyTorch of Python 3.8."""
ONCE = {(3, 11): ('2.8', '3.0'), (3, 8): ('2.8',), (3, 7): ('2.0',)}
"""All families with the newest PyTorch, all but that of NNI 3.0 with the oldest; py311-nni2.8 runs as CPUs without AVX-512 do."""
NEWEST = {**ONCE, (3, 11): ENDS[3, 11]}
MARKS = {'ends': ENDS, 'once': ONCE, 'newest': NEWEST}

NEEDS = {  # one of these families each
    'test_arguments.py': hosts.FAMILIES,
    'test_bench.py': ['classic', 'nas'],  # what it measures against
    'test_nas_bench_201.py': ['classic', 'nas'],
    'test_examples.py': hosts.FAMILIES,
    'test_exported.py': hosts.FAMILIES,
    'test_families.py': hosts.FAMILIES,
    'loop/test_mutator.py': hosts.FAMILIES,
    'core/edge/test_recomputation.py': hosts.FAMILIES,
    'hosts/test_classic.py': ['classic'],
    'hosts/test_lightning.py': ['lightning'],
    'hosts/test_nas.py': ['nas'],
    'hosts/test_retiarii.py': ['retiarii'],
    'loop/test_batches.py': hosts.FAMILIES,
    'loop/test_data.py': hosts.FAMILIES,
    'run/test_recorder.py': hosts.FAMILIES,
    'methods/test_all.py': hosts.FAMILIES,
    'methods/test_auxiliary_skip.py': hosts.FAMILIES,
    'methods/test_beta_decay.py': hosts.FAMILIES,
    'methods/test_dirichlet.py': hosts.FAMILIES,
    'methods/test_edge_normalization.py': hosts.FAMILIES,
    'methods/test_expected_cost.py': hosts.FAMILIES,
    'methods/test_gumbel_softmax.py': hosts.FAMILIES,
    'methods/test_hooks.py': hosts.FAMILIES,
    'methods/test_own.py': hosts.FAMILIES,
    'methods/test_perturbation_selection.py': hosts.FAMILIES,
    'methods/test_random_perturbation.py': hosts.FAMILIES,
    'methods/test_recommendation.py': hosts.FAMILIES,
    'methods/test_skip_limit.py': hosts.FAMILIES,
    'methods/test_stop_at_skips.py': hosts.FAMILIES,
    'methods/test_warmup.py': hosts.FAMILIES,
    'nnictl/test_assessor.py': hosts.FAMILIES,
    'nnictl/test_experiment.py': hosts.FAMILIES,
    'nnictl/test_remote.py': hosts.FAMILIES,
    'nnictl/test_trial.py': hosts.FAMILIES,
    'nnictl/test_trial_processes.py': hosts.FAMILIES,
    'nnictl/test_tuner.py': hosts.FAMILIES,
    'run/test_recording.py': hosts.FAMILIES,
    'test_choose_from.py': hosts.FAMILIES,
    'test_cuts.py': hosts.FAMILIES,
    'test_docs.py': hosts.FAMILIES,
    'test_fixed.py': hosts.FAMILIES,
    'test_malformed.py': hosts.FAMILIES,
    'test_nn.py': hosts.FAMILIES,
    'test_partial_channels.py': hosts.FAMILIES,
    'test_processes.py': hosts.FAMILIES,
    'test_ranked.py': hosts.FAMILIES,
    'test_recorded.py': hosts.FAMILIES,
    'test_resume.py': hosts.FAMILIES,
    'test_ten_steps.py': hosts.FAMILIES,
    'test_trainer.py': hosts.FAMILIES,
}
FILES = {
    'ends': ['nnictl/test_assessor.py', 'nnictl/test_trial.py', 'nnictl/test_tuner.py', 'test_cuts.py', 'test_examples.py',
             'test_processes.py', 'test_recorded.py', 'test_trainer.py'],
    'once': ['core', 'loop/test_batches.py', 'loop/test_data.py', 'nnictl/test_comparison.py',
             'nnictl/test_experiments.py', 'nnictl/test_results.py', 'nnictl/test_selection.py', 'plot', 'run', 'test_bench.py',
             'test_cli.py', 'test_malformed.py', 'test_nas_bench_201.py', 'test_page.py', 'test_pages.py',
             'test_rooms.py', 'test_without_docstrings.py'],
    'newest': ['methods', 'test_partial_channels.py', 'test_ranked.py', 'test_resume.py'],
}
"""Files and folders all of whose tests have a mark."""
collect_ignore = [path for path, families in NEEDS.items() if all(OFFERED[family] for family in families)]


@pytest.fixture
def one_experiment(monkeypatch):
    """Retiarii before 2.8 takes one experiment a process, whose threads nothing of NNI's ends when a trainer searches."""
    try:
        from nni.retiarii import integration_api
        from nni.retiarii.execution import api
    except ImportError:
        yield
        return
    monkeypatch.setattr(integration_api, '_advisor', None, raising=False)
    monkeypatch.setattr(api, '_execution_engine', None, raising=False)
    yield
    if integration_api._advisor is not None:
        integration_api._advisor.stopping = True


def pytest_report_header(config):
    return [f'{hosts.installed()}; family {family}: {reason or "offered"}' for family, reason in OFFERED.items()]


def pytest_configure(config):
    config.addinivalue_line('markers', 'family(*names): needs one of these host families')
    config.addinivalue_line('markers', 'ends: depends on the family of the host, so runs with those at the ends of a family')
    config.addinivalue_line('markers', 'once: depends on no NNI, or on little of a family, so runs once with each PyTorch')
    config.addinivalue_line('markers', 'newest: depends on the family and little on PyTorch, so runs at the ends with the newest')
    config.addinivalue_line('markers', 'slow: takes minutes, and so runs in one environment alone: `tox -e faults`')


def pytest_collection_modifyitems(items):
    for item in items:
        for mark, files in FILES.items():
            if str(item.fspath).startswith(tuple(str(Path(__file__).parent / file) for file in files)):
                item.add_marker(mark)


def pytest_runtest_setup(item):
    for mark, chosen in MARKS.items():
        runs_with = chosen.get(sys.version_info[:2], chosen[3, 11])
        if item.get_closest_marker(mark) and version is not None and version not in runs_with:
            pytest.skip(f'{mark}: with this Python it runs with NNI {", ".join(runs_with)}')
    for mark in item.iter_markers('family'):
        if all(OFFERED[name] for name in mark.args):
            pytest.skip(f'this NNI has no {" or ".join(mark.args)} family')  # test_environment knows whether it must


def pytest_generate_tests(metafunc):
    if 'record' in metafunc.fixturenames:
        records = json.loads((DATA / 'darts_mutator_vectors.json').read_text())
        metafunc.parametrize('record', records, ids=range(len(records)))


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path, monkeypatch):
    """NNI writes logs where it runs, and experiments and configuration into the user's home."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv('NNI_CONFIG_DIR', str(tmp_path / 'config'))
    monkeypatch.setenv('HOME', str(tmp_path))
    yield
    shutil.rmtree(os.path.join(HOME, 'nni-experiments'), ignore_errors=True)


@pytest.fixture
def nnis_configuration():
    """Reads what NNI keeps in this environment: up to 2.3 it writes there, whatever NNI_CONFIG_DIR says. It is put back."""
    def read():
        return {path: path.read_bytes() for path in (Path(sys.prefix) / 'nni').rglob('*') if path.is_file()}
    kept = read()
    yield read
    for file, content in kept.items():
        file.write_bytes(content)
