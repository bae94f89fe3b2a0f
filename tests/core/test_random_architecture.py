"""The draw of random architectures."""

import math
from collections import Counter

import pytest

from nni_darts_ext.core.export import to_classic
from nni_darts_ext.core.random_architecture import draw
from nni_darts_ext.core.space import Edge, InputNode, SearchSpace

SPACE = SearchSpace([*(Edge(key, ('x', 'y', 'z')) for key in 'abcd'), InputNode('i', ('a', 'b', 'c', ''), 2),
                     InputNode('all', ('d', ''), None)])
N = 4000


@pytest.fixture(scope='module')
def drawn():
    return [to_classic(SPACE, draw(SPACE, seed)) for seed in range(N)]


def is_uniform(counts, n_kinds):
    """Whether each kind was drawn as often as the others, to four standard deviations."""
    n = sum(counts.values())
    return len(counts) == n_kinds and all(
        abs(count - n / n_kinds) < 4 * math.sqrt(n / n_kinds * (1 - 1 / n_kinds)) for count in counts.values())


def test_every_candidate_and_every_set_of_inputs_is_as_likely_as_the_others(drawn):
    assert is_uniform(Counter(tuple(one['i']) for one in drawn), 6)
    assert is_uniform(Counter(one['d'] for one in drawn), 3)
    assert is_uniform(Counter(one['a'] for one in drawn if 'a' in one['i']), 3)
    assert is_uniform(Counter((one['a'], one['b']) for one in drawn if one['i'] == ['a', 'b']), 9)  # independently


def test_edges_that_no_input_choice_keeps_are_dropped_and_the_others_are_not(drawn):
    assert all((one[key] == []) == (key not in one['i']) for one in drawn for key in 'abc')
    assert all(one['all'] == ['d', ''] and one['d'] for one in drawn)


def test_a_seed_draws_the_same_on_every_python(drawn):
    assert drawn[:2] == [{'a': [], 'b': 'y', 'c': [], 'd': 'y', 'i': ['b', ''], 'all': ['d', '']},
                         {'a': 'x', 'b': 'z', 'c': [], 'd': 'y', 'i': ['a', 'b'], 'all': ['d', '']}]
