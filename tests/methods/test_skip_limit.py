"""Derived cells with few skip connections."""

import copy
import pickle

import pytest
import torch
from derived import NAMES, search_of
from papers import FAMILIES, Space, trainer

from nni_darts_ext import hosts
from nni_darts_ext.core.collapse import skips_by_cell
from nni_darts_ext.core.space import Edge
from nni_darts_ext.errors import MethodError
from nni_darts_ext.methods import Method, Methods, SkipLimit, StopAtSkips
from nni_darts_ext.run import Run

CELL = {'a': (.3, .1, .5), 'b': (.2, .1, .6), 'c': (.3, .25, .4), 'd': (.1, .2, .35), 'e': (.36, .1, .3)}
NODES = {'normal_2': ('ab', 2), 'normal_3': ('cde', 2)}


def test_the_weakest_are_ruled_out_until_few_are_left_and_other_edges_are_kept_for_them():
    plain = search_of(CELL, NODES).architecture()
    assert plain == {'a': 'skip_connect', 'b': 'skip_connect', 'c': 'skip_connect', 'd': [], 'e': 'conv',
                     'normal_2': ['a', 'b'], 'normal_3': ['c', 'e']}
    # Without the skip connection of c, d is kept instead, whose skip connection is ruled out as well; c is back then.
    assert search_of(CELL, NODES, SkipLimit()).architecture() == {**plain, 'c': 'conv'}
    for n in range(4):
        decisions = search_of(CELL, NODES, SkipLimit(n)).sample_final()
        assert sum(map(len, skips_by_cell(search_of(CELL, NODES).space, decisions).values())) == n


def test_the_edge_that_replaces_a_skip_connection_may_be_another_one():
    weights = {'a': (.1, .05, .5), 'b': (.3, .1, .2), 'c': (.2, .1, .1)}
    assert search_of(weights, {'node': ('abc', 1)}, SkipLimit(0)).architecture() == {'a': [], 'b': 'conv', 'c': [], 'node': 'b'}


def test_cells_are_counted_one_by_one_and_edges_of_no_node_together():
    weights = {key: (.2, .1, .5 + i / 100) for i, key in enumerate('abcdefg')}
    nodes = {'normal_2': ('ab', 2), 'reduce_2': ('cd', 2)}
    few = search_of(weights, nodes, SkipLimit(1)).architecture()
    assert [few[key] for key in 'abcdefg'] == ['conv', 'skip_connect'] * 2 + ['conv', 'conv', 'skip_connect']
    few = search_of(weights, nodes, SkipLimit(1, cells='normal')).architecture()
    assert [few[key] for key in 'abcdefg'] == ['conv'] + ['skip_connect'] * 6


def test_an_edge_that_several_nodes_of_a_cell_read_counts_once():
    search = search_of({'a': (.2, .1, .5), 'b': (.2, .1, .6)}, {'n_1': ('a', 1), 'n_2': ('ab', 2)}, SkipLimit(2))
    assert search.architecture()['a'] == search.architecture()['b'] == 'skip_connect'


def test_what_has_no_other_candidate_stays():
    search = search_of({'a': (.2, .1, .5), 'b': (.2, .1, .6)}, {}, SkipLimit(0))
    for candidate in NAMES[:2]:
        search.cut('b', candidate)
    assert search.architecture() == {'a': 'conv', 'b': 'skip_connect'}


def test_weights_and_probabilities_stay_as_they_are():
    search = search_of(CELL, NODES, SkipLimit(0))
    assert torch.allclose(search.probabilities()['a'][:3], torch.tensor(CELL['a'], dtype=torch.float64))


@pytest.mark.parametrize('family', FAMILIES)
def test_own_loops_have_it_and_copies_too(family, monkeypatch):
    monkeypatch.setenv(hosts.PREFERENCE, family)
    def mutator(*methods):
        model = Space()
        found = hosts.of_model(model).DartsMutator(model, methods=methods)
        found.choices['a'].data[:] = 0.
        found.choices['b'].data[:] = torch.tensor([0., 5., 1., 0.])
        return found
    assert mutator().export('classic') == {'a': [], 'b': 'skip', 'pick': 'b'}
    limited = mutator(SkipLimit(0))
    copies = [copy.deepcopy, lambda one: pickle.loads(pickle.dumps(one))] if family == 'nas' else []  # other choices refuse them
    for one in (limited, *(copied(limited) for copied in copies)):
        assert one.export('classic') == {'a': 'linear', 'b': [], 'pick': 'a'}


def test_the_record_of_a_run_has_it_in_each_epoch_and_the_weights_of_the_search():
    search = trainer([SkipLimit(0)], 2, run_dir='run')
    search.mutator.choices['b'].data[1] = 9.
    search.train()
    run = Run.read('run')
    assert all(1 not in epoch.architecture['b'] for epoch in run.epochs)
    assert all(epoch.weights['b'][1] > 0.9 for epoch in run.epochs)
    assert 'skip' not in search.export().values()


@pytest.mark.parametrize('wrong', [-1, 1.5, True, None, '2'])
def test_the_number_is_checked(wrong):
    with pytest.raises(MethodError, match=r'SkipLimit\(n=.*an integer of at least 0'):
        SkipLimit(wrong)
    with pytest.raises(MethodError, match=r'SkipLimit\(cells=None\).*names of cells'):
        SkipLimit(cells=None)


def test_a_name_that_no_cell_has_is_refused():
    with pytest.raises(MethodError, match=r"no cell has 'norm_cell' in its name. The cells are \['normal'\]"):
        search_of(CELL, NODES, SkipLimit(cells='norm_cell'))


@pytest.mark.parametrize('method', [SkipLimit, StopAtSkips])
def test_a_space_without_the_name_of_a_skip_connection_is_refused(method):
    search = search_of({'a': CELL['a']}, {})
    search.space.edges['a'] = Edge('a', (0, 1, 2), 'a')
    with pytest.raises(MethodError, match='no candidate has the name of a skip connection'):
        Methods([method()]).attach(search)


@pytest.mark.parametrize('returned', [None, {}, {'a': [1.0]}])
def test_a_method_that_gives_no_weights_is_refused(returned):
    class Wrong(Method):
        def derive(self, weights, at):
            return returned
    with pytest.raises(MethodError, match='as many weights for each edge'):
        search_of({'a': CELL['a']}, {}, Wrong()).sample_final()
