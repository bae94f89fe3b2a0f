"""Architectures applied to models of whatever NNI is installed."""

import json

import pytest
import torch
from spaces import TWO_NODES, Cells
from torch import nn

import nni_darts_ext.nn as dnn
from nni_darts_ext import ArchitectureError, DartsMutator, SearchSpaceError, apply_fixed_architecture


def searched(named=True):
    """A supernet with logits as a search may leave them."""
    torch.manual_seed(0)
    model = Cells(TWO_NODES, cells=2, named=named)
    mutator = DartsMutator(model)
    for logits in mutator.choices.values():
        logits.data = torch.randn(len(logits))
    return model, mutator


def by_hand(model, mutator, x):
    """What the derived network must compute: the kept candidate of each kept edge, the kept edges added up."""
    decisions = mutator.sample_final()
    candidates = {key: decision.tolist().index(True) for key, decision in decisions.items()
                  if key in mutator.choices and decision.any()}
    for cell in model.cells:
        states = [x, torch.sin(x)]
        for i, edges in enumerate(cell.edges):
            kept = decisions['node{}'.format(i)].tolist()
            states.append(sum(list(edge.children())[candidates['node{}_edge{}'.format(i, j)]](states[j % len(states)])
                              for j, edge in enumerate(edges) if kept[j]))
        x = states[-1]
    return model.classifier(x)


@pytest.mark.parametrize('named', [True, False])
@pytest.mark.parametrize('form', ['classic', 'sample'])
def test_the_network_computes_what_was_chosen_and_holds_nothing_else(form, named, tmp_path):
    model, mutator = searched(named)
    x = torch.randn(5, 3)
    expected = by_hand(model.eval(), mutator, x)
    file = tmp_path / 'architecture.json'
    file.write_text(json.dumps(mutator.export(form)))

    found = Cells(TWO_NODES, cells=2, named=named)
    found.load_state_dict(model.state_dict())
    assert apply_fixed_architecture(found, file) is found
    assert torch.equal(found.eval()(x), expected)
    found.train()(x).sum().backward()
    assert all(parameter.grad is not None for parameter in found.parameters())  # nothing idle is left

    assert torch.equal(apply_fixed_architecture(model, mutator.export(form))(x), expected)  # a searched one will do, too


def test_a_model_that_is_none_is_refused():
    with pytest.raises(SearchSpaceError, match='no LayerChoice'):
        apply_fixed_architecture(nn.Linear(1, 1), {})


def test_an_architecture_of_another_model_is_refused_and_changes_nothing():
    _, mutator = searched()
    architecture = mutator.export()
    del architecture['node0']
    fresh = Cells(TWO_NODES, cells=2, named=True)
    before = list(fresh.modules())
    with pytest.raises(ArchitectureError, match=r"missing are \['node0'\], unexpected are \['node9'\]"):
        apply_fixed_architecture(fresh, {**architecture, 'node9': []})
    assert list(fresh.modules()) == before


@pytest.mark.parametrize('verbose', [True, False])
def test_verbose_says_what_was_applied_and_nothing_else(verbose, caplog):
    _, mutator = searched()
    architecture = mutator.export()
    del architecture['node0']
    with caplog.at_level('INFO', 'nni_darts_ext'), pytest.raises(ArchitectureError, match='missing'):
        apply_fixed_architecture(Cells(TWO_NODES, cells=2, named=True), architecture, verbose)  # NNI's is not strict then
    with caplog.at_level('INFO', 'nni_darts_ext'):
        apply_fixed_architecture(Cells(TWO_NODES, cells=2, named=True), mutator.export(), verbose=verbose)
    assert ('node0' in caplog.text) == verbose


class Guarded(dnn.ModelSpace):
    """Inputs that name no sources, and something between them and the edges."""

    def __init__(self):
        super().__init__()
        self.a = dnn.LayerChoice([nn.Linear(3, 3), nn.Identity()], key='a')
        self.b = dnn.LayerChoice([nn.Linear(3, 3), nn.Identity()], key='b')
        self.pick = dnn.InputChoice(2, n_chosen=1, key='pick')

    def forward(self, x):
        return self.pick([y if y is None else torch.relu(y) for y in (self.a(x), self.b(x))])


def test_edges_are_dropped_where_sources_are_known():
    sample = {'a': 0, 'b': 1, 'pick': [1]}
    kept = apply_fixed_architecture(Guarded(), sample)
    assert len(list(kept.parameters())) == 2
    dropped = apply_fixed_architecture(Guarded(), sample, choose_from={'pick': ['a', 'b']})
    assert not list(dropped.parameters())
    x = torch.randn(2, 3)
    assert torch.equal(dropped(x), torch.relu(x)) and torch.equal(kept(x), torch.relu(x))
    assert not list(apply_fixed_architecture(Guarded(), {'a': [], 'b': 1, 'pick': 1}).parameters())
