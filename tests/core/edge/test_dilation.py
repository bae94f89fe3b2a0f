import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from nni_darts_ext.core.edge.convolutions import is_sparse
from nni_darts_ext.core.edge.layers import run

sides = st.tuples(st.integers(1, 3), st.integers(1, 3), st.integers(1, 3), st.integers(0, 2), st.integers(0, 9))


@settings(max_examples=150, deadline=None)
@given(st.tuples(sides, sides), st.sampled_from([(4, 4, 4), (4, 8, 4), (4, 6, 1), (4, 2, 2)]), st.booleans())
def test_a_convolution_that_leaves_pixels_out_gives_the_same_with_its_derivatives(both, channels, bias):
    kernel, dilation, multiple, padding, more = zip(*both)
    sparse = nn.Conv2d(channels[0], channels[1], kernel, tuple(d * m for d, m in zip(dilation, multiple)),
                       tuple(d * p for d, p in zip(dilation, padding)), dilation, channels[2], bias).double()
    assert is_sparse(sparse) == (dilation != (1, 1))
    size = [d * (k - 1) + 1 + extra for k, d, extra in zip(kernel, dilation, more)]
    x = torch.randn(2, channels[0], *size, dtype=torch.float64, requires_grad=True)
    results = []
    for output in (run(sparse, x), sparse(x)):
        first = torch.autograd.grad((output ** 2).sum(), [x, *sparse.parameters()], create_graph=True)
        second = torch.autograd.grad(sum((gradient ** 2).sum() for gradient in first), [x, *sparse.parameters()])
        results.append([output, *first, *second])
    for one, other in zip(*results):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize('options', [
    {'dilation': 2}, {'dilation': 2, 'stride': 3}, {'dilation': 2, 'stride': 2, 'padding': 1}, {'dilation': (1, 2), 'stride': 1},
    {'dilation': 2, 'stride': 2, 'padding': 2, 'padding_mode': 'reflect'}, {'dilation': 2, 'padding': 'same'}, {'stride': 2}])
def test_others_run_as_they_are(options, mocker):
    convolve = mocker.spy(nn.functional, 'conv2d')
    layer, x = nn.Conv2d(3, 3, 3, **options), torch.randn(2, 3, 9, 9)
    assert torch.equal(run(layer, x), layer(x))
    assert convolve.call_args_list[0][0][3:] == convolve.call_args_list[1][0][3:]


def test_of_the_papers_candidates_those_of_reduction_cells_run_without_dilation(mocker):
    convolve = mocker.spy(nn.functional, 'conv2d')
    layer = nn.Conv2d(8, 8, 5, 2, 4, 2, groups=8, bias=False)
    run(layer, torch.randn(2, 8, 16, 16))
    images, _, _, *settings = convolve.call_args[0]
    assert images.shape == (2, 8, 8, 8) and settings == [(1, 1), (2, 2), 1, 8]


def test_an_image_alone_will_do():
    layer, image = nn.Conv2d(3, 3, 3, 2, 2, 2), torch.randn(3, 9, 8)
    torch.testing.assert_close(run(layer, image), layer(image))


def test_subclasses_and_layers_with_hooks_are_called():
    class Doubled(nn.Conv2d):
        def forward(self, x):
            return 2 * super().forward(x)

    x = torch.randn(2, 3, 9, 9)
    doubled, hooked = (kind(3, 3, 3, 2, 2, 2) for kind in (Doubled, nn.Conv2d))
    hooked.register_forward_hook(lambda module, inputs, output: output + 1)
    for layer in (doubled, hooked):
        assert torch.equal(run(layer, x), layer(x))
