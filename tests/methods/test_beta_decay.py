"""Beta decay against the loss of its paper."""

import pytest
import torch
from papers import FAMILIES, ORDERS, Space, check_strategy, check_trainer, trainer
from spaces import batches

from nni_darts_ext import hosts
from nni_darts_ext.errors import MethodError
from nni_darts_ext.methods import At, BetaDecay, Warmup


def softmax(alphas, at):
    return {key: torch.softmax(of_edge, 0) for key, of_edge in alphas.items()}


def decaying():
    return BetaDecay(2.5)


def regularizer(alphas, at):
    """lambda / |A| sum over edges of log sum exp(alpha), where each epoch has a step."""
    return 2.5 * at.epoch * sum(of_edge.exp().sum().log() for of_edge in alphas.values()) / len(alphas)


@pytest.mark.parametrize('family', FAMILIES)
@pytest.mark.parametrize('order', ORDERS)
def test_the_trainer_has_the_gradient_of_the_paper(order, family, monkeypatch):
    monkeypatch.setenv(hosts.PREFERENCE, family)
    check_trainer(decaying, softmax, order, regularizer, epoch=2)


@pytest.mark.family('lightning', 'nas')
@pytest.mark.parametrize('order', ORDERS)
def test_a_strategy_has_it(order):
    check_strategy(decaying, softmax, order, regularizer, epoch=1)


def test_the_first_epoch_is_plain_and_those_of_a_warm_up_do_not_count():
    seen = []

    class Seeing(BetaDecay):
        def regularizer(self, logits, at):
            term = super().regularizer(logits, at)
            seen.append(term.item() / (sum(of_edge.logsumexp(0) for of_edge in logits.values()).item() / 2))
            return term
    trainer([Seeing(0.1), Warmup(1)], 4, batches(3)).train()
    assert seen == pytest.approx([0] * 3 + [0.3] * 3 + [0.6] * 3)


@pytest.mark.parametrize('order', [False, 'exact', 'finite_difference'])
def test_what_is_cut_takes_no_part(order):
    decay = BetaDecay(25)
    search = trainer([decay], 2, unrolled=order)
    search.mutator.cut('b', 'sine')
    search.train()
    choices = search.mutator.choices
    term = decay.regularizer(choices.effective(choices.keys()), At(None))
    left = [choices['a'], choices['b'][[0, 1, 3]]]
    assert term.item() == pytest.approx(50 * sum(of_edge.exp().sum().log() for of_edge in left).item() / 2)
    gradient, = torch.autograd.grad(term, [choices['b']])
    assert gradient[2] == 0 and gradient.isfinite().all() and choices['b'].isfinite().all()


def test_a_training_loop_of_ones_own_is_refused():
    model = Space()
    with pytest.raises(MethodError, match=r'BetaDecay\(rate=0.001\) needs the epochs'):
        hosts.of_model(model).DartsMutator(model, methods=[BetaDecay()])


@pytest.mark.parametrize('wrong', [-1, float('nan'), float('inf'), None, '50'])
def test_the_rate_is_checked(wrong):
    with pytest.raises(MethodError, match=r'BetaDecay\(rate=.*a number of at least 0'):
        BetaDecay(wrong)
