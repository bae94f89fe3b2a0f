"""Samples of a Dirichlet distribution against the loss of DrNAS."""

import math

import pytest
import torch
from papers import FAMILIES, ORDERS, check_loop, check_strategy, check_trainer, position, trainer

from nni_darts_ext import MethodError, hosts
from nni_darts_ext.methods import VALIDATION, WEIGHTS, Dirichlet, EarlyStopping, Eigenvalue


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
def test_a_strategy_has_it():
    check_strategy(lambda: Dirichlet(kl_factor=0.3), paper, 'exact', divergence)


def test_weights_are_samples_in_steps_and_their_mean_elsewhere():
    logits = {'a': torch.tensor([0.5, -math.inf, -1.0, 0.7], requires_grad=True)}
    sampler, state = Dirichlet(), torch.get_rng_state()
    drawn = torch.stack([sampler.relax(logits, position(step=step)._replace(phase=WEIGHTS))['a'] for step in range(3000)])
    concentration = torch.tensor([1.5, 0.0, math.exp(-1), 1.7])
    mean = concentration / concentration.sum()
    for at in (position(), position()._replace(phase=VALIDATION)):
        torch.testing.assert_close(sampler.relax(logits, at)['a'], mean)
    assert (drawn.mean(0) - mean).abs().max() < 0.02 and drawn.std(0).max() > 0.1
    torch.testing.assert_close(drawn.sum(1), torch.ones(3000))
    gradient, = torch.autograd.grad(drawn[0, 0], logits['a'])
    assert gradient[1] == 0 and (gradient[[0, 2, 3]] != 0).all()
    assert torch.equal(torch.get_rng_state(), state)  # which other code draws from


@pytest.mark.parametrize('values', [[-60.0, 0.1, -80.0], [-math.inf, 0.3, -math.inf]])
def test_weights_and_gradients_are_finite_where_little_is_left(values):
    logits = {'a': torch.tensor(values, requires_grad=True)}
    weights = Dirichlet().relax(logits, position()._replace(phase=WEIGHTS))['a']
    gradient, = torch.autograd.grad(weights[1], logits['a'])
    assert weights[1].item() == pytest.approx(1) and torch.isfinite(gradient).all()


def test_no_candidate_is_left_out_whose_sample_is_small():
    logits = {'a': torch.full((9,), -8.0)}
    for step in range(20):
        assert (Dirichlet().relax(logits, position(step=step)._replace(phase=WEIGHTS))['a'] > 0).all()


def test_what_needs_second_derivatives_of_its_weights_is_refused_by_name():
    for other in (Eigenvalue(), EarlyStopping()):
        with pytest.raises(MethodError, match=f'(?=.*Dirichlet.*)(?=.*{type(other).__name__}.*).*cannot be combined'):
            trainer([other, Dirichlet()])
    for wrong in (-1, math.nan, '1'):
        with pytest.raises(MethodError, match='Dirichlet.kl_factor=.*expected a number of at least 0'):
            Dirichlet(wrong)
