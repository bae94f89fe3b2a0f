import pytest
import torch
from torch import nn

from nni_darts_ext import SearchSpaceError
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


def test_an_unknown_reduction_is_named():
    with pytest.raises(SearchSpaceError, match="'max'.*sum, mean, concat, none"):
        reduce([torch.ones(1), torch.ones(1)], 'max')
