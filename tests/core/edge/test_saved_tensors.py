import gc
import weakref
from contextlib import nullcontext

import pytest
import torch
import torch.nn.utils.parametrize
import torch.utils.checkpoint
from torch import nn

from nni_darts_ext.core.edge import saved_tensors
from nni_darts_ext.core.edge.mixture import mix
from nni_darts_ext.core.logits import Relaxed

HALF = Relaxed.of(torch.tensor([0.5]))


@pytest.fixture(autouse=True)
def nothing_is_small(monkeypatch):
    monkeypatch.setattr(saved_tensors, 'SMALL', 0)


@pytest.fixture
def convolved(monkeypatch):
    """Weak references to what convolutions gave."""
    convolve, found = nn.functional.conv2d, []

    def spy(*args):
        output = convolve(*args)
        found.append(weakref.ref(output))
        return output
    monkeypatch.setattr(nn.functional, 'conv2d', spy)
    return found


def candidate(affine=False):
    torch.manual_seed(0)
    return nn.Sequential(nn.ReLU(), nn.Conv2d(4, 4, 3, padding=1, groups=4), nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4, affine=affine),
                         nn.ReLU(), nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4, affine=affine))


def alive(references):
    gc.collect()
    return [reference() is not None for reference in references]


@pytest.mark.parametrize('affine', [False, True])
def test_what_a_1x1_convolution_gives_a_norm_is_not_kept_but_computed_again(convolved, affine):
    x, op = torch.randn(2, 4, 5, 5, requires_grad=True), candidate(affine)
    output = mix([op], HALF, (x,), {})
    assert alive(convolved) == [True, False, False]
    output.square().sum().backward()
    assert len(convolved) == 5


def test_with_keep_all_it_is_kept(convolved):
    output = mix([candidate()], HALF, (torch.randn(2, 4, 5, 5, requires_grad=True),), {}, keep_all=True)
    assert alive(convolved) == [True, True, True]
    output.sum().backward()
    assert len(convolved) == 3


@pytest.mark.parametrize('change', [
    lambda: (saved_tensors, 'SMALL', 1000),
    lambda: (saved_tensors, 'CHEAP', 3)], ids=['what is small', 'what is made of many channels'])
def test_some_is_kept(convolved, monkeypatch, change):
    monkeypatch.setattr(*change())
    output = mix([candidate()], HALF, (torch.randn(2, 4, 5, 5, requires_grad=True),), {})
    assert alive(convolved) == [True, True, True]
    output.sum().backward()


def test_a_weight_that_is_computed_is_computed_once():
    class Counted(nn.Module):
        calls = 0

        def forward(self, weight):
            self.calls += 1
            return weight * 2

    op, counted = candidate(), Counted()
    nn.utils.parametrize.register_parametrization(op[2], 'weight', counted)
    before = counted.calls
    mix([op], HALF, (torch.randn(2, 4, 5, 5, requires_grad=True),), {}).square().sum().backward()
    assert counted.calls == before + 1


def test_without_gradients_nothing_is_kept(convolved):
    with torch.no_grad():
        mix([candidate()], HALF, (torch.randn(2, 4, 5, 5),), {})
    assert alive(convolved) == [False, False, False]


def test_a_weight_that_moves_for_a_while_changes_nothing():
    """As the weights do for the second order: their storage is exchanged, and comes back or not."""
    gradients = []
    for keep_all in (False, True):
        op, x = candidate(), torch.linspace(-1, 1, 200).reshape(2, 4, 5, 5).requires_grad_()
        loss = mix([op], HALF, (x,), {}, keep_all=keep_all).square().sum()
        for parameter in op.parameters():
            parameter.data = parameter.data + 1
        gradients.append(torch.autograd.grad(loss, [x, *op.parameters()]))
    for one, other in zip(*gradients):
        assert torch.equal(one, other)


def test_a_graph_may_be_gone_through_twice():
    op, x = candidate(), torch.randn(2, 4, 5, 5, requires_grad=True)
    loss = mix([op], HALF, (x,), {}).square().sum()
    once = torch.autograd.grad(loss, [x, *op.parameters()], retain_graph=True)
    for one, other in zip(once, torch.autograd.grad(loss, [x, *op.parameters()])):
        assert torch.equal(one, other)


@pytest.mark.parametrize('reentrant', [True, False])
def test_in_a_checkpoint_of_the_users_own_the_gradients_stay(reentrant):
    op, x = candidate(), torch.randn(2, 4, 5, 5, requires_grad=True)

    def edge(x):
        return mix([op], HALF, (x,), {})
    plain = torch.autograd.grad(edge(x).square().sum(), [x, *op.parameters()])
    torch.utils.checkpoint.checkpoint(edge, x, use_reentrant=reentrant).square().sum().backward()
    for one, other in zip(plain, [x, *op.parameters()]):
        torch.testing.assert_close(one, other.grad)


@pytest.mark.parametrize('halved', ['autocast', 'model'])
def test_in_half_precision_the_sum_stays_the_plain_one(halved):
    gradients = []
    for keep_all in (False, True):
        op, x = candidate(), torch.linspace(-1, 1, 200).reshape(2, 4, 5, 5).requires_grad_()
        if halved == 'model':
            op, x = op.bfloat16(), x.detach().bfloat16().requires_grad_()
        with torch.autocast('cpu', torch.bfloat16) if halved == 'autocast' else nullcontext():
            output = mix([op], Relaxed.of(torch.tensor([0.5], dtype=x.dtype)), (x,), {}, keep_all=keep_all)
        gradients.append(torch.autograd.grad(output.float().square().sum(), [x, *op.parameters()]))
    for one, other in zip(*gradients):
        assert torch.equal(one, other)


@pytest.mark.skipif(not hasattr(torch, 'func'), reason='PyTorch 2.0 brought torch.func')
def test_transforms_of_torch_func_keep_all():
    op, x = candidate(), torch.randn(2, 4, 5, 5)
    for norm in (op[3], op[6]):
        norm.track_running_stats, norm.running_mean, norm.running_var = False, None, None

    def loss(x):
        return mix([op], HALF, (x,), {}).square().sum()
    x.requires_grad_()
    torch.testing.assert_close(torch.func.grad(loss)(x), torch.autograd.grad(loss(x), x)[0])


def test_an_error_in_the_norm_leaves_nothing_behind(convolved):
    op = nn.Sequential(nn.Conv2d(4, 4, 1), nn.BatchNorm2d(5, affine=False))
    with pytest.raises((RuntimeError, ValueError)):
        mix([op], HALF, (torch.randn(2, 4, 5, 5, requires_grad=True),), {})
    assert alive(convolved) == [False]
