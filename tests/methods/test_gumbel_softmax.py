"""The Gumbel-softmax against the loss of GDAS."""

import pytest
import torch
from papers import FAMILIES, ORDERS, check_strategy, check_trainer

from nni_darts_ext import hosts
from nni_darts_ext.methods import GumbelSoftmax


def paper(alphas, at):
    """h = one_hot(argmax(alpha + g)), whose gradient is that of softmax((alpha + g) / tau); the loss has h at the argmax alone."""
    tau = 10 - (10 - 0.1) * at.epoch / (at.epochs - 1)
    weights = {}
    for key, alpha in alphas.items():
        g = -torch.empty(len(alpha), dtype=torch.float64).exponential_(generator=at.generator(f'GumbelSoftmax {key}')).log()
        h = torch.softmax((torch.log_softmax(alpha, 0) + g) / tau, 0)
        sampled = int((alpha + g).argmax())
        weights[key] = torch.stack([h[i] - h[i].detach() + 1 if i == sampled else torch.zeros_like(h[i]) for i in range(len(h))])
    return weights


@pytest.mark.parametrize('family', FAMILIES)
@pytest.mark.parametrize('order', ORDERS)
def test_the_trainer_has_the_gradient_of_the_paper(order, family, monkeypatch):
    monkeypatch.setenv(hosts.PREFERENCE, family)
    check_trainer(GumbelSoftmax, paper, order, epoch=2)


@pytest.mark.family('lightning', 'nas')
@pytest.mark.parametrize('order', ORDERS)
def test_a_strategy_has_it(order):
    check_strategy(GumbelSoftmax, paper, order, epoch=2)
