import pytest
import torch
from torch import nn

from nni_darts_ext.core.collapse import CollapseWatch, skip_share
from nni_darts_ext.core.derivation import derive
from nni_darts_ext.core.logits import Logits
from nni_darts_ext.core.space import Edge, InputNode, SearchSpace

SPACE = SearchSpace([Edge('a', ('conv', 'skip_connect'), 'a'), Edge('b', ('conv', 'Identity'), 'b'),
                     Edge('c', ('conv', 'pool'), 'c'), InputNode('node', ('a', 'b', 'c'), 2, 'node')])


class Mutator:
    def __init__(self, **logits):
        self.space, self.choices = SPACE, Logits()
        for key, values in logits.items():
            self.choices[key] = nn.Parameter(torch.tensor(values))

    def sample_final(self):
        return derive(SPACE, {key: self.choices.probabilities(key).tolist() for key in SPACE.edges}).decisions


def test_the_share_of_skip_connections_is_that_of_the_edges_which_were_kept():
    decided = {'a': [False, True], 'b': [False, True], 'c': [True, False]}
    assert skip_share(SPACE, decided) == pytest.approx(2 / 3)
    assert skip_share(SPACE, {**decided, 'c': [False, False]}) == 1.0
    assert skip_share(SPACE, {key: [False, False] for key in 'abc'}) == 0.0
    assert skip_share(SPACE, decided, ['conv']) == pytest.approx(1 / 3)


def test_a_watch_reads_share_entropy_and_movement():
    mutator = Mutator(a=[0.0, 3.0, 0.0], b=[2.0, 0.0, 0.0], c=[0.0, 0.0, 0.0])
    watch = CollapseWatch(mutator)
    first = watch.read()
    assert first.skip_share == 0.5 and first.movement is None and 0.5 < first.entropy < 1
    with torch.no_grad():
        mutator.choices['b'][1] -= 0.25
        mutator.choices['c'][0] += 0.125
    before, now = (torch.softmax(torch.tensor([logit, 0.0, 0.0]), 0) for logit in (0.0, 0.125))  # c's moved most
    assert watch.read().movement == pytest.approx(float((now - before).abs().max()), rel=1e-5)
    with torch.no_grad():
        mutator.choices['c'] += 0.0  # as by a learning rate of 0
    assert watch.read().movement == 0.0
    assert watch.read().movement is None  # nothing steps them in a warm-up
    assert CollapseWatch(mutator, ['POOL']).read().skip_share == 0.0


def test_logits_that_fall_together_do_not_move():
    mutator = Mutator(a=[0.1, 3.0, 0.0], b=[2.0, 0.0, 0.0], c=[0.0, 0.0, 0.0])
    watch = CollapseWatch(mutator)
    watch.read()
    with torch.no_grad():
        for key in SPACE.edges:
            mutator.choices[key] -= 0.5
    assert watch.read().movement < 1e-6


def test_a_cell_of_skip_connections_alone_is_not_hidden_by_another_without_any():
    nodes = {f'{kind}_{n}': tuple(f'{kind}_{n}_{i}' for i in range(n)) for kind in ('normal', 'reduce') for n in (2, 3)}
    edges = [Edge(key, ('skip', 'conv')) for keys in nodes.values() for key in keys]
    space = SearchSpace([*edges, Edge('stem', ('conv', 'pool')), *(InputNode(key, keys, 2) for key, keys in nodes.items())])
    decided = {edge.key: [edge.key.startswith('normal'), edge.key.startswith('reduce')] for edge in edges}
    assert skip_share(space, {**decided, 'stem': [True, False]}) == 1.0
    assert skip_share(space, {**decided, 'stem': [True, False], 'normal_2_0': [False, True]}) == 0.8


def test_entropy_is_1_for_the_undecided_and_near_0_for_the_decided():
    assert CollapseWatch(Mutator(a=[0.0] * 3, b=[1.0] * 3, c=[0.0] * 3)).read().entropy == pytest.approx(1.0)
    assert CollapseWatch(Mutator(a=[50.0, 0, 0], b=[0, 50.0, 0], c=[0, 0, 50.0])).read().entropy == pytest.approx(0.0, abs=1e-6)


def test_cut_candidates_do_not_disturb():
    mutator = Mutator(a=[0.0, 3.0, 0.0], b=[2.0, 0.0, 0.0], c=[0.0, 0.0, 0.0])
    mutator.choices.cut('a', 1)
    indicators = CollapseWatch(mutator).read()
    assert indicators.skip_share == 0.0 and 0 < indicators.entropy < 1
