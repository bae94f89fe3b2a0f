"""A part of the channels runs through an edge, the others bypass it."""

import json
from pathlib import Path

import pytest
import recorded_search
import torch
from conftest import OFFERED
from recorded_search import images
from spaces import write_weights
from torch import nn

import nni_darts_ext.nn as dnn
from nni_darts_ext import DartsTrainer, SearchSpaceError, apply_fixed_architecture, hosts

FAMILIES = [family for family in ('classic', 'retiarii', 'nas') if OFFERED[family] is None]
KEYS = ['a', 'b', 'c', 'd', 'e']


@pytest.fixture(params=FAMILIES)
def family(request, monkeypatch):
    monkeypatch.setenv(hosts.PREFERENCE, request.param)
    return request.param


def candidates(channels, stride):
    return {'conv': nn.Conv2d(channels, channels, 3, stride, 1), 'pool': nn.MaxPool2d(3, stride, 1),
            'linear': nn.Conv2d(channels, channels, 1, stride)}


def edge(key, stride, k):
    return dnn.PartialChannels(lambda channels: dnn.LayerChoice(candidates(channels, stride), key=key), 8, k)


class Images(dnn.ModelSpace):
    """Two nodes, of which the second one halves the image, and reads an edge by way of another one."""

    def __init__(self, k=4):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 1)
        self.a, self.b, self.c, self.d, self.e = (edge(key, stride, k) for key, stride in zip(KEYS, (1, 1, 2, 2, 1)))
        self.one = dnn.InputChoice(2, n_chosen=1, key='one')
        self.two = dnn.InputChoice(3, n_chosen=1, key='two')
        self.classifier = nn.Linear(8, 2)

    def forward(self, x):
        x = torch.relu(self.stem(x))
        one = self.one([self.a(x), self.b(torch.sin(x))])
        c = self.c(x)
        return self.classifier(self.two([c, self.d(one), self.e(c)]).mean(dim=(2, 3)))


