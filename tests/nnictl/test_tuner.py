"""DartsTuner with a simulated manager of NNI, and the arguments that it refuses."""

import gc
import json
import os
import random
import shutil
import subprocess
import threading
import time
import tracemalloc
from collections import Counter, deque

import nni_node
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from nnictl_database import experiment
from simulated_manager import Manager

from nni_darts_ext.errors import ClassArgsError, SearchSpaceError
from nni_darts_ext.nnictl import assessor
from nni_darts_ext.nnictl.hyperparameters import combinations
from nni_darts_ext.nnictl.selection import rank
from nni_darts_ext.nnictl.task import Task, task_of
from nni_darts_ext.nnictl.tuner import DartsTuner, DartsTunerValidator


def outcome_of(seed, architectures):
    """A function that returns the result of a trial, always the same for a task."""
    def outcome(parameters):
        drawn = random.Random(f'{seed} {Task.of(parameters).key()}')
        value = {'default': drawn.random(), 'task': parameters}
        if parameters['phase'] == 'search':
            return {**value, 'architecture': {'edge': drawn.randrange(architectures)}}
        number = parameters.get('random_architecture')
        return value if number is None else {**value, 'architecture': {'edge': f'random {number}'}}
    return outcome


def tasks_of(finished):
    return [(task_of(trial['value'], trial['parameter']), trial['value']) for trial in finished]


@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(seed=st.integers(0, 10**6), searches=st.sampled_from([1, 20, 200]), evaluations=st.integers(1, 3),
       finals=st.integers(0, 2), randoms=st.integers(0, 5), concurrency=st.sampled_from([1, 3, 16]),
       failing=st.sampled_from([0.0, 0.2, 0.9]), architectures=st.sampled_from([1, 30, 1000]), mixes_up=st.sampled_from([0, 0.3]),
       late=st.sampled_from([0, 0.3]), killed=st.lists(st.floats(0, 3), max_size=2), keeps_trials=st.booleans())
@example(seed=3, searches=20, evaluations=1, finals=0, randoms=0, concurrency=16, failing=0.0, architectures=30, mixes_up=0,
         late=0.3, killed=[1.0], keeps_trials=True)  # a result after the end of its trial, when NNI waits for tasks
def test_every_architecture_is_evaluated_and_the_experiment_ends(**experiment):
    run_whole(**experiment)


@pytest.mark.slow
@pytest.mark.parametrize('keeps_trials', [False, True])
def test_an_experiment_of_ten_thousand_searches_ends_as_well(keeps_trials):
    run_whole(1, 10000, 1, 3, 0, 500, 0.05, 10 ** 9, 0.05, 0.05, [0.7, 0.7], keeps_trials)


def run_whole(seed, searches, evaluations, finals, randoms, concurrency, failing, architectures, mixes_up, late, killed,
              keeps_trials):
    """An experiment that is killed and resumed after ``killed`` parts of its searches: whether all is done, and nothing twice."""
    draw, outcome = random.Random(seed), outcome_of(seed, architectures)

    def begin():
        tuner = DartsTuner(searches, evaluations, finals, random_architectures=randoms)
        tuner.update_search_space({})
        return tuner
    manager = Manager(begin(), concurrency, draw, lambda parameters: None if draw.random() < failing else outcome(parameters),
                      mixes_up, late)
    for part in killed:
        manager.run(round(part * searches))
        finished, n_handed_out = {task.key() for task, _ in tasks_of(manager.finished)}, len(manager.handed_out)
        manager.restart(begin(), keeps_trials)
        assert finished.isdisjoint(Task.of(parameters).key() for parameters in manager.handed_out[n_handed_out:])
    limit = 10000 + 10 * searches
    assert manager.run(limit) < limit, 'it does not end'

    results = tasks_of(manager.finished)
    found = {value['architecture']['edge'] for task, value in results if task.phase == 'search'}
    assert manager.tuner.selection.is_done and manager.most <= concurrency
    ranked = rank(results)
    assert {one.architecture['edge'] for one in ranked} == found
    attempts, reported = Counter(Task.of(one).key() for one in manager.handed_out), Counter(task.key() for task, _ in results)
    if not mixes_up:
        assert set(reported.values()) <= {1}, 'something was done again that was done'
        assert all(n == 1 or reported[key] < n for key, n in attempts.items())
    assert max(attempts.values()) <= 2 * (1 + len(killed))
    tasks = [json.loads(key) for key in attempts]
    trained_long = {task['architecture']['edge'] for task in tasks if task['phase'] == 'final'}
    assert sum(task['phase'] == 'search' for task in tasks) == searches
    assert len(tasks) <= searches + evaluations * (len(found) + randoms) + finals * len(trained_long)
    for name in found:
        assert all(Task('evaluate', i, {'edge': name}).key() in attempts for i in range(evaluations))
    assert {(i, seed) for i in range(randoms) for seed in range(evaluations)} == {
        (task['random_architecture'], task['seed']) for task in tasks if 'random_architecture' in task}
    if finals and ranked and ranked[0].accuracies:
        assert ranked[0].architecture['edge'] in trained_long
        assert late or killed or len(trained_long) == 1
    if not failing:
        assert len(tasks) == searches + evaluations * (len(found) + randoms) + finals
        assert all(len(one.accuracies) == evaluations for one in ranked) and len(ranked[0].finals) == finals


