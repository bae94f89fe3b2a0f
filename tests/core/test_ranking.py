"""The ranking of architectures against all architectures of small spaces, written out."""

import functools
import itertools
import math
import operator
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nni_darts_ext.core import ranking
from nni_darts_ext.core.derivation import Derivation, all_readers, derive, unread
from nni_darts_ext.core.space import Edge, InputNode, SearchSpace

NUMBERS = st.sampled_from([0.0, 0.1, 0.1, 0.2, 0.3, 0.5])


@st.composite
def problems(draw):
    """A space of at most 10,000 architectures, the weights of its edges and inputs, and what of it is decided otherwise."""
    edges = {f'e{i}': draw(st.integers(1, 3)) for i in range(draw(st.integers(1, 5)))}
    weights = {key: [draw(NUMBERS) for _ in range(n + 1)] for key, n in edges.items()}
    nodes = []
    for i in range(draw(st.integers(0, 3))):
        sources = draw(st.lists(st.sampled_from([*edges, *edges, '']), min_size=1, max_size=4))
        nodes.append(InputNode(f'n{i}', tuple(sources), draw(st.none() | st.integers(0, len(sources)))))
    space = SearchSpace([*(Edge(key, tuple(f'op{i}' for i in range(n))) for key, n in edges.items()), *nodes])
    if draw(st.booleans()):  # edges that read those before them
        keys = list(edges)
        space.readers = {key: set(draw(st.lists(st.sampled_from([None, *keys[i + 1:]]), max_size=2)))
                         for i, key in enumerate(keys)}
    inputs = {node.key: [draw(st.sampled_from([0.2, 0.5, 1.0])) for _ in node.choose_from]
              for node in nodes if draw(st.booleans())}
    return space, weights, inputs, draw(st.booleans()), draw(st.booleans())


def product(factors):
    return functools.reduce(operator.mul, factors, 1.0)


def strengths_of(space, derived, inputs):
    return {key: [weight * derived.strengths.get(source, 0.0) for weight, source in zip(inputs.get(key, [1.0] * len(of)), of)]
            for key, of in space.sources.items()}


def written_out(space, weights, derived, strengths):
    """All networks and their probabilities, by the definition."""
    subsets = []
    for key, of_node in strengths.items():
        kept = derived.decisions[key]
        subsets.append([s for s in itertools.product([False, True], repeat=len(of_node)) if sum(s) == sum(kept) and all(
            is_kept == was_kept for is_kept, was_kept, strength in zip(s, kept, of_node) if strength == 0)])
    options = [[i for i, weight in enumerate(weights[key][:-1]) if weight > 0 or i == derived.best[key]] for key in space.edges]
    found = {}
    for inputs in itertools.product(*subsets):
        kept = dict(zip(space.inputs, inputs))
        dropped = unread(space, kept, space.readers)
        share = product([s for key, of in kept.items() for s, is_kept in zip(strengths[key], of) if is_kept and s > 0])
        for candidates in itertools.product(*options):
            chosen = {key: None if key in dropped else i for key, i in zip(space.edges, candidates)}
            found[tuple(inputs), tuple(chosen.values())] = share * product(
                [weights[key][i] / weights[key][derived.best[key]] for key, i in chosen.items()
                 if i is not None and i != derived.best[key]])
    total = sum(found.values())
    return {network: weight / total for network, weight in found.items()}


def ranked(space, weights, derived, strengths, n=None):
    """With their probabilities."""
    problem = derived, weights, strengths, all_readers(space.edges, space.sources, space.readers)
    total = ranking.log_total(*problem)
    return [(one, math.exp(log - total)) for one, log in itertools.islice(ranking.architectures(*problem), n)]


def network_of(space, derivation):
    return (tuple(tuple(derivation.decisions[key]) for key in space.inputs),
            tuple(next((i for i, is_kept in enumerate(derivation.decisions[key]) if is_kept), None) for key in space.edges))


@settings(deadline=None, max_examples=150)
@given(problems())
def test_it_is_what_sorting_all_architectures_gives(problem):
    space, weights, inputs, zero_op_wins, exactly = problem
    derived = derive(space, weights, zero_op_wins, exactly, input_weights=inputs)
    strengths = strengths_of(space, derived, inputs)
    expected = written_out(space, weights, derived, strengths)
    found = ranked(space, weights, derived, strengths)
    assert found[0][0] == derived
    assert len(found) == len(expected) == len({network_of(space, one) for one, _ in found})
    for one, probability in found:
        assert probability == pytest.approx(expected[network_of(space, one)], rel=1e-9)
    probabilities = [probability for _, probability in found]
    assert all(later <= before * (1 + 1e-12) for before, later in zip(probabilities, probabilities[1:]))
    assert sum(probabilities) == pytest.approx(1)


def test_what_is_derived_comes_first_even_where_other_edges_are_more_certain():
    # b is sure of its only candidate, but weaker than a: its zero op is probable.
    space = SearchSpace([Edge('a', ('x', 'y')), Edge('b', ('x', 'y')), InputNode('i', ('a', 'b'), 1)])
    weights = {'a': [0.3, 0.29, 0.41], 'b': [0.2, 0.0, 0.8]}
    derived = derive(space, weights)
    found = ranked(space, weights, derived, strengths_of(space, derived, {}))
    assert [(one.decisions['i'], round(probability, 4)) for one, probability in found] == [
        ([True, False], round(0.3 / 0.79, 4)), ([True, False], round(0.29 / 0.79, 4)), ([False, True], round(0.2 / 0.79, 4))]
    assert found[1][0].decisions == {'i': [True, False], 'a': [False, True], 'b': [False, False]}


