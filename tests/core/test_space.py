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
    ([Edge('a', ('x',), 'p'), Edge('a', ('x', 'y'), 'q')], "'a'.*different sizes: 1 .*'p', 2 at 'q'.*another key"),
    ([Edge('a', ('x',)), InputNode('i', ('a',), 1), InputNode('i', ('a', 'a'), 1)], "'i'.*different sizes: 1 .*2 "),
    ([Edge('a', ('x',), 'p'), InputNode('a', ('',), 1, 'q')], "'a'.*InputChoice and a LayerChoice.*'p'.*'q'"),
])
def test_what_is_no_search_space_is_refused_in_words(choices, message):
    with pytest.raises(SearchSpaceError, match=message):
        SearchSpace(choices)


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
