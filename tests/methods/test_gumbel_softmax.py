"""The Gumbel-softmax against the loss of GDAS."""

import math

import papers
import pytest
import torch
from papers import FAMILIES, ORDERS, Space, check_strategy, check_trainer, position, trainer
from spaces import batches
from torch.utils.checkpoint import checkpoint

from nni_darts_ext import MethodError, hosts
from nni_darts_ext.methods import VALIDATION, WEIGHTS, Dirichlet, GumbelSoftmax, RandomPerturbation


def paper(alphas, at):
    """h = one_hot(argmax(alpha + g)) with the gradient of softmax((alpha + g) / tau); the loss has h at the argmax alone."""
    tau = 10 - (10 - 2) * at.epoch / (at.epochs - 1)
    weights = {}
    for key, alpha in alphas.items():
        g = -torch.empty(len(alpha), dtype=torch.float64).exponential_(generator=at.generator(f'GumbelSoftmax {key}')).log()
        h = torch.softmax((torch.log_softmax(alpha, 0) + g) / tau, 0)
        sampled = int((alpha + g).argmax())
        weights[key] = torch.stack([h[i] - h[i].detach() + 1 if i == sampled else torch.zeros_like(h[i]) for i in range(len(h))])
    return weights


def method():
    """With a gradient that can be told from 0 in the last epoch."""
    return GumbelSoftmax(final_temperature=2)


@pytest.mark.parametrize('family', FAMILIES)
@pytest.mark.parametrize('order', ORDERS)
def test_the_trainer_has_the_gradient_of_the_paper(order, family, monkeypatch):
    monkeypatch.setenv(hosts.PREFERENCE, family)
    check_trainer(method, paper, order, epoch=2)


@pytest.mark.family('lightning', 'nas')
def test_a_strategy_has_it():
    check_strategy(method, paper, 'exact', epoch=2)


def test_candidates_are_sampled_by_their_softmax_in_steps_and_the_largest_one_is_validated():
    logits = {'a': torch.tensor([0.5, -math.inf, 1.0, 0.7, 1.5], requires_grad=True)}
    softmax = torch.softmax(logits['a'], 0)
    for temperature in (0.1, 10.0):
        sampler = GumbelSoftmax(temperature)
        drawn = torch.stack([sampler.relax(logits, position(step=step)._replace(phase=WEIGHTS))['a'] for step in range(3000)])
        assert ((drawn == 0) | (drawn == 1)).all() and (drawn.sum(1) == 1).all()
        assert (drawn.mean(0) - softmax).abs().max() < 0.04  # four standard deviations
    assert torch.equal(sampler.relax(logits, position())['a'], softmax)
    assert sampler.relax(logits, position()._replace(phase=VALIDATION))['a'].tolist() == [0, 0, 1, 0, 0]
    cut = {'a': torch.tensor([-math.inf, 0.0])}
    assert sampler.relax(cut, position()._replace(phase=VALIDATION))['a'].tolist() == [0, 0]


def test_the_temperature_falls_from_the_first_to_the_last_epoch():
    found = [GumbelSoftmax().temperature(position(epoch, 100)) for epoch in (0, 49.5, 99)]
    assert found == pytest.approx([10, 5.05, 0.1]) and GumbelSoftmax().temperature(position(0, 1)) == 10


def test_one_candidate_of_an_edge_runs_in_a_pass():
    search, runs = trainer([GumbelSoftmax()], 2, batches(20)), []
    for key in 'ab':
        for name, module in getattr(search.model, key).named_children():
            module.register_forward_hook(lambda *args, of=(key, name): runs.append((search.steps.methods.at[1:5], of)))
    search.train(validate=False)
    passes = {}
    for at, of in runs:
        passes.setdefault((at, of[0]), set()).add(of)
    assert len(passes) > 100 and all(len(ran) == 1 for ran in passes.values())
    assert len({of for _, of in runs}) == 5  # all of them at one time or another


def test_it_is_refused_without_epochs_and_with_a_temperature_of_0(monkeypatch):
    with pytest.raises(MethodError, match=r'GumbelSoftmax.* needs the epochs and steps of a search.*DartsTrainer'):
        hosts.of_model(Space()).DartsMutator(Space(), methods=[GumbelSoftmax()])
    with pytest.raises(MethodError, match='need its number of epochs.*Set max_epochs'):
        GumbelSoftmax().temperature(position(epochs=None))
    for wrong in (dict(initial_temperature=0), dict(final_temperature=math.inf), dict(final_temperature='1')):
        with pytest.raises(MethodError, match=f'GumbelSoftmax.{next(iter(wrong))}=.*expected a positive number'):
            GumbelSoftmax(**wrong)


class Checkpointed(Space):
    """A model that recomputes its edges by itself."""

    def forward(self, x):
        return self.classifier(checkpoint(lambda x: self.pick([self.a(x), self.b(x)]), x, use_reentrant=False))


@pytest.mark.parametrize('sampler', [GumbelSoftmax, Dirichlet, RandomPerturbation])
@pytest.mark.parametrize('order', [False, 'finite_difference'])
def test_a_model_that_recomputes_by_itself_has_the_same_samples(sampler, order, monkeypatch):
    found = []
    for space in (Space, Checkpointed):
        monkeypatch.setattr(papers, 'Space', space)
        search = trainer([sampler()], 2, batches(3), unrolled=order)
        search.train()
        found.append(torch.cat([of_edge.detach() for of_edge in search.mutator.choices.values()]))
    torch.testing.assert_close(found[1], found[0], rtol=0, atol=1e-12)
