import pytest
from nni.assessor import AssessResult

from nni_darts_ext.errors import ClassArgsError
from nni_darts_ext.nnictl import assessor
from nni_darts_ext.nnictl.assessor import DartsAssessor, DartsAssessorValidator
from nni_darts_ext.nnictl.task import Task


@pytest.fixture(autouse=True)
def _nothing_stopped(monkeypatch):
    monkeypatch.setattr(assessor, 'STOPPED', set())


def epochs(*skip_shares, movement=0.1):
    return [{'default': 0.5, 'skip_share': share, 'entropy': 0.9, 'movement': movement, 'task': {'phase': 'search', 'seed': 7}}
            for share in skip_shares]


def is_good(history, **arguments):
    return DartsAssessor(**arguments).assess_trial('trial', history) is AssessResult.Good


def test_a_search_that_skip_connections_take_over_is_stopped_and_the_tuner_learns_which():
    assert is_good(epochs(0.5, 0.5)) and not assessor.STOPPED
    assert not is_good(epochs(0.5, 0.5, 0.5))
    assert {Task('search', 7).key()} == assessor.STOPPED


def test_it_takes_several_epochs_in_a_row_of_more_than_the_share():
    assert is_good(epochs(0.5, 0.25, 0.5, 0.5))
    assert is_good(epochs(0.5, 0.5, 0.5), max_skip_share=0.5)
    assert not is_good(epochs(0.5), patience=1)


def test_logits_that_do_not_move_are_noticed():
    still = epochs(0, 0, 0, movement=1e-9)
    del still[0]['movement']  # the first epoch has nothing to compare with
    assert is_good(still)
    assert not is_good(still, patience=2)
    assert is_good(still, patience=2, min_movement=0)


def test_the_first_epochs_can_be_left_alone():
    assert is_good(epochs(0.5, 0.5, 0.5), start_step=1)
    assert not is_good(epochs(0.5, 0.5, 0.5, 0.5), start_step=1)


def test_trials_that_are_no_searches_are_left_alone():
    assert is_good([0.1, 0.2, 0.3, 0.4]) and is_good([{'default': 0.1}] * 5)


@pytest.mark.parametrize('arguments, message', [
    ({'max_skip_share': 1.5}, r'max_skip_share=1.5 .* at most 1'), ({'min_movement': -1}, 'min_movement=-1'),
    ({'patience': 0}, 'patience=0'), ({'start_step': 'two'}, "start_step='two'"), ({'share': 1}, 'share in classArgs'),
])
def test_bad_arguments_are_named(arguments, message):
    with pytest.raises(ClassArgsError, match=message):
        DartsAssessorValidator().validate_class_args(**arguments)