def test_what_the_tuner_keeps_does_not_grow_with_what_is_done():
    def outcome(parameters):
        value = {'default': random.random(), 'task': parameters}
        names = {f'edge {i}': random.choice(['convolution', 'pooling', 'skip connection']) for i in range(28)}
        return {**value, 'architecture': names} if parameters['phase'] == 'search' else value
    tuner = DartsTuner(searches=300)
    tuner.update_search_space({})
    nowhere = deque(maxlen=0)
    tracemalloc.start()
    try:
        manager = Manager(tuner, 20, random.Random(0), outcome, finished=nowhere, handed_out=nowhere)
        sizes = []
        for _ in range(2):
            assert manager.run(200) == 200
            gc.collect()
            sizes.append(tracemalloc.get_traced_memory()[0])
    finally:
        tracemalloc.stop()
    assert sizes[1] - sizes[0] < 200 * 1000  # bytes for each of 200 trials; with its result it would be 6000


def test_the_two_threads_in_which_nni_calls_the_tuner_wait_for_each_other(monkeypatch):
    tuner, sent = DartsTuner(searches=1, evaluations=4), []
    tuner.update_search_space({})
    search, = tuner.generate_multiple_parameters(list(range(5)), st_callback=lambda *trial: sent.append(trial))
    following = tuner.selection.next

    def slow():
        task = following()
        time.sleep(0.01)
        return task
    monkeypatch.setattr(tuner.selection, 'next', slow)
    ending = threading.Thread(target=tuner.trial_end, args=(0, True))
    tuner.selection.result(Task.of(search), {'default': 0.5, 'architecture': {'edge': 'a'}})
    ending.start()
    tuner.receive_trial_result(0, search, {'default': 0.5, 'architecture': {'edge': 'a'}})
    ending.join()
    assert sorted((i, parameters['seed']) for i, parameters in sent) == [(1, 0), (2, 1), (3, 2), (4, 3)]
    for i, _ in sent:
        tuner.trial_end(i, False)
    assert len(tuner.generate_multiple_parameters(list(range(5, 10)))) == 4  # each is repeated


def test_a_trial_that_ran_beside_a_failed_one_may_be_named_in_its_place():
    """As NNI 3.0 does; the task that succeeded is not lost."""
    tuner = DartsTuner(searches=2)
    tuner.update_search_space({})
    sent, timers = {}, []
    tuner.later = timers.append
    first, second = tuner.generate_multiple_parameters([0, 1, 2], st_callback=sent.__setitem__)
    tuner.trial_end(1, False)  # actually trial 0 failed
    assert sent == {2: second}
    tuner.receive_trial_result(1, second, {'default': 0.5, 'architecture': {'edge': 'a'}})
    tuner.trial_end(0, True)
    assert [Task.of(parameters).phase for parameters in tuner.generate_multiple_parameters([3, 4])] == ['evaluate']
    tuner.trial_end(2, False)
    tuner.trial_end(3, False)
    for call in timers:
        call()
    handed_out = [Task.of(parameters) for parameters in sent.values()]
    assert Task.of(first) in handed_out or tuner.selection.next() == Task.of(first)


def test_a_result_may_arrive_after_the_end_of_its_trial(monkeypatch):
    monkeypatch.setattr('nni_darts_ext.nnictl.tuner.GRACE', 0.2)
    tuner, sent = DartsTuner(searches=2), {}
    tuner.update_search_space({})
    first, second = tuner.generate_multiple_parameters([0, 1, 2, 3, 4], st_callback=sent.__setitem__)
    for i in range(2):
        tuner.trial_end(i, True)
    assert sent == {}
    tuner.receive_trial_result(0, first, {'default': 0.5, 'architecture': {'edge': 'a'}})
    assert [parameters['phase'] for parameters in sent.values()] == ['evaluate']
    end = time.time() + 30
    while len(sent) < 2:
        assert time.time() < end
        time.sleep(0.05)
    assert sent[3] == second and tuner.selection.next() is None


def test_what_the_assessor_stopped_is_left_out_at_once(monkeypatch):
    monkeypatch.setattr(assessor, 'STOPPED', set())
    tuner = DartsTuner(searches=1)
    tuner.update_search_space({})
    parameters, = tuner.generate_multiple_parameters([0])
    assessor.STOPPED.add(Task.of(parameters).key())
    tuner.trial_end(0, False)
    assert tuner.selection.is_done and tuner.generate_multiple_parameters([1]) == []