def test_what_weighs_more_than_what_was_derived_is_never_ranked():
    weights = {'a': [0.5, 0.3, 0.1, 0.1], 'b': [0.4, 0.2, 0.2, 0.2], 'c': [0.2, 0.1, 0.1, 0.6]}
    decisions = {'i': [False, True, False], 'a': [False] * 3, 'b': [False, True, False], 'c': [False] * 3}  # by a method
    derived = Derivation(decisions, {'a': 0, 'b': 1, 'c': 0}, {})
    readers = {key: {('i', i)} for i, key in enumerate('abc')}
    found = list(ranking.architectures(derived, weights, {'i': [0.5, 0.4, 0.2]}, readers))
    assert found[0][0].decisions == decisions
    assert not any(one.decisions['a'] == [True, False, False] or one.decisions['b'] == [True, False, False] for one, _ in found)
    assert {tuple(one.decisions['i']) for one, _ in found} == {(False, True, False), (False, False, True)}


def darts():
    """The space of the paper: two cells, of 14 edges with 8 operations each."""
    edges, nodes, weights = [], [], {}
    for cell in ('normal', 'reduce'):
        for node in range(2, 6):
            keys = [f'{cell}_n{node}_p{source}' for source in range(node)]
            for key in keys:
                masses = [1 + math.sin(7.3 * len(edges) + 1.7 * i) for i in range(9)]
                edges.append(Edge(key, tuple(f'op{i}' for i in range(8))))
                weights[key] = [mass / sum(masses) for mass in masses]
            nodes.append(InputNode(f'{cell}_n{node}', tuple(keys), 2))
    return SearchSpace([*edges, *nodes]), weights


def test_the_space_of_the_paper_takes_a_step_for_each_architecture(monkeypatch):
    space, weights = darts()
    derived = derive(space, weights)
    pushed = []

    def counted(heap, state):
        pushed.append(state)
        original(heap, state)
    original = ranking.heappush
    monkeypatch.setattr(ranking, 'heappush', counted)
    start = time.perf_counter()
    found = ranked(space, weights, derived, strengths_of(space, derived, {}), 100)
    assert time.perf_counter() - start < 10  # 0.01 s on an idle core
    assert len(pushed) <= 100 * (len(space.edges) + 2 * len(space.inputs)) and len(set(pushed)) == len(pushed)
    assert len({network_of(space, one) for one, _ in found}) == 100
    # Each node draws two of its edges with one candidate each: the elementary symmetric polynomial in the edges' masses.
    total = product([sum(sum(weights[a][:-1]) * sum(weights[b][:-1]) for a, b in itertools.combinations(sources, 2))
                       for sources in space.sources.values()])
    for one, probability in found:
        kept = [weights[key][one.best[key]] for key in space.edges if any(one.decisions[key])]
        assert len(kept) == 16 and probability == pytest.approx(product(kept) / total)


def test_probabilities_too_small_for_a_number_still_compare():
    keys = [f'e{i}' for i in range(600)]
    space = SearchSpace([Edge(key, tuple('abcdefgh')) for key in keys])
    weights = {key: [0.2, *[0.1] * 8] for key in keys}
    derived = derive(space, weights)
    found = ranking.ranking(3, derived, weights, {}, all_readers(space.edges, space.sources, None), lambda one: one.best)
    assert [one.probability for one in found] == [0, 0, 0] and [one.relative for one in found] == pytest.approx([1, 0.5, 0.5])


def test_strengths_that_underflow_are_ranked():
    keys = [f'e{i}' for i in range(14)]
    space = SearchSpace([*(Edge(key, ('x', 'y')) for key in keys), InputNode('n', tuple(keys), 14)])
    weights = {key: [0.6, 0.3, 0.1] if key == 'e0' else [2e-60, 1e-60, 1.0] for key in keys}
    found = ranking.ranking(2, derive(space, weights), weights, {'n': [of_edge[0] for of_edge in weights.values()]},
                            all_readers(space.edges, space.sources, None), lambda one: one.best)
    assert [one.probability for one in found] == pytest.approx([(2 / 3) ** 14, (2 / 3) ** 13 / 3])


def test_it_ranks_where_probabilities_would_take_too_long():
    keys = [f'e{i}' for i in range(20)]
    space = SearchSpace([*(Edge(key, ('x', 'y')) for key in keys), *(InputNode(f'n{i}', tuple(keys), 2) for i in range(3))])
    weights = {key: [0.5 - i / 100, 0.2, 0.3 + i / 100] for i, key in enumerate(keys)}
    derived = derive(space, weights)
    found = ranking.ranking(5, derived, weights, strengths_of(space, derived, {}),
                            all_readers(space.edges, space.sources, None), lambda one: one.decisions)
    assert found[0].architecture == derived.decisions
    assert all(math.isnan(one.probability) and 0 < one.relative <= 1 for one in found)
