import random

import nni
import pytest
import torch
from nni.assessor import AssessResult
from spaces import TWO_NODES, Cells

from nni_darts_ext import DartsMutator
from nni_darts_ext.core.criteria import Criteria
from nni_darts_ext.errors import ClassArgsError
from nni_darts_ext.nnictl import assessor
from nni_darts_ext.nnictl.assessor import DartsAssessor, DartsAssessorValidator
from nni_darts_ext.nnictl.task import Task
from nni_darts_ext.protocol import Trial
from nni_darts_ext.run import Run
from nni_darts_ext.run.recorder import Recorder
from nni_darts_ext.run.verdict import verdict


@pytest.fixture(autouse=True)
def _nothing_stopped(monkeypatch):
    monkeypatch.setattr(assessor, 'STOPPED', set())


def epochs(*skip_shares, movement=0.1):
    return [{'default': 0.5, 'skip_share': share, 'entropy': 0.9, 'movement': movement, 'task': {'phase': 'search', 'seed': 7}}
            for share in skip_shares]


def is_good(history, **arguments):
    return DartsAssessor(**arguments).assess_trial('trial', history) is AssessResult.Good


def test_a_search_that_skip_connections_take_over_is_stopped_and_the_tuner_learns_which():
    assert is_good(epochs(0.6, 0.6)) and not assessor.STOPPED
    assert not is_good(epochs(0.6, 0.6, 0.6))
    assert {Task('search', 7).key()} == assessor.STOPPED


def test_it_takes_several_epochs_in_a_row_of_more_than_the_share():
    assert is_good(epochs(0.6, 0.5, 0.6, 0.6)) and is_good(epochs(0.5, 0.5, 0.5))
    assert not is_good(epochs(0.5, 0.5, 0.5), max_skip_share=0.25)
    assert not is_good(epochs(0.6), patience=1)


def test_probabilities_that_do_not_move_are_noticed():
    still = epochs(0, 0, 0, movement=1e-9)
    del still[0]['movement']  # the first epoch has nothing to compare with
    assert is_good(still)
    assert not is_good(still, patience=2)
    assert is_good(still, patience=2, min_movement=0)
    assert is_good([{**epoch, 'entropy': 0.01} for epoch in still], patience=2)  # decided


def test_a_warm_up_whose_first_logits_are_skip_connections_is_not_stopped():
    warm_up = epochs(*[0.6] * 5)
    for epoch in warm_up:
        del epoch['movement']
    assert is_good(warm_up) and is_good(warm_up + epochs(0.6, 0.6))
    assert not is_good(warm_up + epochs(0.6, 0.6, 0.6))
    assert not is_good(warm_up[:1] + epochs(0.6, 0.6))  # the first epoch has nothing to compare with


def test_the_first_epochs_can_be_left_alone():
    assert is_good(epochs(0.6, 0.6, 0.6), start_step=1)
    assert not is_good(epochs(0.6, 0.6, 0.6, 0.6), start_step=1)


def test_trials_that_are_no_searches_are_left_alone():
    assert is_good([0.1, 0.2, 0.3, 0.4]) and is_good([{'default': 0.1}] * 5)


@pytest.mark.parametrize('seed', range(3))
def test_a_trial_is_stopped_exactly_where_the_verdict_on_its_run_says_so(seed, tmp_path, monkeypatch):
    told, drawn = [], random.Random(seed)
    monkeypatch.setattr(nni, 'report_intermediate_result', told.append)
    mutator = DartsMutator(Cells(TWO_NODES, named=True))
    trial = Trial(Task('search', seed), ['op1'])
    stopped = []
    with Recorder(tmp_path / 'run', mutator, skip_connections=['op1']) as recorder:
        for epoch in range(12):
            rests = drawn.random() < 0.6
            for logits in mutator.parameters():
                with torch.no_grad():
                    logits.add_(0.0 if rests else torch.rand(len(logits)))
                    logits[1] += 0 if rests else drawn.choice([0, 1])
            trial.epoch(0.5, mutator)
            recorder.epoch(epoch, {})
            found = verdict(Run.read(tmp_path / 'run'))
            stopped.append(found.has_collapsed or found.unmoved >= Criteria().patience)
            assert is_good(told) != stopped[-1]
    assert True in stopped and False in stopped


def test_a_warm_up_is_not_stopped(monkeypatch):
    told = []
    monkeypatch.setattr(nni, 'report_intermediate_result', told.append)
    trial, mutator = Trial(Task('search', 0)), DartsMutator(Cells(TWO_NODES, named=True))
    for _ in range(5):
        trial.epoch(0.5, mutator)
    assert is_good(told)


@pytest.mark.parametrize('arguments, message', [
    ({'max_skip_share': 1.5}, r'max_skip_share=1.5 .* at most 1'), ({'min_movement': -1}, 'min_movement=-1'),
    ({'patience': 0}, 'patience=0'), ({'start_step': 'two'}, "start_step='two'"), ({'share': 1}, 'share in classArgs'),
])
def test_bad_arguments_are_named(arguments, message):
    with pytest.raises(ClassArgsError, match=message):
        DartsAssessorValidator().validate_class_args(**arguments)
