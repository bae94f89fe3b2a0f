import copy

import pytest
import torch
from torch import nn

from nni_darts_ext import SearchSpaceError
from nni_darts_ext.core import keeping
from nni_darts_ext.core.logits import Relaxed
from nni_darts_ext.core.mixture import mix, reduce


class Times(nn.Module):
    def __init__(self, factor):
        super().__init__()
        self.factor = factor
        self.calls = 0

    def forward(self, x, bias=0):
        self.calls += 1
        return x * self.factor + bias


def weights(*values):
    return Relaxed.of(torch.tensor(values))


def test_the_mixture_is_the_weighted_sum():
    x = torch.tensor([[1.0, 2.0]])
    mixed = mix([Times(10), Times(100)], weights(0.5, 0.25), (x,), {'bias': 1})
    assert torch.equal(mixed, 0.5 * (x * 10 + 1) + 0.25 * (x * 100 + 1))


@pytest.mark.parametrize('reduction, expected', [
    ('sum', [[40.0]]), ('mean', [[20.0]]), ('concat', [[10.0, 30.0]]), ('none', [[[10.0]], [[30.0]]])])
def test_reductions_are_over_the_live_candidates(reduction, expected):
    mixed = mix([Times(10), Times(1), Times(30)], weights(1.0, 0.0, 1.0), (torch.ones(1, 1),), {}, reduction)
    assert (mixed if reduction != 'none' else torch.stack(mixed)).tolist() == expected


def test_a_candidate_of_weight_0_does_not_run():
    ops = [Times(2), Times(3)]
    mix(ops, weights(0.0, 0.1), (torch.ones(1),), {})
    assert [op.calls for op in ops] == [0, 1]


def test_with_everything_cut_an_edge_gives_zeros_of_the_right_shape_and_runs_nothing():
    norm = nn.BatchNorm2d(5)
    ops = [nn.Sequential(nn.Conv2d(3, 5, 3, stride=2), norm, nn.Dropout()), Times(1)]
    x, state = torch.randn(2, 3, 9, 9), torch.get_rng_state()
    zeros = mix(ops, weights(0.0, 0.0), (x,), {})
    assert zeros.shape == (2, 5, 4, 4) and not zeros.any()
    assert norm.num_batches_tracked == 0 and not norm.running_mean.any()
    assert torch.equal(torch.get_rng_state(), state)
    assert ops[0].training and ops[1].calls == 0
    assert mix(ops, weights(0.0, 0.0), (x,), {}, 'none') == []
    assert mix(ops, weights(0.0, 0.0), (x,), {}, 'concat').shape == (2, 0, 4, 4)


class Structured(nn.Module):
    def forward(self, x):
        return {'out': x, 'states': (x * 2, [x * 3])}


def test_candidates_may_return_structures_of_tensors():
    x = torch.ones(2)
    mixed = mix([Structured(), Structured()], weights(0.5, 0.25), (x,), {})
    assert torch.equal(mixed['out'], x * 0.75)
    assert isinstance(mixed['states'], tuple) and torch.equal(mixed['states'][1][0], x * 2.25)


def plain_sum(ops, relaxed, x):
    return sum(relaxed.weights[i] * ops[i](x) for i in relaxed.live)


def hooked(module):
    module.register_forward_hook(lambda module, inputs, output: output * 3)
    return module


class Doubling(nn.Sequential):
    def forward(self, x):
        return 2 * super().forward(x)


