import logging

import pytest
import torch
from torch import nn

from nni_darts_ext import SearchSpaceError
from nni_darts_ext.core.logits import Logits
from nni_darts_ext.core.relaxation import Relaxation
from nni_darts_ext.core.space import Edge, InputNode, SearchSpace

BETWEEN = {
    'nothing': lambda x: x,
    'activation': lambda x: torch.relu(x),
    'activation in place': lambda x: nn.ReLU(inplace=True)(x),
    'normalisation': lambda x: nn.BatchNorm1d(4)(x),
    'drop path': lambda x: x / 0.8 * torch.bernoulli(torch.full((x.size(0), 1), 0.8)),
    'reshape': lambda x: x.reshape(2, 3, 4).transpose(0, 1).flatten(0, 1),
    'slicing': lambda x: torch.cat([x[:, 2:], x[:, :2]], dim=1),
    'several layers': lambda x: nn.Linear(4, 4)(torch.tanh(nn.Linear(4, 4)(x))),
}


def relaxation_of(space):
    choices = Logits()
    for edge in space.edges.values():
        choices.add(edge.key, len(edge.names))
    return Relaxation(choices, space), choices


def space(n_candidates, **options):
    return SearchSpace([Edge(key, (0,)) for key in 'abc'] + [InputNode('i', ('',) * n_candidates, 1)], **options)


def run(relaxation, x, *candidates):
    """Edges a, b, c on x, then an input node whose candidates are functions of their outputs and x."""
    outputs = [relaxation.edge(key, [nn.Identity()], (x,), {}) for key in 'abc']
    return relaxation.inputs('i', [candidate(*outputs, x) for candidate in candidates], 'sum')


@pytest.mark.parametrize('between', BETWEEN)
@pytest.mark.parametrize('learns', [True, False], ids=['logits learn', 'nothing learns'])
def test_the_edge_behind_a_candidate_is_found_through(between, learns):
    torch.manual_seed(0)
    some = space(2)
    relaxation, choices = relaxation_of(some)
    choices.requires_grad_(learns)  # as in the weight step, where logits need no gradient
    run(relaxation, torch.randn(6, 4), lambda a, b, c, x: BETWEEN[between](c), lambda a, b, c, x: BETWEEN[between](a))
    assert some.sources == {'i': ('c', 'a')}


def test_several_edges_or_none_are_reported_and_count_as_no_key(caplog):
    some = space(4)
    relaxation, _ = relaxation_of(some)
    with caplog.at_level(logging.INFO):
        run(relaxation, torch.ones(1), lambda a, b, c, x: a + b, lambda a, b, c, x: x, lambda a, b, c, x: b,
            lambda a, b, c, x: b * 2)
    assert some.sources == {'i': ('', '', 'b', 'b')}
    assert "Candidate 0 of InputChoice 'i' comes from several LayerChoices (a, b): it counts as NO_KEY" in caplog.text
    assert "Candidate 1 of InputChoice 'i' comes from no LayerChoice: it counts as NO_KEY" in caplog.text
    assert "InputChoice 'i' chooses from ['', '', 'b', 'b']" in caplog.text


def test_the_nearest_edge_counts():
    some = SearchSpace([Edge(key, (0,)) for key in 'ab'] + [InputNode('i', ('', ''), 1)])
    relaxation, _ = relaxation_of(some)
    first = relaxation.edge('a', [nn.Identity()], (torch.ones(1),), {})
    second = relaxation.edge('b', [nn.Identity()], (first,), {})
    relaxation.inputs('i', [second, first], 'sum')
    assert some.sources['i'] == ('b', 'a')


def test_the_search_leaves_values_and_gradients_alone_and_is_over_after_one_pass():
    torch.manual_seed(0)
    x, some = torch.randn(3, 4), space(2)
    relaxation, choices = relaxation_of(some)
    candidates = (lambda a, b, c, x: a + c, lambda a, b, c, x: b)
    passes = []
    for _ in range(2):
        choices.zero_grad()
        output = run(relaxation, x, *candidates)
        output.sum().backward()
        passes.append([output.detach(), *(logits.grad.clone() for logits in choices.values())])
    assert all(torch.equal(first, second) for first, second in zip(*passes))
    assert not some.unnamed
    marked = relaxation.edge('a', [nn.Identity()], (x,), {})
    assert not marked.grad_fn.metadata


def test_a_pass_without_gradients_shows_nothing_yet():
    some = space(1)
    relaxation, _ = relaxation_of(some)
    with torch.no_grad():
        run(relaxation, torch.ones(1), lambda a, b, c, x: a)
    assert some.unnamed == {'i'}
    run(relaxation, torch.ones(1), lambda a, b, c, x: a)
    assert some.sources['i'] == ('a',)


def test_named_sources_stay_whatever_a_pass_shows():
    for some in (space(1, choose_from={'i': ['b']}), SearchSpace([*(Edge(key, (0,)) for key in 'abc'),
                                                                 InputNode('i', ('b',), 1)])):
        relaxation, _ = relaxation_of(some)
        run(relaxation, torch.ones(1), lambda a, b, c, x: a)
        assert some.sources['i'] == ('b',)


@pytest.mark.parametrize('choose_from, message', [
    ({'i': ['a', 'b']}, "names 2 sources for 'i'.*InputChoice of 1 candidates"),
    ({'j': ['a']}, r"names 1 sources for 'j'.*no such InputChoice, only \['i'\]"),
    ({'i': ['d']}, r"'i' names \['d'\] in choose_from"),
])
def test_naming_what_is_not_there_is_refused(choose_from, message):
    with pytest.raises(SearchSpaceError, match=message):
        space(1, choose_from=choose_from)
