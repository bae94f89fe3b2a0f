"""Real experiments: nnictl, NNI's manager, its dispatcher and its trials."""

import json
import os
import re
import sys
import time

import nni
import pytest
from conftest import ENDS
from experiment import IS_V1, METHODS, MIXES_UP_TRIALS, Experiment
from tiny import Space

from nni_darts_ext import apply_fixed_architecture, random_architecture
from nni_darts_ext.run import Run


@pytest.fixture
def experiment(tmp_path, nnis_configuration):
    made = Experiment(tmp_path)
    made.run('nni-darts-ext', 'unregister')  # in case an earlier test run was interrupted
    yield made
    if made.id:
        made.run('nnictl', 'stop', '--all', status=None)
    made.kill()


@pytest.mark.parametrize('interrupted', [sys.version_info < (3, 9)])  # slow, so each Python tests one of the ways
def test_an_experiment_from_its_registration_to_the_best_architecture(experiment, nnis_configuration, interrupted):
    listed = experiment.run('nnictl', 'algo', 'list')
    experiment.run('nni-darts-ext', 'register')
    before = nnis_configuration()
    at_an_end = nni.__version__ in ENDS.get(sys.version_info[:2], ENDS[3, 11])
    n_searches, n_random = 2 if at_an_end else 1, 2 if at_an_end and sys.version_info[:2] == (3, 8) else 0
    experiment.create(experiment.config({'searches': n_searches, 'evaluations': 1, 'final_trainings': 1, **(
        {'random_architectures': n_random} if n_random else {})}))
    if interrupted:
        finished = kill_and_resume(experiment, after=4 if n_random else 1)  # two searches, an evaluation and a random one
    experiment.wait(lambda: experiment.status() == 'DONE')

    assert experiment.mark.exists()
    said = experiment.run('nni-darts-ext', 'best', experiment.id, '--output', 'best.json')
    ranked = json.loads(experiment.run('nni-darts-ext', 'best', experiment.folder, '--json'))
    if n_random:
        ranked, others, compared = ranked['found'], ranked['random'], ranked['comparison']
        drawn = {json.dumps(random_architecture(Space(), i), sort_keys=True) for i in range(n_random)}
        assert {json.dumps(one['architecture'], sort_keys=True) for one in others} == drawn
        assert all(list(one['accuracies']) == ['0'] for one in others)
        assert (compared['n_found'], compared['n_random']) == (len(ranked), len(others)) and 'Rank of the best ' in said
    assert {task['seed'] for one in ranked for task in one['found_by']} == set(range(n_searches))
    assert all(one['accuracies'] for one in ranked)
    assert len(said.splitlines()) == len(ranked) + 2 + (3 if n_random else 0) and ' + '.join(METHODS) in said
    assert all(task['methods'] == METHODS for one in ranked for task in one['found_by'])
    runs = [Run.read(file.parent) for file in experiment.folder.rglob('run/config.json')]
    assert runs and all(run.settings['methods'] == ['Shrinking({1: 1})', 'Tempered(temperature=0.5)'] for run in runs)
    assert [one['mean'] for one in ranked] == sorted((one['mean'] for one in ranked), reverse=True)
    assert list(ranked[0]['finals']) == ['0'] and not any(one['finals'] for one in ranked[1:])
    succeeded = n_searches + len(ranked) + 1 + n_random
    if interrupted:  # trials that were running when it was killed may run twice
        assert finished <= experiment.trials('SUCCEEDED')
        assert succeeded <= len(experiment.trials('SUCCEEDED')) <= succeeded + 2
    else:
        assert len(experiment.trials('FAILED')) == 1
        assert succeeded <= len(experiment.trials('SUCCEEDED')) <= succeeded + MIXES_UP_TRIALS
    written = json.loads((experiment.home / 'best.json').read_text())
    assert written == ranked[0]['architecture'] == json.loads((experiment.home / 'architecture.json').read_text())
    apply_fixed_architecture(Space(), written)
    assert written in [json.loads(file.read_text()) for file in experiment.folder.rglob('architecture.json')]
    assert any('evaluate with seed 0 and 1 threads' in file.read_text() for file in experiment.folder.rglob('trial.log'))

    experiment.run('nnictl', 'stop', experiment.id)
    experiment.run('nni-darts-ext', 'unregister')
    experiment.wait_for_the_end()
    assert experiment.run('nnictl', 'algo', 'list') == listed
    if (experiment.home / 'config' / 'registered_algorithms.yml').exists():
        assert nnis_configuration() == before


def kill_and_resume(experiment, after):
    """Kill the manager and its children after some trials have finished, and resume. Returns the finished trials."""
    experiment.wait(lambda: len(experiment.trials('SUCCEEDED')) >= after)
    finished, known = experiment.trials('SUCCEEDED'), experiment.trials()
    experiment.manager().kill()
    experiment.kill()
    experiment.wait_for_the_end()
    for _ in range(20):
        experiment.run('nnictl', 'stop', experiment.id, status=None)  # the first versions do not notice that it is gone,
        said = experiment.run('nnictl', 'resume', experiment.id, '--port', experiment.port, status=None)
        if 'Only stopped' not in said and experiment.has_begun(but=known):  # and none does before the system has forgotten it
            return finished
        time.sleep(1)
    raise AssertionError(said)


@pytest.mark.ends
@pytest.mark.skipif(not IS_V1, reason='NNI checks classArgs before the start only in its first schema')
@pytest.mark.parametrize('tuner, assessor, named', [
    ({'searches': 0}, {}, 'searches'), ({'search': 3}, {}, 'search'), ({}, {'max_skip_share': 2}, 'max_skip_share')])
def test_nnictl_refuses_bad_arguments_before_anything_starts(experiment, tuner, assessor, named):
    experiment.run('nni-darts-ext', 'register')
    said = experiment.try_to_create(experiment.config(tuner, assessor))
    assert named in said and 'classArgs' in said and experiment.id is None and not experiment.processes(), said


@pytest.mark.ends
@pytest.mark.skipif(IS_V1, reason='NNI has refused them already')
def test_the_tuner_refuses_bad_arguments_before_any_trial(experiment):
    experiment.run('nni-darts-ext', 'register')
    experiment.try_to_create(experiment.config({'searches': 0}))
    end = time.time() + 60
    while 'searches=0 in classArgs' not in experiment.logs():
        assert time.time() < end, experiment.logs()
        time.sleep(0.5)
    assert not list(experiment.folder.rglob('trial.log'))


def registered(experiment):
    return sorted(re.findall(r'^\| (Darts\w+) ', experiment.run('nnictl', 'algo', 'list'), re.MULTILINE))


@pytest.mark.ends
def test_registering_twice_is_no_error_and_nnictl_takes_the_printed_file(experiment):
    for _ in range(2):
        assert 'DartsTuner' in experiment.run('nni-darts-ext', 'register')
    assert registered(experiment) == ['DartsAssessor', 'DartsTuner']
    experiment.run('nni-darts-ext', 'unregister')
    experiment.run('nni-darts-ext', 'unregister')
    assert registered(experiment) == []
    meta = experiment.run('nni-darts-ext', 'register', '--print-meta').strip()
    experiment.run('nnictl', 'algo', 'register', '--meta', meta)
    assert registered(experiment) == ['DartsAssessor', 'DartsTuner']
    assert os.path.commonpath([meta, str(experiment.home)]) != str(experiment.home)