def test_a_resumed_experiment_does_nothing_twice():
    first = DartsTuner(searches=3, evaluations=2)
    first.update_search_space({'order': {'_type': 'choice', '_value': [1, 2]}})
    data = []
    outcome = {'search': {'default': 0.5, 'architecture': {'edge': 'a'}}, 'evaluate': {'default': 0.7}}
    for i in range(5):
        parameters, = first.generate_multiple_parameters([i])
        first.receive_trial_result(i, parameters, outcome[parameters['phase']])
        first.trial_end(i, True)
        data.append({'parameter': parameters, 'value': outcome[parameters['phase']]})
    second = DartsTuner(searches=3, evaluations=2)
    second.update_search_space({'order': {'_type': 'choice', '_value': [1, 2]}})
    second.import_data(data)
    rest = second.generate_multiple_parameters(list(range(20)))
    assert len(rest) == 3 and not [parameters for parameters in rest if {'parameter': parameters} in data]
    assert second.selection.best.accuracies == {0: 0.7, 1: 0.7}


@pytest.mark.parametrize('readable', [True, False])
def test_a_resumed_experiment_does_only_what_nni_itself_does_not_resume(readable, tmp_path, monkeypatch, caplog):
    """As NNI 2.10.1 and 3.0 do."""
    monkeypatch.setattr('nni_darts_ext.nnictl.tuner.LOOK', 0.05)
    monkeypatch.setenv('NNI_LOG_DIRECTORY', str(tmp_path / 'log'))
    searches = [Task('search', seed) for seed in range(4)]
    trials = [(name, searches[int(name[0])], None) for name in ('0', '1', '2', '3', '1 again')]
    experiment(tmp_path, trials[:4], failed=['0', '3'], running=['1', '2'])
    if not readable:
        (tmp_path / 'db' / 'nni.sqlite').write_text('no database')
    tuner, sent = DartsTuner(searches=4), []
    tuner.update_search_space({})
    tuner.import_data([])
    handed_out = tuner.generate_multiple_parameters([4, 5, 6, 7], st_callback=lambda i, parameters: sent.append((i, parameters)))
    assert [Task.of(parameters).seed for parameters in handed_out] == ([0, 3] if readable else [0, 1, 2, 3])
    assert ('cannot be read' in caplog.text) != readable
    if readable:
        tuner.import_data([{'parameter': searches[2].parameters(), 'value': {'default': 0.5, 'architecture': {'edge': 'a'}}}])
        time.sleep(0.3)
        assert [Task.of(parameters).phase for _, parameters in sent] == ['evaluate']  # the other one has not ended
        shutil.rmtree(str(tmp_path / 'db'))
        experiment(tmp_path, trials, failed=['0', '1', '1 again', '3'])
        end = time.time() + 30
        while len(sent) < 2 and time.time() < end:
            time.sleep(0.05)
        assert [(i, Task.of(parameters).seed) for i, parameters in sent[1:]] == [(7, 1)]


def through_the_manager(*values):
    """Values after NNI's server, written in JavaScript, has read and written them as JSON."""
    node = os.path.join(next(iter(nni_node.__path__)), 'node')
    ran = subprocess.run([node, '-e', 'console.log(JSON.stringify(JSON.parse(process.argv[1])))', json.dumps(values)],
                         stdout=subprocess.PIPE, universal_newlines=True, check=True)
    return json.loads(ran.stdout)


def test_a_resumed_experiment_does_nothing_twice_where_numbers_that_are_drawn_are_whole():
    space = {'batch_size': {'_type': 'quniform', '_value': [16, 64, 16]}, 'momentum': {'_type': 'choice', '_value': [1.0, 0.5]}}
    first, second = DartsTuner(searches=3), DartsTuner(searches=3)
    for tuner in (first, second):
        tuner.update_search_space(space)
    handed_out = first.generate_multiple_parameters(list(range(6)))
    assert len(handed_out) == 6
    assert all(type(parameters['batch_size']) is int and parameters['batch_size'] % 16 == 0 for parameters in handed_out)
    second.import_data(through_the_manager(*({'parameter': parameters, 'value': {
        'default': 0.5, 'architecture': {'edge': 'a'}, 'task': parameters}} for parameters in handed_out)))
    assert [Task.of(parameters).phase for parameters in second.generate_multiple_parameters(list(range(6)))] == ['evaluate']


