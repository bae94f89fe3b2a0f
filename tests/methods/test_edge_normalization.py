"""Edge normalisation against the formula of its paper."""

import papers
import pytest
import recorded_search
import torch
import two_processes
from papers import FAMILIES, ORDERS
from resumed import Interrupted
from spaces import batches, smooth
from torch import nn

import nni_darts_ext.nn as dnn
from nni_darts_ext import DartsMutator, DartsTrainer, MethodError, hosts
from nni_darts_ext.methods import EdgeNormalization, Softmax

BEGUN = 2 * smooth((2,), 0.7)


class Begun(EdgeNormalization):
    """From other betas than 0, in float64."""

    def attach(self, search):
        super().attach(search)
        for beta in self.parameters():
            beta.data = BEGUN.clone()


def paper(alphas, at):
    """Softmax of alpha, times softmax of beta over the edges of the node."""
    of_edges = torch.softmax(alphas.get('pick', BEGUN), 0)
    return {key: torch.softmax(alphas[key], 0) * of_edges[i] for i, key in enumerate('ab')}


class Made:
    """Makes the method, and checks the gradient of its beta."""

    def __call__(self):
        self.method = Begun()
        return self.method

    def check(self, order, at=None):
        beta = nn.Parameter(BEGUN.clone())
        gradients = papers.gradients(paper, order, at=at, others={'pick': beta})
        papers.assert_of_paper(dict(zip(['pick'], self.method.parameters())), {'pick': gradients['pick']})


@pytest.mark.parametrize('family', FAMILIES)
@pytest.mark.parametrize('order', ORDERS)
def test_the_trainer_has_the_gradient_of_the_paper(order, family, monkeypatch):
    monkeypatch.setenv(hosts.PREFERENCE, family)
    made = Made()
    papers.check_trainer(made, paper, order)
    made.check(order)


@pytest.mark.parametrize('family', FAMILIES)
def test_a_training_loop_of_your_own_has_it(family, monkeypatch):
    monkeypatch.setenv(hosts.PREFERENCE, family)
    made = Made()
    papers.check_loop(made, paper)
    papers.assert_of_paper({}, {})


@pytest.mark.family('lightning', 'nas')
@pytest.mark.parametrize('order', ORDERS)
def test_a_strategy_has_it(order):
    made = Made()
    papers.check_strategy(made, paper, order)
    made.check(order)
