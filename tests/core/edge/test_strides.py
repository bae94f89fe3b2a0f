import logging
import os
import subprocess
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.utils.data import TensorDataset

from nni_darts_ext.core.edge import memory_format, saved_tensors
from nni_darts_ext.core.edge.compilation import CompiledMixture
from nni_darts_ext.core.edge.convolutions import overruns
from nni_darts_ext.core.edge.layers import run
from nni_darts_ext.core.edge.mixture import mix
from nni_darts_ext.core.logits import Relaxed
from nni_darts_ext.core.space import Edge, SearchSpace
from nni_darts_ext.loop.mutator import InPlaceMutator
from nni_darts_ext.loop.search_trainer import SearchTrainer
from nni_darts_ext.methods import Eigenvalue

WITHOUT_AVX512 = {'ONEDNN_MAX_CPU_ISA': 'AVX2', 'ATEN_CPU_CAPABILITY': 'avx2'}
CHECKED = {'LD_PRELOAD': 'libc_malloc_debug.so.0', 'MALLOC_CHECK_': '3'}
"""With these glibc's malloc, where it has a library to check with, ends a process that wrote beyond its memory."""


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 7), st.integers(1, 9), st.tuples(st.integers(1, 3), st.integers(1, 3)).filter(lambda both: both != (1, 1)),
       st.sampled_from([0, 'valid']), st.booleans(), st.tuples(st.integers(1, 9), st.integers(1, 9)))
def test_on_the_pixels_that_it_reads_a_convolution_gives_the_same_with_its_derivatives(inputs, outputs, stride, padding, bias,
                                                                                       size):
    strided = nn.Conv2d(inputs, outputs, 1, stride, padding, bias=bias).double()
    assert overruns(strided)
    x = torch.randn(2, inputs, *size, dtype=torch.float64, requires_grad=True)
    results = []
    for output in (run(strided, x), strided(x)):
        first = torch.autograd.grad((output ** 2).sum(), [x, *strided.parameters()], create_graph=True)
        second = torch.autograd.grad(sum((gradient ** 2).sum() for gradient in first), [x, *strided.parameters()])
        results.append([output, *first, *second])
    for one, other in zip(*results):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize('options', [
    {'in_channels': 8}, {'stride': 1}, {'kernel_size': 3}, {'kernel_size': (1, 3)}, {'groups': 2}, {'padding': 1}])
def test_others_run_as_they_are(options, mocker):
    convolve = mocker.spy(nn.functional, 'conv2d')
    layer = nn.Conv2d(**{**dict(in_channels=4, out_channels=4, kernel_size=1, stride=2), **options})
    x = torch.randn(2, layer.in_channels, 9, 9)
    assert not overruns(layer) and torch.equal(run(layer, x), layer(x))
    assert convolve.call_args_list[0][0][3:] == convolve.call_args_list[1][0][3:]


def test_an_image_alone_will_do():
    layer, image = nn.Conv2d(3, 3, 1, 2), torch.randn(3, 9, 8)
    torch.testing.assert_close(run(layer, image), layer(image))


def edge(inputs=4):
    """What a reduction cell may have, of plain Sequentials."""
    return nn.ModuleList([
        nn.Sequential(nn.ReLU(), nn.Conv2d(inputs, 2, 1, 2, bias=False), nn.BatchNorm2d(2, affine=False)),
        nn.Sequential(nn.Conv2d(inputs, 3, 1, (1, 2)), nn.Sequential(nn.ReLU(), nn.Conv2d(3, 2, 1, (2, 1), dilation=2))),
        nn.Conv2d(inputs, 2, 1, 2)])


@pytest.mark.parametrize('how', ['mixed', 'compiled', 'kept'])
def test_no_way_through_an_edge_has_the_strides(how, mocker, monkeypatch):
    monkeypatch.setattr(saved_tensors, 'SMALL', 0)
    if hasattr(torch, 'compile'):  # of which no compiler is needed
        mocker.patch('torch.compile', lambda function, **options: function)
    elif how == 'compiled':
        pytest.skip('PyTorch 2.0 brought torch.compile')
    convolve = mocker.spy(nn.functional, 'conv2d')
    x, weights = torch.randn(2, 4, 8, 8, requires_grad=True), Relaxed.of(torch.tensor([0.5, 0.3, 0.1]))
    mixture = CompiledMixture(True) if how == 'compiled' else mix
    mixture(edge(), weights, (x,), {}, keep_all=how == 'kept').sum().backward()
    assert convolve.call_count == (5 if how == 'mixed' else 4)  # one is computed again
    assert all(len(call[0]) == 3 and not call[1] for call in convolve.call_args_list)