def by_formula(part, x, k):
    """Of what an edge made of the first of k parts: pool the others if it halved the image, concatenate, shuffle."""
    others = x[:, x.shape[1] // k:]
    if part.shape[2] != x.shape[2]:
        others = nn.functional.max_pool2d(others, 2, 2)
    both = torch.cat([part, others], dim=1)
    n, channels, height, width = both.shape
    return both.view(n, k, channels // k, height, width).transpose(1, 2).reshape(n, channels, height, width)


@pytest.mark.parametrize('k', [2, 4, 8])
@pytest.mark.parametrize('stride', [1, 2])
def test_an_edge_has_the_numbers_and_the_gradients_of_the_paper(k, stride, family):
    class Net(dnn.ModelSpace):
        def __init__(self):
            super().__init__()
            self.edge = edge('edge', stride, k)

        def forward(self, x):
            return self.edge(x)
    model = write_weights(Net())
    conv, pool, linear = (module for module in model.modules() if isinstance(module, (nn.Conv2d, nn.MaxPool2d)))
    mutator = hosts.of_model(model).DartsMutator(model).double()
    logits = mutator.choices['edge']
    logits.data = torch.tensor([0.3, -0.5, 0.1, 0.2], dtype=torch.float64)
    x = torch.randn(2, 8, 6, 6, dtype=torch.float64, requires_grad=True)

    of_edge, part = torch.softmax(logits, 0), x[:, :8 // k]
    expected = by_formula(of_edge[0] * conv(part) + of_edge[1] * pool(part) + of_edge[2] * linear(part), x, k)
    mutator.reset()
    found = model(x)
    assert torch.allclose(found, expected, rtol=0, atol=1e-12)
    for one, other in zip(*(torch.autograd.grad((output ** 2).sum(), [x, logits, conv.weight]) for output in (found, expected))):
        assert torch.allclose(one, other, rtol=0, atol=1e-10)


def test_images_of_odd_sizes_are_halved_as_strides_do_it():
    pooling = dnn.PartialChannels(lambda channels: nn.MaxPool2d(3, 2, 1), 8, 2)
    assert pooling(torch.randn(2, 8, 7, 5)).shape == (2, 8, 4, 3)


def test_with_k_1_the_space_has_plain_edges(family):
    model = Images(1)
    assert isinstance(model.a, hosts.of_model(model).LayerChoice)
    assert model.state_dict()['a.conv.weight'].shape == (8, 8, 3, 3)


@pytest.mark.parametrize('k', [1, 4])
def test_the_space_is_the_same_with_partial_channels(k, family):
    model = Images(k)
    mutator = hosts.of_model(model).DartsMutator(model)
    mutator.reset()
    model(torch.randn(2, 3, 6, 6))
    assert mutator.choose_from == {'one': ('a', 'b'), 'two': ('c', 'd', 'e')}
    assert mutator.space.readers == {'a': {('one', 0)}, 'b': {('one', 1)}, 'c': {('two', 0), 'e'}, 'd': {('two', 1)},
                                     'e': {('two', 2)}}


def network_learns(network):
    optimizer = torch.optim.SGD(network.parameters(), 0.1)
    (_, (x, labels)), = images(1)
    losses = []
    for _ in range(5):
        optimizer.zero_grad()
        losses.append(nn.functional.cross_entropy(network(x), labels))
        losses[-1].backward()
        optimizer.step()
    return losses[-1] < losses[0]


def test_the_trainer_searches_partial_channels_and_the_network_found_has_all(family):
    model = write_weights(Images())
    data = images(2)
    trainer = DartsTrainer(model, nn.functional.cross_entropy, None, torch.optim.SGD(model.parameters(), 0.05), 1,
                           tuple(zip(*data)), dataset_valid=data[0], device='cpu')
    trainer.train()
    trainer.export('architecture.json')
    assert set(trainer.export()) == {*KEYS, 'one', 'two'}
    for k in (1, 4):
        network = apply_fixed_architecture(Images(k).double(), 'architecture.json')
        assert not any('LayerChoice' in type(module).__name__ for module in network.modules())
        assert network_learns(network)


ARCHITECTURE = {'a': 'conv', 'b': [], 'c': [], 'd': 'linear', 'e': [], 'one': 0, 'two': 1}
"""In the form of classic NNI."""


@pytest.mark.parametrize('k', [1, 4])
def test_edges_that_nothing_reads_leave_no_parameters(k, family):
    network = apply_fixed_architecture(Images(k).double(), ARCHITECTURE)
    used = {name.split('.')[0] for name, _ in network.named_parameters()}
    assert used == {'stem', 'a', 'd', 'classifier'}
    assert network_learns(network)


def by_nni(family):
    """The network that the functions of NNI make of the space and an architecture."""
    if family == 'classic':
        from nni.nas.pytorch.fixed import apply_fixed_architecture as apply
        network = Images()
        Path('architecture.json').write_text(json.dumps(ARCHITECTURE))
        apply(network, 'architecture.json')
        return network
    sample = {**{key: choice or 'conv' for key, choice in ARCHITECTURE.items()}, 'one': [0], 'two': [1]}
    if family == 'retiarii':
        import nni.retiarii
        if not hasattr(nni.retiarii, 'fixed_arch'):
            pytest.skip('NNI 2.0 has none for these choices')
        with nni.retiarii.fixed_arch(sample):
            return Images()
    return Images().freeze(sample)


def test_nnis_own_functions_make_the_same_network(family):
    (_, (x, _)), = images(1)
    network, expected = by_nni(family).double(), apply_fixed_architecture(Images().double(), ARCHITECTURE)
    expected.load_state_dict(network.state_dict(), strict=False)
    assert torch.equal(network(x), expected(x))


@pytest.mark.parametrize('options', ['recompute', 'channels last'])
def test_a_search_computes_the_same_with_options_for_speed(options):
    def searched(options):
        return recorded_search.trained(options, space=Images, data=images(2), epochs=1)
    different = recorded_search.differences(searched(options), searched('first order'))
    assert not different


@pytest.mark.family('lightning', 'nas')
def test_a_strategy_searches_them():
    found = recorded_search.searched('first order', space=Images, data=images(2), epochs=1)
    assert set(found['architecture']['sample']) == {*KEYS, 'one', 'two'}


@pytest.mark.parametrize('arguments, message', [
    ((nn.Identity, 6), r'channels=6 with k=4.*divides'),
    ((nn.Identity, 8, 0), 'k=0'),
    ((nn.Identity, 8, 16), 'k=16'),
    ((nn.Identity, 8.0, 2), r'channels=8\.0'),
    ((nn.Conv2d(2, 2, 1), 8), r'got Conv2d\(2, 2.*Expected a function'),
    ((lambda channels: channels, 8), 'got <function.*Expected a function'),
])
def test_what_makes_no_sense_is_refused(arguments, message):
    with pytest.raises(SearchSpaceError, match=message):
        dnn.PartialChannels(*arguments)


@pytest.mark.parametrize('layer, x, expected', [
    (nn.Conv2d(2, 2, 3, padding=1), (1, 16, 6, 6), r'input of shape \(1, 16, 6, 6\).*Expected 8 channels in the input'),
    (nn.Conv2d(2, 4, 3, padding=1), (1, 8, 6, 6), r'the shape \(1, 4, 6, 6\) of its first 2 channels.*2 from the edge'),
    (nn.Conv2d(2, 2, 3), (1, 8, 6, 6), r'the shape \(1, 2, 4, 4\).*same height and width as before, or half'),
    (nn.AvgPool2d(3), (1, 8, 6, 6), r'the shape \(1, 2, 2, 2\)'),
])
def test_shapes_that_do_not_fit_are_named(layer, x, expected):
    with pytest.raises(SearchSpaceError, match=expected):
        dnn.PartialChannels(lambda channels: layer, 8)(torch.randn(x))
