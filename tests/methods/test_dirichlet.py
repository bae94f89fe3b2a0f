"""Samples of a Dirichlet distribution against the loss of DrNAS."""

import pytest
import torch
from papers import FAMILIES, ORDERS, check_loop, check_strategy, check_trainer

from nni_darts_ext import hosts
from nni_darts_ext.methods import Dirichlet


def paper(alphas, at):
    """theta ~ Dirichlet(elu(alpha) + 1)."""
    weights = {}
    for key, alpha in alphas.items():
        state = torch.get_rng_state()
        torch.set_rng_state(at.generator(f'Dirichlet {key}').get_state())
        weights[key] = torch.distributions.Dirichlet(torch.nn.functional.elu(alpha) + 1).rsample()
        torch.set_rng_state(state)
    return weights


def divergence(alphas, at):
    """KL(Dirichlet(beta), Dirichlet(1)) = log gamma(sum beta) - log gamma(n) - sum(log gamma(beta))
    + sum((beta - 1) (psi(beta) - psi(sum beta)))."""
    total = 0
    for alpha in alphas.values():
        beta = torch.where(alpha > 0, alpha + 1, alpha.exp())
        n = torch.tensor(float(len(beta)), dtype=torch.float64)
        total = (total + beta.sum().lgamma() - n.lgamma() - beta.lgamma().sum()
                 + ((beta - 1) * (beta.digamma() - beta.sum().digamma())).sum())
    return 0.3 * total


@pytest.mark.parametrize('family', FAMILIES)
@pytest.mark.parametrize('order', ORDERS)
def test_the_trainer_has_the_gradient_of_the_paper(order, family, monkeypatch):
    monkeypatch.setenv(hosts.PREFERENCE, family)
    check_trainer(Dirichlet, paper, order)


@pytest.mark.parametrize('family', FAMILIES)
def test_a_training_loop_of_ones_own_has_it(family, monkeypatch):
    monkeypatch.setenv(hosts.PREFERENCE, family)
    check_loop(Dirichlet, paper)
    check_loop(lambda: Dirichlet(kl_factor=0.3), paper, divergence)


@pytest.mark.family('lightning', 'nas')
@pytest.mark.parametrize('order', ORDERS)
def test_a_strategy_has_it(order):
    check_strategy(lambda: Dirichlet(kl_factor=0.3), paper, order, divergence)
