"""The gradient of the logits as a paper writes it, on plain tensors, and as trainer, own loop and strategy have it.

A paper is a function of the logits by edge and of the position (``At``, without a search), which returns the weights by edge; the
weights of the zero op, last, are left out of the sum. Its regulariser is a function of the same. Everything is float64.
"""

import pytest
import torch
from conftest import OFFERED
from recorded_search import searched
from spaces import batches, smooth, write_weights
from torch import nn

import nni_darts_ext.nn as dnn
from nni_darts_ext import DartsTrainer, hosts
from nni_darts_ext.methods import ARCHITECTURE, WEIGHTS, At

FAMILIES = [family for family in ('classic', 'retiarii', 'nas') if OFFERED[family] is None]
ORDERS = [False, 'exact']
RATE, WEIGHT_DECAY = 0.05, 3e-4  # as in recorded_search
START = {'a': 0.4, 'b': 1.9}
"""The phases of the first logits, by edge."""


class Sine(nn.Module):
    def forward(self, x):
        return torch.sin(x)


class Space(dnn.ModelSpace):
    """Two edges, of which :func:`loss_of` is written out."""

    def __init__(self):
        super().__init__()
        self.a = dnn.LayerChoice({'linear': nn.Linear(3, 3), 'tanh': nn.Tanh()}, key='a')
        self.b = dnn.LayerChoice({'linear': nn.Linear(3, 3), 'skip': nn.Identity(), 'sine': Sine()}, key='b')
        self.pick = dnn.InputChoice(choose_from=['a', 'b'], n_chosen=1, key='pick')
        self.classifier = nn.Linear(3, 2)

    def forward(self, x):
        return self.classifier(self.pick([self.a(x), self.b(x)]))


def start(choices):
    """The same logits everywhere, the zero op's included."""
    for key, phase in START.items():
        choices[key].data = smooth(choices[key].shape, phase) * 2


def loss_of(weights_of_edges, parameters, batch):
    """The loss of :class:`Space`."""
    x, labels = batch
    a, a_bias, b, b_bias, c, c_bias = parameters
    of_a, of_b = weights_of_edges['a'], weights_of_edges['b']
    mixed = (of_a[0] * (x @ a.t() + a_bias) + of_a[1] * torch.tanh(x)
             + of_b[0] * (x @ b.t() + b_bias) + of_b[1] * x + of_b[2] * torch.sin(x))
    return nn.functional.cross_entropy(mixed @ c.t() + c_bias, labels)


def gradients(paper, order, regularizer=None, at=None, others=None):
    """By autograd, in the step of ``at``: its seed, epoch and step; the second order through one virtual step of SGD.

    ``others`` are parameters by name besides the logits, of which the paper is a function as well.
    """
    model = write_weights(Space())
    parameters = [one for module in model.modules() if isinstance(module, nn.Linear) for one in (module.weight, module.bias)]
    assert len(parameters) == 6
    alphas = {'a': nn.Parameter(torch.empty(3)), 'b': nn.Parameter(torch.empty(4))}
    for key, phase in START.items():
        alphas[key].data = smooth(alphas[key].shape, phase) * 2
    alphas.update(others or {})
    at = at or position()
    (training, validation), = batches(1)
    if order:
        loss = loss_of(paper(alphas, at._replace(phase=WEIGHTS)), parameters, training)
        steps = torch.autograd.grad(loss, parameters, create_graph=True)
        parameters = [one - RATE * (step + WEIGHT_DECAY * one) for one, step in zip(parameters, steps)]
    loss = loss_of(paper(alphas, at._replace(phase=ARCHITECTURE)), parameters, validation)
    if regularizer is not None:
        loss = loss + regularizer(alphas, at._replace(phase=ARCHITECTURE))
    return dict(zip(alphas, torch.autograd.grad(loss, list(alphas.values()))))


def back_to_now(model):
    """A function that gives the parameters of a model the values that they have now."""
    kept = [(parameter, parameter.data.clone()) for parameter in model.parameters()]

    def back():
        for parameter, value in kept:
            parameter.data.copy_(value)
    return back


def position(epoch=0, epochs=1, step=0):
    return At(None, epoch=epoch, epochs=epochs, step=step, seed=torch.initial_seed())


def assert_of_paper(choices, expected):
    for key, gradient in expected.items():
        assert choices[key].grad.tolist() == pytest.approx(gradient.tolist(), abs=1e-10)
        assert gradient.abs().max() > 1e-5


def trainer(methods, epochs=1, data=None, **options):
    torch.manual_seed(0)
    model = write_weights(Space())
    search = DartsTrainer(
        model, nn.functional.cross_entropy, None, torch.optim.SGD(model.parameters(), RATE, weight_decay=WEIGHT_DECAY), epochs,
        tuple(zip(*(data or batches(1)))), device='cpu', **{**dict(methods=methods, arc_learning_rate=0.05), **options})
    search.mutator.double()
    start(search.mutator.choices)
    return search


class AfreshAt:
    """A callback: in this epoch the search has its first weights and logits again."""

    def __init__(self, epoch):
        self.epoch = epoch

    def build(self, model, mutator, trainer):
        self.back, self.mutator = back_to_now(model), mutator

    def on_epoch_begin(self, epoch):
        if epoch == self.epoch:
            self.back()
            start(self.mutator.choices)

    def on_epoch_end(self, epoch):
        pass


def check_trainer(method, paper, order, regularizer=None, epoch=0, **options):
    """The gradient in a trainer, in the last of ``epoch + 1`` epochs. ``method`` makes the method."""
    search = trainer([method()], epoch + 1, unrolled=order, callbacks=[AfreshAt(epoch)], **options)
    search.train()
    assert_of_paper(search.mutator.choices, gradients(paper, order, regularizer, position(epoch, epoch + 1)))


def check_loop(method, paper, regularizer=None):
    """The gradient in a training loop of one's own, in which all passes are those of the weights."""
    torch.manual_seed(0)
    model = write_weights(Space())
    mutator = hosts.of_model(model).DartsMutator(model, methods=[method()]).double()
    start(mutator.choices)
    (_, (x, y)), = batches(1)
    mutator.reset()
    term = mutator.regularizer()
    loss = nn.functional.cross_entropy(model(x), y)
    (loss if term is None else loss + term).backward()

    def of_loop(alphas, at):
        return paper(alphas, at._replace(phase=WEIGHTS, epoch=None, epochs=None, step=1))
    assert_of_paper(mutator.choices, gradients(of_loop, False, regularizer))


def check_strategy(method, paper, order, regularizer=None, epoch=0):
    """The gradient in the strategy that is here, in the last of ``epoch + 1`` epochs."""
    back, seen = [], []

    def space():
        model = write_weights(Space())
        back.append(back_to_now(model))
        return model

    def afresh(strategy):
        seen.append(strategy)
        back[0]()
        start(strategy.choices)
    torch.manual_seed(0)
    searched('first order', data=batches(1), epochs=epoch + 1, space=space, changes={epoch: afresh}, momentum=0,
             arguments={'methods': [method()], 'unrolled': order})
    assert_of_paper(seen[0].choices, gradients(paper, order, regularizer, position(epoch, epoch + 1)))
