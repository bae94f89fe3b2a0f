"""Beta decay against the loss of its paper."""

import pytest
import torch
from papers import FAMILIES, ORDERS, Space, check_strategy, check_trainer, trainer

from nni_darts_ext import hosts
from nni_darts_ext.errors import MethodError
from nni_darts_ext.methods import At, BetaDecay


def softmax(alphas, at):
    return {key: torch.softmax(of_edge, 0) for key, of_edge in alphas.items()}


def regularizer(alphas, at):
    """lambda / |A| sum over edges of log sum exp(alpha)."""
    return 5 * at.epoch / at.epochs * sum(of_edge.exp().sum().log() for of_edge in alphas.values()) / len(alphas)


@pytest.mark.parametrize('family', FAMILIES)
@pytest.mark.parametrize('order', ORDERS)
def test_the_trainer_has_the_gradient_of_the_paper(order, family, monkeypatch):
    monkeypatch.setenv(hosts.PREFERENCE, family)
    check_trainer(BetaDecay, softmax, order, regularizer, epoch=2)


@pytest.mark.family('lightning', 'nas')
@pytest.mark.parametrize('order', ORDERS)
def test_a_strategy_has_it(order):
    check_strategy(BetaDecay, softmax, order, regularizer, epoch=1)


def test_the_first_epoch_is_plain_and_a_factor_of_0_is_none():
    logits = {'a': torch.tensor([1., 2.]), 'b': torch.tensor([0., 1., 2.])}
    assert BetaDecay().regularizer(logits, At(None, epoch=0, epochs=3)) == 0
    assert BetaDecay(0).regularizer(logits, At(None, epoch=2, epochs=3)) == 0


@pytest.mark.parametrize('order', [False, 'exact', 'finite_difference'])
def test_what_is_cut_takes_no_part(order):
    search = trainer([BetaDecay(50)], 2, unrolled=order)
    search.mutator.cut('b', 'sine')
    search.train()
    choices = search.mutator.choices
    term = BetaDecay(50).regularizer(choices.effective(choices.keys()), At(None, epoch=1, epochs=2))
    left = [choices['a'], choices['b'][[0, 1, 3]]]
    assert term.item() == pytest.approx(25 * sum(of_edge.exp().sum().log() for of_edge in left).item() / 2)
    gradient, = torch.autograd.grad(term, [choices['b']])
    assert gradient[2] == 0 and gradient.isfinite().all() and choices['b'].isfinite().all()


def test_a_training_loop_of_ones_own_is_refused():
    model = Space()
    with pytest.raises(MethodError, match=r'BetaDecay\(factor=5.0\) needs the epochs'):
        hosts.of_model(model).DartsMutator(model, methods=[BetaDecay()])


def test_the_number_of_epochs_must_be_known():
    with pytest.raises(MethodError, match='number of epochs, which is unknown'):
        BetaDecay().regularizer({'a': torch.zeros(2)}, At(None, epoch=0))


@pytest.mark.parametrize('wrong', [-1, float('nan'), float('inf'), None, '50'])
def test_the_factor_is_checked(wrong):
    with pytest.raises(MethodError, match=r'BetaDecay\(factor=.*a number of at least 0'):
        BetaDecay(wrong)
