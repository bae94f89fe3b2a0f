import logging

import pytest

from nni_darts_ext.core.derivation import derive, unread
from nni_darts_ext.core.export import to_classic, to_sample
from nni_darts_ext.core.space import Edge, InputNode, SearchSpace


def space(*nodes, edges='abc', names=('x', 'y')):
    return SearchSpace([*(Edge(key, names) for key in edges), *nodes])


STRONG_C_THEN_A = {'a': [0.1, 0.6, 0.3], 'b': [0.4, 0.3, 0.3], 'c': [0.8, 0.1, 0.1]}


def test_the_strongest_edges_stay_with_their_best_candidate():
    derived = derive(space(InputNode('i', ('a', 'b', 'c'), 2)), STRONG_C_THEN_A)
    assert derived.decisions == {'i': [True, False, True], 'a': [False, True], 'b': [False, False], 'c': [True, False]}
    assert derived.strengths == {'a': 0.6, 'b': 0.4, 'c': 0.8}


def test_an_edge_that_any_input_choice_selected_stays():
    # b loses in i, but is the only candidate of j. NNI's own class drops it, and the derived network computes None.
    derived = derive(space(InputNode('i', ('a', 'b'), 1), InputNode('j', ('b',), 1)), STRONG_C_THEN_A)
    assert derived.decisions['b'] == [True, False]
    assert derived.decisions['c'] == [True, False]  # no InputNode names it, so it is not dropped


def test_without_n_chosen_every_input_stays():
    derived = derive(space(InputNode('i', ('a', 'b', ''), None)), STRONG_C_THEN_A)
    assert derived.decisions['i'] == [True, True, True]
    assert all(any(derived.decisions[key]) for key in 'abc')


def test_a_source_without_layer_choice_counts_0_and_ties_go_to_the_lower_index():
    node = InputNode('i', ('', 'b', 'a', ''), 3)
    assert derive(space(node), STRONG_C_THEN_A).decisions['i'] == [True, True, True, False]
    even = {key: [0.25, 0.25, 0.5] for key in 'abc'}
    derived = derive(space(InputNode('i', ('c', 'b', 'a'), 2)), even)
    assert derived.decisions['i'] == [True, True, False]
    assert derived.best == {'a': 0, 'b': 0, 'c': 0}


def test_the_zero_op_wins_only_when_told_so():
    probabilities = {'a': [0.3, 0.1, 0.6], 'b': [0.2, 0.1, 0.1], 'c': [0.2, 0.1, 0.1]}
    one_of_two = space(InputNode('i', ('a', 'b'), 1))
    assert derive(one_of_two, probabilities).decisions['i'] == [True, False]
    derived = derive(one_of_two, probabilities, zero_op_wins=True)
    assert derived.decisions == {'i': [False, True], 'a': [False, False], 'b': [True, False], 'c': [True, False]}


def test_an_edge_of_cut_candidates_is_reported(caplog):
    with caplog.at_level(logging.WARNING):
        derived = derive(space(edges='a'), {'a': [0.0, 0.0, 1.0]})
    assert derived.decisions['a'] == [True, False]  # as NNI's class does
    assert "'a'" in caplog.text


@pytest.mark.parametrize('names, best, expected', [
    (('x', 'y'), 1, 'y'), (('0', '1'), 1, 1), ((0, 1), 1, 1), (('x', 'x'), 1, 1), (('1', 'y'), 0, '1')])
def test_names_are_exported_where_they_tell_candidates_apart(names, best, expected):
    probabilities = [0.1, 0.1, 0.8]
    probabilities[best] = 0.2
    one = space(edges='a', names=names)
    assert to_classic(one, derive(one, {'a': probabilities}))['a'] == expected


def test_classic_form_of_inputs():
    def inputs(choose_from, n_chosen):
        some = space(InputNode('i', choose_from, n_chosen))
        return to_classic(some, derive(some, STRONG_C_THEN_A))['i']
    assert inputs(('a', 'b', 'c'), 2) == ['a', 'c']
    assert inputs(('a', 'b', 'c'), 1) == 'c'
    assert inputs(('a', 'b', 'c'), 0) == []
    assert inputs(('a', '', ''), 2) == [0, 1]


def test_sample_form_names_a_candidate_for_every_edge():
    some = space(InputNode('i', ('a', 'b', 'c'), 2))
    assert to_sample(some, derive(some, STRONG_C_THEN_A)) == {'a': 'y', 'b': 'x', 'c': 'x', 'i': [0, 2]}


def test_where_the_zero_op_wins_input_nodes_keep_fewer_inputs_but_one():
    probabilities = {'a': [0.3, 0.1, 0.6], 'b': [0.2, 0.1, 0.7], 'c': [0.4, 0.3, 0.3]}
    two_of_three = space(InputNode('i', ('a', 'b', 'c'), 2))
    assert derive(two_of_three, probabilities, zero_op_wins=True).decisions['i'] == [False, False, True]
    assert derive(two_of_three, probabilities, zero_op_wins=True, exactly=True).decisions['i'] == [True, False, True]
    lost = space(InputNode('i', ('b', 'a'), None), InputNode('j', ('c', 'a'), 2))
    derived = derive(lost, probabilities, zero_op_wins=True)
    assert derived.decisions['i'] == [False, True] and derived.decisions['j'] == [True, False]
    assert derived.decisions['a'] == [True, False] and derived.decisions['b'] == [False, False]


READERS = {'a': {'b', ('i', 0)}, 'b': {('i', 1)}, 'c': {None, ('i', 2)}}


@pytest.mark.parametrize('chosen, dropped', [
    ([True, False, False], {'b'}), ([False, True, False], set()), ([False, False, True], {'a', 'b'})])
def test_an_edge_stays_as_long_as_anything_reads_it(chosen, dropped):
    some = space(InputNode('i', ('a', 'b', 'c'), 1))
    assert unread(some, {'i': chosen}, READERS) == dropped
    some.readers = READERS
    strong = {key: [0.9 if is_chosen else 0.4, 0.05, 0.05] for key, is_chosen in zip('abc', chosen)}
    decisions = derive(some, strong).decisions
    assert {key for key in 'abc' if not any(decisions[key])} == dropped


def test_readers_that_are_not_known_are_input_nodes_alone():
    some = space(InputNode('i', ('a', 'b', ''), 1))
    assert unread(some, {'i': [True, False, False]}, None) == {'b'}  # c counts as read
    assert unread(some, {}, None) == set()


@pytest.mark.parametrize('readers', [{'a': {None}, 'b': set(), 'c': set()}, {'a': {'b'}, 'b': {None}, 'c': set()}])
def test_the_zero_op_wins_no_edge_that_anything_else_reads(readers):
    some = space(InputNode('i', ('a', 'b'), None))
    some.readers = readers
    derived = derive(some, {'a': [0.3, 0.1, 0.6], 'b': [0.6, 0.1, 0.3], 'c': [0.6, 0.1, 0.3]}, zero_op_wins=True)
    assert derived.decisions['i'] == [True, True] and derived.decisions['a'] == [True, False]
