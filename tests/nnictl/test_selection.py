"""The order of tasks and the ranking of results, without NNI."""

import random

import pytest

from nni_darts_ext.nnictl.selection import Selection, rank
from nni_darts_ext.nnictl.task import Task

SEARCHES = [Task('search', seed) for seed in range(3)]


def found(name, accuracy=0.5):
    return {'default': accuracy, 'architecture': {'edge': name}}


def evaluation(name, seed=0):
    return Task('evaluate', seed, {'edge': name})


def begun(**options):
    selection = Selection(**options)
    selection.add(SEARCHES)
    assert [selection.next() for _ in range(4)] == [*SEARCHES, None]
    return selection


def test_an_architecture_is_evaluated_as_soon_as_it_is_found_and_before_further_searches():
    selection = Selection(evaluations=2)
    selection.add(SEARCHES)
    assert selection.next() == SEARCHES[0]
    selection.result(SEARCHES[0], found('a'))
    assert [selection.next() for _ in range(3)] == [evaluation('a', 0), evaluation('a', 1), SEARCHES[1]]


def test_an_architecture_that_several_searches_found_is_evaluated_once():
    selection = begun()
    for search in SEARCHES:
        selection.result(search, found('a'))
    assert [selection.next(), selection.next()] == [evaluation('a'), None]


def test_the_best_architecture_is_trained_long_once_everything_else_is_done():
    selection = begun(finals=2)
    for search, name in zip(SEARCHES, 'abc'):
        selection.result(search, found(name))
    for name, accuracy in zip('abc', (0.7, 0.9, 0.8)):
        assert not selection.is_done and selection.next() == evaluation(name)
        selection.result(evaluation(name), {'default': accuracy})
    assert [selection.next() for _ in range(3)] == [Task('final', 0, {'edge': 'b'}), Task('final', 1, {'edge': 'b'}), None]
    selection.result(Task('final', 0, {'edge': 'b'}), 0.95)
    assert not selection.is_done
    selection.result(Task('final', 1, {'edge': 'b'}), 0.97)
    assert selection.is_done


def test_the_smaller_result_wins_where_it_is_the_better_one():
    selection = begun(maximize=False)
    for search, name in zip(SEARCHES, 'abc'):
        selection.result(search, found(name))
        selection.result(evaluation(name), {'a': 3.0, 'b': 1.0, 'c': 2.0}[name])
    assert selection.best.architecture == {'edge': 'b'}


def test_a_task_is_tried_twice_and_then_left_out():
    selection = begun()
    assert selection.try_again(SEARCHES[0]) and selection.next() == SEARCHES[0]
    assert not selection.try_again(SEARCHES[0])
    for search in SEARCHES:
        selection.skip(search)
    assert selection.is_done and selection.best is None


def test_a_late_result_counts_and_makes_the_second_try_needless():
    selection = begun()
    assert selection.try_again(SEARCHES[0])
    selection.result(SEARCHES[0], found('a'))
    assert [selection.next(), selection.next()] == [evaluation('a'), None]
    selection.skip(SEARCHES[1])
    selection.result(SEARCHES[1], found('b'))
    assert selection.next() == evaluation('b')


@pytest.mark.parametrize('value', [None, 'text', True, float('nan'), {}, {'default': 0.5}, {'architecture': {'edge': 'a'}},
                                   {'default': 0.5, 'architecture': {}},
                                   {'default': float('inf'), 'architecture': {'edge': 'a'}}])
def test_what_is_no_result_of_a_search_is_none(value):
    selection = begun()
    selection.result(SEARCHES[0], value)
    selection.result(Task('search', 99), value)  # the result of an unknown trial
    assert not selection.has_result(SEARCHES[0]) and selection.next() is None
    for search in SEARCHES:
        selection.skip(search)
    assert selection.is_done


def test_a_task_is_known_by_its_parameters_after_they_have_been_through_a_database():
    task = Task('search', 3, None, {'arc_learning_rate': 3e-4, 'order': 2})
    assert Task.of(dict(reversed(list(task.parameters().items())))).key() == task.key()
    assert Task.of({}) == Task.of(None) == Task('search', 0)


