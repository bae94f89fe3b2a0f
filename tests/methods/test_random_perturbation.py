"""Random perturbations against the loss of SDARTS-RS."""

import pytest
import torch
from papers import FAMILIES, ORDERS, check_strategy, check_trainer

from nni_darts_ext import hosts
from nni_darts_ext.methods import WEIGHTS, RandomPerturbation


def paper(alphas, at):
    """softmax(alpha) + delta on training data, clamped and scaled to a sum of 1."""
    weights = {key: torch.softmax(alpha, 0) for key, alpha in alphas.items()}
    if at.phase != WEIGHTS:
        return weights
    epsilon = 0.03 + (0.3 - 0.03) * at.epoch / at.epochs
    for key, of_edge in weights.items():
        uniform = torch.rand(len(of_edge), dtype=torch.float64, generator=at.generator(f'RandomPerturbation {key}'))
        noisy = (of_edge - epsilon + 2 * epsilon * uniform).clamp(0, 1)
        weights[key] = noisy / noisy.sum()
    return weights


@pytest.mark.parametrize('family', FAMILIES)
@pytest.mark.parametrize('order', ORDERS)
def test_the_trainer_has_the_gradient_of_the_paper(order, family, monkeypatch):
    monkeypatch.setenv(hosts.PREFERENCE, family)
    check_trainer(RandomPerturbation, paper, order, epoch=2)


@pytest.mark.family('lightning', 'nas')
@pytest.mark.parametrize('order', ORDERS)
def test_a_strategy_has_it(order):
    check_strategy(RandomPerturbation, paper, order, epoch=2)