TWICE = nn.ReLU()
OPS = {
    'paper': lambda: [nn.Sequential(nn.MaxPool2d(3, 1, 1), nn.BatchNorm2d(3, affine=False)), nn.Identity(),
                      *(nn.Sequential(nn.ReLU(), nn.Conv2d(3, 3, k, padding=k // 2), nn.BatchNorm2d(3, affine=False), nn.ReLU(),
                                      nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3, affine=False)) for k in (1, 3, 5))],
    'reduction': lambda: [nn.Sequential(nn.ReLU(), nn.Conv2d(3, 3, k, 2, k - 1, 2, groups=3), nn.Conv2d(3, 3, 1),
                                        nn.BatchNorm2d(3, affine=False)) for k in (3, 5)],
    'affine': lambda: [nn.Sequential(nn.ReLU(), nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)) for _ in range(3)],
    'short': lambda: [nn.Sequential(nn.ReLU()), nn.Sequential(), nn.Sequential(nn.BatchNorm2d(3, affine=False))],
    'without statistics': lambda: [nn.Sequential(nn.ReLU(), nn.Conv2d(3, 3, 1),
                                                 nn.BatchNorm2d(3, affine=False, track_running_stats=False))] * 2,
    'hooks': lambda: [nn.Sequential(nn.ReLU(), nn.Conv2d(3, 3, 1)), hooked(nn.Sequential(nn.ReLU(), nn.Conv2d(3, 3, 1))),
                      nn.Sequential(hooked(nn.ReLU()), nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3, affine=False)),
                      nn.Sequential(nn.ReLU(), nn.Conv2d(3, 3, 1), hooked(nn.BatchNorm2d(3, affine=False)))],
    'subclasses': lambda: [nn.Sequential(nn.ReLU6(), nn.Conv2d(3, 3, 1)), nn.Sequential(nn.ReLU(), nn.Conv2d(3, 3, 1)),
                           Doubling(nn.ReLU(), nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3, affine=False))],
    'a layer twice': lambda: [nn.Sequential(TWICE, nn.Conv2d(3, 3, 1), TWICE, nn.Conv2d(3, 3, 1)) for _ in range(2)],
    'nested': lambda: [nn.Sequential(nn.Sequential(nn.ReLU(), nn.Conv2d(3, 3, 1)), nn.Sequential(nn.BatchNorm2d(3, affine=False)))
                       for _ in range(2)],
    'other layers behind the ReLU': lambda: [nn.Sequential(nn.ReLU(), nn.Dropout(0.0, inplace=True), nn.Conv2d(3, 3, 1)),
                                             nn.Sequential(nn.ReLU(), nn.Conv2d(3, 3, 1))],
}


@pytest.mark.parametrize('small', [0, keeping.SMALL])
@pytest.mark.parametrize('training', [True, False])
@pytest.mark.parametrize('ops', OPS)
def test_what_is_shared_fused_and_not_kept_is_the_plain_sum_with_its_gradients_and_statistics(ops, training, small, monkeypatch):
    monkeypatch.setattr(keeping, 'SMALL', small)
    torch.manual_seed(0)
    ours = nn.ModuleList(OPS[ops]()).double().train(training)
    theirs = copy.deepcopy(ours)
    results = []
    for modules, compute in ((ours, lambda relaxed, x: mix(list(ours), relaxed, (x,), {})),
                             (theirs, lambda relaxed, x: plain_sum(theirs, relaxed, x))):
        torch.manual_seed(1)
        x = torch.randn(4, 3, 5, 5, dtype=torch.float64, requires_grad=True)
        logits = torch.randn(len(ours) + 1, dtype=torch.float64, requires_grad=True)
        output = compute(Relaxed.of(torch.softmax(logits, 0)[:-1]), x)
        over = [x, logits, *modules.parameters()]
        gradients = torch.autograd.grad((output ** 2).sum(), over, create_graph=True)
        second = torch.autograd.grad(sum((gradient ** 2).sum() for gradient in gradients), over, allow_unused=True)
        results.append([output, *gradients, *second, *modules.state_dict().values()])
    for one, other in zip(*results):
        assert (one is None) == (other is None)
        if one is not None:
            torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-10)
    assert all(module.weight is None for module in ours.modules() if isinstance(module, nn.BatchNorm2d) and not module.affine)


def test_the_relu_that_candidates_begin_with_runs_once(mocker):
    relu = mocker.spy(nn.functional, 'relu')
    ops = [nn.Sequential(nn.ReLU(), nn.Conv2d(3, 3, 1)) for _ in range(4)]
    mix(ops, weights(0.1, 0.2, 0.3, 0.0), (torch.ones(1, 3, 2, 2),), {})
    assert relu.call_count == 1


def test_a_weight_of_another_type_than_the_values_is_multiplied():
    norm = nn.Sequential(nn.BatchNorm2d(3, affine=False)).double()
    x = torch.randn(4, 3, 2, 2, dtype=torch.float64)
    mixed = mix([norm], weights(0.5), (x,), {})
    assert mixed.dtype == torch.float64
    torch.testing.assert_close(mixed, 0.5 * norm(x))


def test_an_unknown_reduction_is_named():
    with pytest.raises(SearchSpaceError, match="'max'.*sum, mean, concat, none"):
        reduce([torch.ones(1), torch.ones(1)], 'max')
