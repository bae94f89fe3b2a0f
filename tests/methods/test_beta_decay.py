"""Beta decay against the loss of its paper."""

import pytest
import torch
from papers import FAMILIES, ORDERS, check_strategy, check_trainer

from nni_darts_ext import hosts
from nni_darts_ext.methods import BetaDecay


def softmax(alphas, at):
    return {key: torch.softmax(of_edge, 0) for key, of_edge in alphas.items()}


def regularizer(alphas, at):
    """lambda / |A| sum over edges of log sum exp(alpha)."""
    return 50 * at.epoch / at.epochs * sum(of_edge.exp().sum().log() for of_edge in alphas.values()) / len(alphas)


@pytest.mark.parametrize('family', FAMILIES)
@pytest.mark.parametrize('order', ORDERS)
def test_the_trainer_has_the_gradient_of_the_paper(order, family, monkeypatch):
    monkeypatch.setenv(hosts.PREFERENCE, family)
    check_trainer(BetaDecay, softmax, order, regularizer, epoch=2)


@pytest.mark.family('lightning', 'nas')
@pytest.mark.parametrize('order', ORDERS)
def test_a_strategy_has_it(order):
    check_strategy(BetaDecay, softmax, order, regularizer, epoch=2)
