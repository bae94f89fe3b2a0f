"""The auxiliary skip connection against the equation of its paper."""

import papers
import pytest
import torch
from papers import FAMILIES, ORDERS, check_strategy, check_trainer

from nni_darts_ext import hosts
from nni_darts_ext.methods import AuxiliarySkip


@pytest.fixture
def by_paper(monkeypatch):
    """The loss of the tests' space with beta times the input beside each edge, whether it has a skip connection or not."""
    def loss_of(weights_of_edges, parameters, batch):
        x, labels = batch
        a, a_bias, b, b_bias, c, c_bias = parameters
        of_a, of_b, beta = (weights_of_edges[key] for key in ('a', 'b', 'beta'))
        of_edge_a = beta * x + of_a[0] * (x @ a.t() + a_bias) + of_a[1] * torch.tanh(x)
        of_edge_b = (of_b[1] + beta) * x + of_b[0] * (x @ b.t() + b_bias) + of_b[2] * torch.sin(x)
        return torch.nn.functional.cross_entropy((of_edge_a + of_edge_b) @ c.t() + c_bias, labels)
    monkeypatch.setattr(papers, 'loss_of', loss_of)


def paper(alphas, at):
    return {'beta': 1 - at.epoch / at.epochs, **{key: torch.softmax(of_edge, 0) for key, of_edge in alphas.items()}}


@pytest.mark.parametrize('family', FAMILIES)
@pytest.mark.parametrize('order', ORDERS)
def test_the_trainer_has_the_gradient_of_the_paper(order, family, by_paper, monkeypatch):
    monkeypatch.setenv(hosts.PREFERENCE, family)
    check_trainer(AuxiliarySkip, paper, order, epoch=2)


@pytest.mark.family('lightning', 'nas')
@pytest.mark.parametrize('order', ORDERS)
def test_a_strategy_has_it(order, by_paper):
    check_strategy(AuxiliarySkip, paper, order, epoch=2)
