import re

import pytest
from torch import nn

from nni_darts_ext import SearchSpaceError
from nni_darts_ext.core.space import Edge, InputNode, SearchSpace, find_modules


def test_choices_that_share_a_key_count_once():
    space = SearchSpace([Edge('a', ('x', 'y'), 'cells.0'), Edge('a', ('x', 'y'), 'cells.1'), InputNode('i', ('a', ''), 1)])
    assert [choice.key for choice in space] == ['a', 'i']
    assert space.edges['a'].path == 'cells.0'


@pytest.mark.parametrize('choices, message', [
    ([InputNode('i', ('',), None)], 'no LayerChoice.*nni_darts_ext.nn.LayerChoice'),
    ([Edge('a', ('x',)), InputNode('i', ('a', 'b'), None)], r"'i' names \['b'\] in choose_from.*\['a'\].*NO_KEY"),
    ([Edge('a', ('x',)), InputNode('i', ('a',), 2)], "'i'.*n_chosen=2 of 1 candidates.*0 to 1"),
    ([Edge('a', ('x',)), InputNode('i', ('a',), -1)], "'i'.*n_chosen=-1"),
    ([Edge('a', ('x',), 'p'), Edge('a', ('x', 'y'), 'q')],
     r"'a'.*different candidates: \['x'\] at 'p', \['x', 'y'\] at 'q'.*another key"),
    ([Edge('a', ('x', 'y'), 'p'), Edge('a', ('y', 'x'), 'q')],
     r"'a'.*different candidates: \['x', 'y'\] at 'p', \['y', 'x'\] at 'q'.*same order"),
    ([Edge('a', ('x',)), InputNode('i', ('a',), 1), InputNode('i', ('a', 'a'), 1)],
     "'i'.*different numbers of candidates: 1 .*2 "),
    ([Edge('a', ('x',)), InputNode('i', ('a', ''), 1, 'p'), InputNode('i', ('a', ''), 2, 'q')],
     "'i'.*different n_chosen: 1 at 'p', 2 at 'q'"),
    ([Edge('a', ('x',)), Edge('b', ('x',)), InputNode('i', ('a', 'b'), 1, 'p'), InputNode('i', ('b', 'a'), 1, 'q')],
     r"'i'.*different sources: \['a', 'b'\] at 'p', \['b', 'a'\] at 'q'"),
    ([Edge('a', ('x',), 'p'), InputNode('a', ('',), 1, 'q')], "'a'.*InputChoice and a LayerChoice.*'p'.*'q'"),
])
def test_what_is_no_search_space_is_refused_in_words(choices, message):
    with pytest.raises(SearchSpaceError, match=message):
        SearchSpace(choices)


@pytest.mark.parametrize('sources', [[('a', 'b'), ('', '')], [('', ''), ('a', 'b')]])
def test_of_inputs_that_share_a_key_one_may_name_the_sources(sources):
    space = SearchSpace([Edge('a', ('x',)), Edge('b', ('x',)), *(InputNode('i', names, 1) for names in sources)])
    assert space.sources == space.given == {'i': ('a', 'b')} and not space.unnamed


def test_sources_that_the_user_names_go_before_those_that_contradict_each_other():
    nodes = [InputNode('i', ('a', 'b'), 1), InputNode('i', ('b', 'a'), 1)]
    space = SearchSpace([Edge('a', ('x',)), Edge('b', ('x',)), *nodes], choose_from={'i': ['a', '']})
    assert space.sources == {'i': ('a', '')}


def test_all_may_be_kept_by_number_or_by_none_and_reductions_may_differ():
    SearchSpace([Edge('a', ('x',)), InputNode('i', ('a', ''), 2, reduction='sum'),
                 InputNode('i', ('a', ''), None, reduction='mean')])


@pytest.mark.parametrize('choice, kept', [
    (InputNode('i', ('a', '', ''), 2, 'net.i', 'concat'), "'i' at 'net.i'.*all 3 candidates.*those of 2.*n_chosen=None"),
    (Edge('i', ('x', 'y'), 'net.i', 'concat'), "'i' at 'net.i'.*all 2 candidates.*those of 1"),
    (InputNode('i', ('a', ''), 2, 'net.i', 'concat'), None), (InputNode('i', ('a', ''), None, 'net.i', 'concat'), None),
    (InputNode('i', ('a', ''), 1, 'net.i', 'sum'), None), (Edge('i', ('x',), 'net.i', 'concat'), None)])
def test_channels_that_the_network_found_will_not_have_are_announced(choice, kept, caplog):
    SearchSpace([Edge('a', ('x',)), choice]).warn_of_narrowing()
    assert bool(caplog.messages) == (kept is not None)
    assert kept is None or re.search(kept, caplog.text)


def test_keys_without_logits_may_be_sources_when_the_host_knows_them():
    SearchSpace([Edge('a', ('x',)), InputNode('i', ('a', 'scope'), 1)], other_keys=['scope'])


def test_a_choice_within_a_choice_is_refused_but_within_a_scope_is_not():
    inner = nn.Sequential(nn.ReLU())
    model = nn.Sequential(nn.Sequential(inner))
    with pytest.raises(SearchSpaceError, match="at '0' lies inside the choice at ''"):
        find_modules(model, nn.Sequential)
    assert [path for path, _ in find_modules(model, (nn.Sequential, nn.ReLU), scopes=nn.Sequential)] == ['', '0', '0.0', '0.0.0']


def test_neighbours_with_similar_names_are_not_nested():
    model = nn.ModuleDict({'op': nn.ReLU(), 'op1': nn.ReLU()})
    assert [path for path, _ in find_modules(model, nn.ReLU)] == ['op', 'op1']
