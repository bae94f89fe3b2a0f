"""Parameters and multiply-adds of networks and of the candidates in a supernet, against numbers counted by hand."""

import pytest
import torch
from torch import nn

from nni_darts_ext import cost
from nni_darts_ext.core import costs
from nni_darts_ext.core.costs import Cost
from nni_darts_ext.core.decisions import DroppedEdge
from nni_darts_ext.core.logits import Logits
from nni_darts_ext.core.search import Search
from nni_darts_ext.core.space import Edge, SearchSpace

IMAGE = torch.randn(2, 4, 8, 8)
NETWORKS = {  # with what one sample costs
    'convolution': (nn.Conv2d(4, 6, 3, padding=1), IMAGE, Cost(4 * 6 * 9 + 6, 64 * 4 * 6 * 9)),
    'groups': (nn.Conv2d(4, 8, 3, stride=2, padding=1, groups=4, bias=False), IMAGE, Cost(8 * 9, 16 * 8 * 9)),
    'transposed': (nn.ConvTranspose2d(4, 6, 2, stride=2), IMAGE, Cost(4 * 6 * 4 + 6, 64 * 4 * 6 * 4)),
    'linear': (nn.Linear(8, 5), IMAGE, Cost(45, 4 * 8 * 8 * 5)),
    'nothing': (nn.Sequential(nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2), nn.Identity()), IMAGE, Cost(8, 0)),
}


@pytest.mark.parametrize('network, inputs, expected', NETWORKS.values(), ids=NETWORKS)
def test_a_network_costs_what_is_counted_by_hand(network, inputs, expected):
    assert cost(network, inputs) == cost(network, inputs[:1]) == expected


@pytest.mark.skipif(not hasattr(torch.nn, 'attention'), reason='this PyTorch cannot be told to run attention as products')
def test_attention_costs_its_products():
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    for training in (True, False):
        assert cost(layer.train(training), torch.randn(3, 5, 8)).multiply_adds == 5 * 8 * (24 + 8 + 2 * 16) + 2 * 5 * 5 * 8


def test_what_is_shared_counts_once_and_runs_as_often_as_it_does():
    layer = nn.Linear(3, 3)
    assert cost(nn.Sequential(layer, nn.Tanh(), layer), torch.randn(5, 3)) == Cost(12, 18)


def test_a_dropped_edge_costs_nothing():
    assert cost(nn.Sequential(nn.Linear(3, 3), DroppedEdge(nn.Linear(3, 3)), nn.Tanh()), torch.randn(5, 3)) == Cost(12, 9)


class Choice(nn.ModuleDict):
    """A LayerChoice of no host: its own forward method must not run."""


class Supernet(nn.Module):
    def __init__(self):
        super().__init__()
        shared = nn.Linear(3, 3)
        self.stem = nn.Linear(3, 3)
        self.first, self.second = (Choice({
            'linear': nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3)), 'shared': shared, 'in place': nn.ReLU(inplace=True),
            'twice': nn.Sequential(shared, shared), 'drop': nn.Dropout(0.5), 'skip': nn.Identity()}) for _ in range(2))
        self.wide = Choice({'a': nn.Linear(3, 2), 'b': nn.Linear(3, 2)})
        self.classifier = nn.Linear(4, 2)

    def forward(self, x, *, scale=1.0):
        return self.classifier(self.wide(self.second(self.first(self.stem(x))) * scale))


def search_of(model):
    found = Search()
    found.space = SearchSpace([
        Edge(key, tuple(getattr(model, path)), path, reduction)
        for key, path, reduction in (('e', 'first', None), ('e', 'second', None), ('wide', 'wide', 'concat'))])
    found.choices = Logits()
    for edge in found.space.edges.values():
        found.choices.add(edge.key, len(edge.names))
    return found


def test_candidates_count_in_all_layer_choices_of_their_key():
    model, x = Supernet(), torch.randn(4, 3)
    search = search_of(model)
    found = costs.parameters(search, model)
    assert found == (12 + 10, {'e': [2 * 18, 12, 0, 12, 0, 0], 'wide': [8, 8]})
    found = costs.multiply_adds(search, model, [x], {'scale': 2.0})
    assert found == (9 + 8, {'e': [18, 18, 0, 36, 0, 0], 'wide': [6, 6]})
    times = costs.latency(search, model, [x], {})
    assert times.fixed > 0 and times.candidates['e'][0] > 0 and times.candidates['e'][-1] == 0


def test_candidates_that_are_cut_do_not_run():
    model, ran = Supernet(), []
    model.first['linear'].register_forward_hook(lambda *args: ran.append(1))
    search = search_of(model)
    for i in (0, 1):
        search.cut('e', i)
    assert costs.multiply_adds(search, model, [torch.randn(4, 3)], {}).candidates['e'] == [0, 0, 0, 36, 0, 0] and not ran
    for i in (2, 3, 4, 5):
        search.cut('e', i)
    assert costs.multiply_adds(search, model, [torch.randn(4, 3)], {}).candidates['wide'] == [6, 6] and ran


def test_counting_leaves_no_trace():
    model, x = Supernet().train(), torch.randn(4, 3)
    search = search_of(model)
    given, state = x.clone(), torch.get_rng_state()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    for count in (costs.multiply_adds, costs.latency):
        count(search, model, [x], {})
    assert torch.equal(x, given) and torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(module.training and 'forward' not in vars(module) for module in model.modules())
    assert all(parameter.grad is None for parameter in model.parameters())
