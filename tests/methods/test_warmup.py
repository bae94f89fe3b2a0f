"""Warm-up: epochs in which the weights train alone."""

import pytest
from papers import trainer

from nni_darts_ext.errors import MethodError
from nni_darts_ext.methods import Warmup


class Logits:
    """A callback: the logits at the end of each epoch."""

    def __init__(self):
        self.seen = []

    def build(self, model, mutator, trainer):
        self.mutator = mutator

    def on_epoch_begin(self, epoch):
        pass

    def on_epoch_end(self, epoch):
        self.seen.append([logits.tolist() for logits in self.mutator.choices.values()])


@pytest.mark.parametrize('order', [False, 'exact', 'finite_difference'])
def test_the_logits_do_not_move_before_that_epoch_and_move_from_then_on(order, caplog):
    logits = Logits()
    search = trainer([Warmup(2)], 3, unrolled=order, callbacks=[logits])
    before = [logits.tolist() for logits in search.mutator.choices.values()]
    weights = search.model.classifier.weight.tolist()
    search.train()
    assert logits.seen[:2] == [before, before] and logits.seen[2] != before
    assert search.model.classifier.weight.tolist() != weights
    assert 'have not changed' not in caplog.text


def test_a_search_that_is_no_longer_is_refused_before_it_starts():
    search = trainer([Warmup()], 15)
    with pytest.raises(MethodError, match=r'Warmup\(epochs=15\) leaves no architecture step in 15 epochs.*Warmup\(epochs=4\)'):
        search.train()


def test_no_shorter_warm_up_is_advised_where_there_is_none():
    with pytest.raises(MethodError, match='leaves no architecture step in 1 epoch. Search longer.$'):
        trainer([Warmup(1)], 1).train()


@pytest.mark.parametrize('wrong', [0, -1, 1.5, True, None])
def test_the_number_is_checked(wrong):
    with pytest.raises(MethodError, match='an integer of at least 1'):
        Warmup(wrong)