def test_what_is_withheld_comes_when_it_is_released_and_only_without_a_result():
    selection = Selection()
    selection.add(SEARCHES[:1])
    selection.withhold([evaluation('a'), *SEARCHES[:2]])
    selection.add(SEARCHES)
    assert selection.next() == SEARCHES[2] and selection.next() is None
    selection.result(SEARCHES[1], found('a'))
    selection.result(SEARCHES[2], found('b'))
    assert selection.next() == evaluation('b') and selection.next() is None and not selection.is_done
    for task in (*SEARCHES[:2], evaluation('a'), evaluation('c')):
        selection.release(task)
    assert [selection.next() for _ in range(3)] == [SEARCHES[0], evaluation('a'), None]


@pytest.mark.parametrize('maximize', [True, False])
def test_the_best_one_is_that_of_the_ranking_after_each_result(maximize):
    """Also where results are equal, missing, late or repeated."""
    draw = random.Random(0)
    for _ in range(50):
        selection, results = Selection(2, 1, maximize), []
        tasks = [evaluation(draw.choice('abcd'), draw.randrange(2)) for _ in range(12)]
        selection.add(tasks)
        for task in tasks:
            if draw.random() < 0.2:
                selection.skip(task)
            else:
                results.append((task, draw.choice([0.1, 0.2, 0.3])))
                selection.result(*results[-1])
            assert selection.best == (rank(results, maximize) or [None])[0]


def test_the_final_trainings_that_a_resumed_experiment_lacks_are_made_up_for():
    """Also if there was a task without a result when the first of them ended."""
    selection = begun(finals=2)
    selection.result(Task('final', 0, {'edge': 'a'}), 0.9)
    selection.result(SEARCHES[0], found('a'))
    selection.result(evaluation('a'), 0.5)
    for search in SEARCHES[1:]:
        selection.skip(search)
    assert [selection.next(), selection.next()] == [Task('final', 1, {'edge': 'a'}), None]


def test_the_ranking_shows_what_has_no_result_yet_last():
    ranked = rank([(SEARCHES[0], found('a')), (SEARCHES[1], found('b')), (SEARCHES[2], None), (evaluation('b'), 0.5),
                   (evaluation('b', 1), 0.7)])
    assert [one.architecture['edge'] for one in ranked] == ['b', 'a']
    assert ranked[0].mean == pytest.approx(0.6) and ranked[1].mean is None


def of_random(i, seed=0):
    return Task('evaluate', seed, random_architecture=i)


def test_random_architectures_are_trained_as_often_as_found_ones_and_only_once_all_searches_have_begun():
    selection = Selection(evaluations=2, randoms=2)
    selection.add(SEARCHES[:2])
    assert [selection.next() for _ in range(3)] == [*SEARCHES[:2], of_random(0)]
    selection.result(SEARCHES[0], found('a'))
    assert [selection.next() for _ in range(6)] == [
        evaluation('a', 0), evaluation('a', 1), of_random(0, 1), of_random(1, 0), of_random(1, 1), None]
    assert selection.try_again(of_random(0)) and selection.next() == of_random(0)


def test_the_final_training_waits_for_random_architectures_and_is_that_of_the_best_found_one():
    selection = Selection(finals=1, randoms=2)
    selection.add(SEARCHES[:1])
    selection.result(SEARCHES[0], found('a'))
    selection.result(evaluation('a'), 0.5)
    selection.result(of_random(0), found('b', 0.9))
    selection.result(of_random(1), 0.9)  # which one, it does not say
    assert not selection.has_result(of_random(1))
    assert [selection.next(), selection.next()] == [of_random(1), None]
    selection.skip(of_random(1))
    assert selection.next() == Task('final', 0, {'edge': 'a'})
    assert selection.best.architecture == {'edge': 'a'}


def test_found_and_random_architectures_are_ranked_apart():
    results = [(SEARCHES[0], found('a')), (evaluation('a'), 0.5), (of_random(0), found('a', 0.6)),
               (of_random(1), found('b', 0.8)), (of_random(1, 1), found('b', 0.7)), (of_random(2), None)]
    assert [(one.architecture['edge'], one.accuracies) for one in rank(results)] == [('a', {0: 0.5})]
    assert [(one.architecture['edge'], one.accuracies) for one in rank(results, randoms=True)] == [
        ('b', {0: 0.8, 1: 0.7}), ('a', {0: 0.6})]
    assert [one.architecture['edge'] for one in rank(results, maximize=False, randoms=True)] == ['a', 'b']
