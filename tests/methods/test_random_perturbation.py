"""Random perturbations against the loss of SDARTS-RS."""

import math

import pytest
import torch
from papers import FAMILIES, ORDERS, Space, check_strategy, check_trainer, position

from nni_darts_ext import MethodError, hosts
from nni_darts_ext.methods import ARCHITECTURE, VALIDATION, WEIGHTS, RandomPerturbation


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
def test_a_strategy_has_it():
    check_strategy(RandomPerturbation, paper, 'exact', epoch=2)


def test_weights_move_in_the_weight_step_alone_and_keep_their_sum_and_their_zeros():
    weights = {'a': torch.tensor([0.5, 0.0, 0.3, 0.2]), 'b': torch.tensor([0.9, 0.8, 0.4])}
    for phase in (ARCHITECTURE, VALIDATION):
        assert RandomPerturbation().reweigh(weights, position()._replace(phase=phase)) is weights
    for radius in (0.0, 0.1, 0.3, 9.0):
        for step in range(50):
            noisy = RandomPerturbation(radius).reweigh(weights, position(step=step)._replace(phase=WEIGHTS))
            assert noisy['a'][1] == 0 and (noisy['a'] >= 0).all()
            assert [float(of_edge.sum()) for of_edge in noisy.values()] == pytest.approx([1, 2.1])
            assert torch.equal(noisy['a'], weights['a']) == (radius == 0)


def test_the_largest_weight_is_left_where_the_noise_takes_all():
    weights = {'a': torch.full((2,), 0.5)}
    at = position()._replace(phase=WEIGHTS)
    found = [RandomPerturbation(1e3).reweigh(weights, at._replace(step=step))['a'].tolist() for step in range(60)]
    assert [1.0, 0.0] in found and [0.0, 1.0] in found and [0.5, 0.5] in found
    assert all(sum(of_edge) == 1 for of_edge in found)


def test_it_is_refused_without_epochs_and_with_a_negative_radius():
    with pytest.raises(MethodError, match=r'RandomPerturbation.* needs the epochs and steps of a search.*DartsTrainer'):
        hosts.of_model(Space()).DartsMutator(Space(), methods=[RandomPerturbation()])
    for wrong in (dict(initial_radius=-1), dict(final_radius=math.nan), dict(final_radius='1')):
        with pytest.raises(MethodError, match=f'RandomPerturbation.{next(iter(wrong))}=.*expected a number of at least 0'):
            RandomPerturbation(**wrong)
