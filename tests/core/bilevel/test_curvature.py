"""The dominant eigenvalue, against the whole Hessian."""

import math

import pytest
import torch
from torch import nn

from nni_darts_ext import TrainingError
from nni_darts_ext.core.bilevel.curvature import TOLERANCE, dominant_eigenvalue
from nni_darts_ext.core.logits import Logits


class Net(nn.Module):
    """Two edges of three candidates and the zero op, a BatchNorm and a dropout."""

    def __init__(self):
        super().__init__()
        self.candidates = nn.ModuleList([nn.Linear(4, 4), nn.Identity(), nn.Softplus()])
        self.norm, self.drop, self.last = nn.BatchNorm1d(4), nn.Dropout(0.5), nn.Linear(4, 3)
        self.choices = Logits()
        for key in 'ab':
            self.choices[key] = nn.Parameter(torch.randn(4))

    def forward(self, x):
        for key in self.choices:
            weights = self.choices.relax(key).weights
            x = sum(weight * candidate(x) for weight, candidate in zip(weights, self.candidates))
        return self.last(self.drop(self.norm(x)))


def whole_hessian(loss, logits):
    gradient = torch.cat(torch.autograd.grad(loss(), logits, create_graph=True))
    return torch.stack([torch.cat(torch.autograd.grad(entry, logits, retain_graph=True)) for entry in gradient])


@pytest.mark.parametrize('seed', range(8))
@pytest.mark.parametrize('cut', [False, True])
def test_the_eigenvalue_is_the_one_of_largest_size_and_nothing_stays_of_its_search(seed, cut):
    torch.manual_seed(seed)
    net, inputs, labels = Net().double(), torch.randn(32, 4).double(), torch.randint(3, (32,))
    if cut:
        net.choices.cut('a', 1)
    logits = net.choices.values()
    kept = {name: value.clone() for name, value in net.state_dict().items()}
    random_state = torch.get_rng_state()

    def loss():
        return nn.functional.cross_entropy(net(inputs), labels)
    found = dominant_eigenvalue(loss, logits, net)
    assert torch.equal(torch.get_rng_state(), random_state)
    assert all(torch.equal(value, kept[name]) for name, value in net.state_dict().items())
    assert all(parameter.grad is None and parameter.requires_grad for parameter in net.parameters())
    eigenvalues = torch.linalg.eigvalsh(whole_hessian(loss, logits))
    assert found == pytest.approx(float(max(eigenvalues, key=abs)), rel=TOLERANCE)


def test_a_loss_that_is_linear_in_the_logits_or_does_not_reach_them_has_none():
    logit, other = nn.Parameter(torch.ones(3)), nn.Parameter(torch.ones(2))
    model = nn.ParameterList([logit, other])
    assert dominant_eigenvalue(lambda: 3 * logit.sum(), [logit, other], model) == 0
    assert dominant_eigenvalue(lambda: torch.ones(()), [logit, other], model) == 0
    assert dominant_eigenvalue(lambda: -2 * (logit ** 2).sum(), [logit, other], model) == pytest.approx(-4)


def test_a_few_products_are_enough_where_others_are_almost_as_large_or_as_large_and_negative():
    torch.manual_seed(0)
    eigenvalues = torch.cat([torch.tensor([-1.0, 0.99, 0.98]), torch.linspace(0.6, -0.6, 97)]).double()
    directions, _ = torch.linalg.qr(torch.randn(100, 100).double())
    logits = nn.Parameter(torch.randn(100).double())
    model, products = nn.ParameterList([logits]), []

    def counted(gradients, parameters):
        products.append(gradients)
        return gradients

    def loss():
        return ((directions @ logits) ** 2 * eigenvalues).sum() / 2
    assert dominant_eigenvalue(loss, [logits], model, counted) == pytest.approx(-1, rel=TOLERANCE)
    assert len(products) < 25


def test_a_second_derivative_that_is_not_finite_gives_nan():
    logit = nn.Parameter(torch.zeros(2))
    assert math.isnan(dominant_eigenvalue(lambda: (logit.abs() ** 1.5).sum(), [logit], nn.ParameterList([logit])))


def test_an_operation_without_second_derivative_is_named_with_the_way_out():
    logit = nn.Parameter(torch.ones(4, 1, 3))

    def loss():
        return nn.functional.ctc_loss(logit.log_softmax(-1), torch.tensor([[1, 2]]), torch.tensor([4]), torch.tensor([2]))
    with pytest.raises(TrainingError, match='dominant eigenvalue needs second derivatives.*Leave out Eigenvalue'):
        dominant_eigenvalue(loss, [logit], nn.ParameterList([logit]))
