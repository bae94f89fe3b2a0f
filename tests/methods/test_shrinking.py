import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from nni_darts_ext import TrainingError
from nni_darts_ext.core.logits import Logits
from nni_darts_ext.core.search import Search
from nni_darts_ext.core.space import Edge, SearchSpace
from nni_darts_ext.methods import At, Shrinking
from nni_darts_ext.methods.shrinking import shrink


def search_of(**logits):
    """For each edge the logits of its candidates and the zero op."""
    search = Search()
    search.space = SearchSpace([Edge(key, tuple(f'op{i}' for i in range(len(values) - 1)), key)
                                for key, values in logits.items()])
    search.choices = Logits()
    for key, values in logits.items():
        search.choices[key] = nn.Parameter(torch.tensor(values))
    return search


def begun(schedule, epochs=30, **logits):
    """The search, and what starts an epoch."""
    search, method = search_of(**logits), Shrinking(schedule)
    method.begin(At(search, epochs=epochs))
    return search, lambda epoch: method.before_epoch(At(search, epoch=epoch, epochs=epochs))


def test_the_weakest_go_at_their_epochs_and_of_equals_the_later_ones():
    search, start = begun({3: 3, 5: 1}, a=[0.5, 0.1, 0.4, 0.2, -9.0], b=[0.1, 0.2, 5.0], c=[1.0, 1.0, 1.0, 1.0, 1.0, 1.0])
    cuts = []
    for epoch in range(7):
        start(epoch)
        cuts.append([search.choices.cuts(key) for key in 'abc'])
    assert cuts[:3] == [[(), (), ()]] * 3
    assert cuts[3:5] == [[(1,), (), (3, 4)]] * 2
    assert cuts[5:] == [[(1, 2, 3), (0,), (1, 2, 3, 4)]] * 2


def test_what_is_cut_already_counts_and_what_is_restored_may_go_again():
    search, start = begun({1: 2}, a=[0.5, 0.1, 0.4, 0.2, 0.0])
    search.cut('a', 'op0')
    start(1)
    assert search.choices.cuts('a') == (0, 1)
    search.restore('a', 0)
    search.choices['a'].data[0] = 9.0
    start(2)
    assert search.choices.cuts('a') == (1, 3)


def test_a_search_that_goes_on_later_has_what_it_would_have_had():
    search, start = begun({3: 3, 5: 1}, a=[0.5, 0.1, 0.4, 0.2, 0.0])
    start(8)
    assert search.choices.cuts('a') == (1, 2, 3)


def test_the_log_says_what_goes(caplog):
    _, start = begun({1: 1}, a=[0.5, 0.1, 0.4, 0.0])
    with caplog.at_level('INFO', logger='nni_darts_ext'):
        start(1)
        start(2)
    assert [record.getMessage() for record in caplog.records] == [
        "From epoch 1 on, LayerChoice 'a' runs without 'op1', 'op2'."]


@settings(deadline=None, max_examples=50)
@given(st.lists(st.integers(-3, 3), min_size=2, max_size=9), st.sets(st.integers(0, 8)), st.integers(1, 9))
def test_as_many_as_can_stay_stay_and_none_weaker_than_one_that_goes(logits, cut_before, n):
    search = search_of(a=[float(value) for value in logits])
    before = {i for i in cut_before if i < len(logits) - 1}
    for i in before:
        search.choices.cut('a', i)
    shrink(search, n)
    gone = set(search.choices.cuts('a'))
    stay = set(range(len(logits) - 1)) - gone
    assert before <= gone and len(logits) - 1 not in gone
    assert len(stay) == min(n, len(logits) - 1 - len(before))
    assert all((logits[i], -i) > (logits[j], -j) for i in stay for j in gone - before)


@pytest.mark.parametrize('schedule, message', [
    ([5, 3], r'Shrinking\(\[5, 3\]\) has no schedule.*such as'), ({}, 'no schedule'), (5, 'no schedule'),
    ({0: 3}, 'the entry 0: 3'), ({3: 0}, 'the entry 3: 0'), ({1.5: 2}, 'the entry 1.5: 2'), ({2: True}, 'the entry 2: True'),
    ({3: 3, 6: 3}, 'keeps 3 candidates from epoch 3 on and 3 from epoch 6 on.*fewer'), ({9: 5, 3: 2}, 'keeps 2 .* 3 on and 5 '),
])
def test_what_is_no_schedule_is_named(schedule, message):
    with pytest.raises(TrainingError, match=message):
        Shrinking(schedule)


def test_an_epoch_that_never_comes_and_a_space_without_edges_are_named_when_the_search_begins():
    begun({29: 1}, a=[0.0, 0.0])
    begun({30: 1}, epochs=None, a=[0.0, 0.0])
    with pytest.raises(TrainingError, match='start of epoch 30, but the search ends with epoch 29'):
        begun({10: 2, 30: 1}, a=[0.0, 0.0])
    search = Search()
    search.space = SearchSpace([], may_lack_edges=True)
    with pytest.raises(TrainingError, match='nothing to drop'):
        Shrinking({1: 1}).begin(At(search, epochs=30))