def test_keys_do_not_change_on_the_way_through_the_manager():
    numbers = [0, -0.0, 0.0, 1, 1.0, 2.5, 1e-7, 1e21, 1e20, -1e20, 2**53 + 1, 2**60, 2.0**60, 1e-320, True]
    tasks = [Task('search', 0, None, {'x': x, 'nested': [{'y': (x, 'a', None)}]}) for x in numbers]
    assert [Task.of(came).key() for came in through_the_manager(*(task.parameters() for task in tasks))] == [
        task.key() for task in tasks]
    assert len({task.key() for task in tasks}) == 11  # of 15: equal doubles are one task


def test_a_resumed_experiment_goes_by_what_results_say_of_themselves():
    tuner = DartsTuner(searches=2)
    tuner.update_search_space({})
    tuner.import_data([{'parameter': {'phase': 'search', 'seed': 1}, 'value': {
        'default': 0.5, 'architecture': {'edge': 'a'}, 'task': {'phase': 'search', 'seed': 0}}}])
    assert Task('search', 1).parameters() in tuner.generate_multiple_parameters([0, 1])


def test_every_combination_is_searched_with_every_seed_and_what_is_drawn_is_drawn_again_alike():
    space = {'order': {'_type': 'choice', '_value': [1, 2]}, 'epochs': {'_type': 'choice', '_value': [10, 20]},
             'arc_learning_rate': {'_type': 'loguniform', '_value': [1e-4, 1e-2]}}
    drawn = [list(combinations(space, seed)) for seed in range(3)]
    assert [(one['order'], one['epochs']) for one in drawn[0]] == [(1, 10), (1, 20), (2, 10), (2, 20)]
    assert len({one['arc_learning_rate'] for of_seed in drawn for one in of_seed}) == 12
    assert all(1e-4 <= one['arc_learning_rate'] <= 1e-2 for of_seed in drawn for one in of_seed)
    assert [list(combinations(space, seed)) for seed in range(3)] == drawn
    tuner = DartsTuner(searches=3)
    tuner.update_search_space(space)
    assert len(tuner.generate_multiple_parameters(list(range(20)))) == 12


def test_methods_may_vary_and_are_the_same_on_the_way_through_the_manager():
    methods = ['', 'EarlyStopping', 'Shrinking:schedule={10: 5, 20: 3}', ['EarlyStopping', 'mine.Own:a="b, c",b=[1.0]'], []]
    space = {'methods': {'_type': 'choice', '_value': methods}}
    first, second = DartsTuner(searches=2), DartsTuner(searches=2)
    for tuner in (first, second):
        tuner.update_search_space(*through_the_manager(space))
    handed_out = first.generate_multiple_parameters(list(range(20)))
    assert [(task['seed'], task['methods']) for task in handed_out] == [(seed, text) for seed in (0, 1) for text in methods]
    arrived = through_the_manager(*handed_out)
    assert arrived == handed_out
    second.import_data([{'parameter': parameters, 'value': {'default': 0.5, 'architecture': {'edge': 'a'}, 'task': parameters}}
                        for parameters in arrived])
    assert [Task.of(parameters).phase for parameters in second.generate_multiple_parameters(list(range(20)))] == ['evaluate']


@pytest.mark.parametrize('space, message', [
    ({'seed': {'_type': 'choice', '_value': [1]}}, "varies 'seed', a name that DartsTuner reserves"),
    ({'random_architecture': {'_type': 'choice', '_value': [1]}}, "varies 'random_architecture', a name that DartsTuner"),
    ({'order': [1, 2]}, r"\[1, 2\] for 'order'"),
    ({'order': {'_type': 'chance', '_value': [1]}}, "chance"),
])
def test_a_search_space_that_cannot_be_searched_is_refused(space, message):
    with pytest.raises(SearchSpaceError, match=message):
        DartsTuner().update_search_space(space)


@pytest.mark.parametrize('arguments, message', [
    ({'searches': 0}, r'searches=0 in classArgs. Expected a whole number, at least 1'),
    ({'searches': 2.5}, r'searches=2.5'),
    ({'evaluations': True}, 'evaluations=True'),
    ({'final_trainings': -1}, 'final_trainings=-1 .* at least 0'),
    ({'random_architectures': -2}, 'random_architectures=-2 in classArgs. Expected a whole number, at least 0'),
    ({'optimize_mode': 'max'}, "optimize_mode='max' .* 'maximize', 'minimize'"),
    ({'search': 3}, 'search in classArgs: DartsTuner has no such argument. It has searches, evaluations'),
])
def test_nnictl_and_the_tuner_refuse_the_same_arguments(arguments, message):
    with pytest.raises(ClassArgsError, match=message):
        DartsTunerValidator().validate_class_args(**arguments)
    with pytest.raises((ClassArgsError, TypeError)):
        DartsTuner(**arguments)


def test_the_validator_takes_what_is_right():
    DartsTunerValidator().validate_class_args(searches=1, evaluations=2, final_trainings=3, optimize_mode='minimize',
                                               random_architectures=4)