def test_without_avx512_searches_with_the_channels_last_learn_the_same_and_overrun_nothing():
    """In another process, for these variables are read once."""
    ran = subprocess.run([sys.executable, __file__], env={**os.environ, **WITHOUT_AVX512, **CHECKED}, stdout=subprocess.PIPE,
                         stderr=subprocess.PIPE, universal_newlines=True, timeout=300)
    assert ran.returncode == 0, ran.stderr


def learn():
    for channels in (2, 4, 7):
        for options in ({}, {'recompute': True}, {'unrolled': 'exact'}, {'unrolled': 'finite_difference'}):
            found = [searched(channels, channels_last, options) for channels_last in (False, True)]
            for one, other in zip(*found):
                torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-5)


def searched(channels, channels_last, options):
    """The weights and logits of a search, which needs no host."""
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem, self.edge, self.classifier = nn.Conv2d(3, channels, 3, padding=1), edge(channels), nn.Linear(2, 2)

        def forward(self, x):
            return self.classifier(self.edge(self.stem(x)).square().mean((2, 3)))

    class Mutator(InPlaceMutator):
        @staticmethod
        def read_space(model, choose_from):
            found = Edge('edge', ('0', '1', '2'), 'edge')
            return SearchSpace([found]), {model.edge: found}

    torch.manual_seed(0)
    model, data = Net(), TensorDataset(torch.randn(48, 3, 32, 32), torch.randint(2, (48,)))
    mutator = Mutator(model)
    SearchTrainer(model, nn.functional.cross_entropy, lambda output, labels: {}, torch.optim.SGD(model.parameters(), 0.05), 1,
                  data, mutator=mutator, batch_size=4, workers=0, device='cpu', channels_last=channels_last,
                  methods=[Eigenvalue()] if options.get('unrolled') == 'finite_difference' else [], **options).train()
    return [*model.parameters(), *mutator.parameters()]


class Reduce(nn.Module):
    """A module of its own, whose layers it runs itself."""

    def __init__(self, channels):
        super().__init__()
        self.even, self.odd = nn.Conv2d(channels, 2, 1, 2), nn.Conv2d(channels, 2, 1, 2)


@pytest.fixture
def warned(caplog):
    def warned(model, edges, argument='channels_last'):
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            memory_format.warn_of_overruns(model, edges, argument)
        return caplog.messages
    return warned


def test_convolutions_that_the_model_runs_itself_are_warned_of_once_with_the_edge(warned):
    model = nn.ModuleDict({'stem': nn.Conv2d(3, 4, 1, 2), 'edge': nn.ModuleList([*edge(), Reduce(4)])})
    message, = warned(model, {'normal/0': model['edge']}, 'compile')
    assert "itself: 'stem', 'edge.3.even' of LayerChoice 'normal/0', 'edge.3.odd' of LayerChoice 'normal/0'. " in message
    assert 'AVX-512' in message and 'fewer than 8 input channels' in message and 'without compile' in message


def test_of_many_the_first_are_named(warned):
    message, = warned(nn.Sequential(*[Reduce(4) for _ in range(3)]), {})
    assert "itself: '0.even', '0.odd', '1.even' and 3 more. " in message


def test_one_with_a_hook_is_run_by_the_model(warned):
    model = edge()
    model[0][1].register_forward_hook(lambda module, inputs, output: output + 1)
    message, = warned(model, {'a': model})
    assert "'0.1' of LayerChoice 'a'. " in message


@pytest.mark.parametrize('model', [edge(), Reduce(8), nn.Conv2d(3, 4, 3, 2), nn.Linear(2, 2)])
def test_who_is_safe_is_not_warned(model, warned):
    assert warned(model, {'a': [model]} if not isinstance(model, nn.ModuleList) else {'a': model}) == []


if __name__ == '__main__':
    learn()
