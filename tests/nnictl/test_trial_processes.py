"""Trials on several processes."""

import json
import sys

import nni
import pytest
import two_processes
from experiment import MIXES_UP_TRIALS, Experiment

from nni_darts_ext import protocol, trial
from nni_darts_ext.loop import processes
from nni_darts_ext.run import Run

pytestmark = pytest.mark.once
OPTIONS = ['--data', 'tiny:data', '--batch-size', '8', '--search-epochs', '3', '--evaluation-epochs', '3',
           '--learning-rate', '0.1', '--device', 'cpu']
SEARCH = {'phase': 'search', 'seed': 3, 'arc_learning_rate': 0.05}


def told_to_nni(task):
    """What NNI is told from now on by this process, which gets this task from it."""
    told = []
    nni.get_next_parameter = lambda: task if processes.is_first() else 1 / 0
    nni.report_intermediate_result = nni.report_final_result = told.append
    return told


def of_trial(task, options):
    told = told_to_nni(task)
    trial.main(['--space', 'tiny:Space', *OPTIONS, *options])
    return told


@pytest.mark.parametrize('task', [SEARCH, {'phase': 'evaluate', 'seed': 2, 'random_architecture': 1}])
def test_two_processes_give_the_results_of_one(task):
    alone, = two_processes.results(of_trial, task, [], ranks=1)
    first, second = two_processes.results(of_trial, task, [])
    assert second == [] and len(first) == len(alone) >= 3
    for ours, theirs in zip(first, alone):
        numbers = {name: value for name, value in theirs.items() if isinstance(value, float)}
        assert {name: ours[name] for name in numbers} == pytest.approx(numbers, abs=1e-4)
        assert {name: value for name, value in ours.items() if name not in numbers} == {
            name: value for name, value in theirs.items() if name not in numbers}


def test_a_batch_that_the_processes_cannot_share_is_refused():
    for found in two_processes.run(of_trial, SEARCH, ['--batch-size', '9']):
        assert 'TrainingError: A batch of 9 samples cannot be shared equally by 2' in found


def interrupted(task, storage, metric):
    told = told_to_nni(task)
    try:
        trial.main(['--space', 'tiny:Space', *OPTIONS, '--storage', storage, '--metric', metric])
    except KeyboardInterrupt:
        return told
    raise AssertionError('It ran to its end.')


@pytest.mark.parametrize('task', [SEARCH, {'phase': 'evaluate', 'seed': 2, 'random_architecture': 1}])
def test_two_processes_resume_together(task, tmp_path):
    storage = str(tmp_path / 'storage')
    begun, _ = two_processes.results(interrupted, task, storage, 'tiny:accuracy_of_one_epoch')
    rest, _ = two_processes.results(of_trial, task, ['--storage', storage, '--metric', 'tiny:accuracy'])
    whole, _ = two_processes.results(of_trial, task, ['--metric', 'tiny:accuracy'])
    assert begun
    assert [without_run(value) for value in begun + rest] == [without_run(value) for value in whole]  # bit for bit


def without_run(value):
    """A report without what says that a search was resumed."""
    return {name: part for name, part in value.items() if name not in ('run', 'movement')}


def own_script():
    """As a user writes it."""
    told = told_to_nni(SEARCH)
    begun = protocol.start()
    begun.epoch(0.5)
    begun.result(0.75)
    return told, begun.seed


def test_a_script_of_ones_own_gets_its_task_on_every_rank_and_reports_once():
    (told, seed), (nothing, same) = two_processes.results(own_script)
    assert [value['default'] for value in told] == [0.5, 0.75] and nothing == [] and seed == same == 3


@pytest.mark.skipif(nni.__version__ not in ('2.8', '3.0') or sys.version_info < (3, 11), reason='runs with two NNIs')
def test_an_experiment_repeats_a_trial_of_which_a_process_was_killed(tmp_path, nnis_configuration):
    experiment = Experiment(tmp_path)
    try:
        experiment.run('nni-darts-ext', 'register')
        config = json.loads(experiment.config({'searches': 1}, space='tiny:dying_once').read_text())
        torchrun = 'torchrun --rdzv_backend c10d --rdzv_endpoint localhost:0 --nproc_per_node 2'
        trial_command = config['trialCommand'].replace('python -m', f'{torchrun} -m')
        config.update(trialCommand=f'{trial_command} --storage {tmp_path / "storage"}', trialConcurrency=1)
        (tmp_path / 'config.yml').write_text(json.dumps(config))
        experiment.create(tmp_path / 'config.yml')
        experiment.wait(lambda: experiment.status() == 'DONE')
        assert len(experiment.trials('FAILED')) == 1
        assert 2 <= len(experiment.trials('SUCCEEDED')) <= 2 + MIXES_UP_TRIALS
        run, = [Run.read(file.parent) for file in (tmp_path / 'storage').rglob('run/config.json')]
        assert len(run.epochs) == 2 and len(run.state.resumed) == 1
        experiment.run('nni-darts-ext', 'best', experiment.id)
        experiment.run('nnictl', 'stop', experiment.id)
        experiment.wait_for_the_end()
    finally:
        experiment.run('nnictl', 'stop', '--all', status=None)
        experiment.run('nni-darts-ext', 'unregister', status=None)
        experiment.kill()
