"""A method of one's own, examples/fair_darts.py, wherever a search can have it. Its weights do not add up to 1."""

import importlib.util
import math
import shutil
import sys
from pathlib import Path
from unittest import mock

import numpy
import pytest
import recorded_search
import torch
from conftest import OFFERED
from recorded_search import searched
from resumed import Interrupted
from spaces import TWO_NODES, Cells, batches, smooth, write_weights
from torch import nn

import nni_darts_ext
import nni_darts_ext.nn as dnn
from nni_darts_ext import DartsTrainer, cli, hosts, methods, plot
from nni_darts_ext.core.collapse import CollapseWatch, entropies
from nni_darts_ext.run import DONE, Run

EXAMPLE = Path(__file__).parents[2] / 'examples' / 'fair_darts.py'
FAMILIES = [family for family in ('classic', 'retiarii', 'nas') if OFFERED[family] is None]
ORDERS = [False, 'exact']
RATE, WEIGHT_DECAY = 0.05, 3e-4  # as in recorded_search


def _example():
    spec = importlib.util.spec_from_file_location('fair_darts', str(EXAMPLE))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


FairDARTS = _example().FairDARTS


class Space(dnn.ModelSpace):
    """Two edges, of which the paper's loss is written out below."""

    def __init__(self):
        super().__init__()
        self.a = dnn.LayerChoice({'linear': nn.Linear(3, 3), 'tanh': nn.Tanh()}, key='a')
        self.b = dnn.LayerChoice({'linear': nn.Linear(3, 3), 'skip': nn.Identity(), 'sine': Sine()}, key='b')
        self.pick = dnn.InputChoice(choose_from=['a', 'b'], n_chosen=1, key='pick')
        self.classifier = nn.Linear(3, 2)

    def forward(self, x):
        return self.classifier(self.pick([self.a(x), self.b(x)]))


class Sine(nn.Module):
    def forward(self, x):
        return torch.sin(x)


def start(choices):
    """The same logits everywhere, the zero op's too."""
    for key, shift in (('a', 0.4), ('b', 1.9)):
        choices[key].data = smooth(choices[key].shape, shift) * 2


def loss_of_the_paper(weights, alphas, batch, regularized):
    """L_val + w_01 L_01 with L_01 = -1/N sum (sigmoid(alpha) - 1/2)^2, on plain tensors; L_train without the second term."""
    x, labels = batch
    (a, a_bias), (b, b_bias), (c, c_bias) = weights
    of_a, of_b = (torch.sigmoid(alphas[key]) for key in 'ab')
    mixed = (of_a[0] * (x @ a.t() + a_bias) + of_a[1] * torch.tanh(x)
             + of_b[0] * (x @ b.t() + b_bias) + of_b[1] * x + of_b[2] * torch.sin(x))
    loss = nn.functional.cross_entropy(mixed @ c.t() + c_bias, labels)
    if regularized:
        loss = loss - 10 / 5 * sum((weight - 0.5) ** 2 for weight in (*of_a[:2], *of_b[:3]))
    return loss


def gradients_of_the_paper(order):
    """By autograd, of the first step; the second order through one virtual step of SGD."""
    model = write_weights(Space())
    named = {id(parameter): name for name, parameter in model.named_parameters()}
    linears = [module for module in model.modules() if isinstance(module, nn.Linear)]
    assert len(linears) == 3 and len(named) == 6
    weights = [(module.weight, module.bias) for module in linears]
    alphas = nn.ParameterDict({'a': nn.Parameter(torch.empty(3)), 'b': nn.Parameter(torch.empty(4))})
    start(alphas)
    (training, validation), = batches(1)
    if order:
        flat = [one for pair in weights for one in pair]
        steps = torch.autograd.grad(loss_of_the_paper(weights, alphas, training, False), flat, create_graph=True)
        moved = iter([one - RATE * (step + WEIGHT_DECAY * one) for one, step in zip(flat, steps)])
        weights = [(one, next(moved)) for one in moved]
    loss = loss_of_the_paper(weights, alphas, validation, True)
    return dict(zip('ab', (gradient.tolist() for gradient in torch.autograd.grad(loss, [alphas['a'], alphas['b']]))))


def assert_same(choices, order):
    for key, expected in gradients_of_the_paper(order).items():
        assert choices[key].grad.tolist() == pytest.approx(expected, abs=1e-10)
        assert any(abs(value) > 1e-2 for value in expected)


def trainer(epochs, data=None, **options):
    torch.manual_seed(0)
    model = write_weights(Space())
    search = DartsTrainer(model, nn.functional.cross_entropy, None, torch.optim.SGD(model.parameters(), RATE, momentum=0.9,
                          weight_decay=WEIGHT_DECAY), epochs, tuple(zip(*(data or batches(4)))), device='cpu',
                          **{**dict(methods=[FairDARTS()], arc_learning_rate=0.05), **options})
    search.mutator.double()
    start(search.mutator.choices)
    return search


# The gradient --------------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize('family', FAMILIES)
@pytest.mark.parametrize('order', ORDERS)
def test_the_trainer_has_the_gradient_of_the_paper(order, family, monkeypatch):
    monkeypatch.setenv(hosts.PREFERENCE, family)
    search = trainer(1, batches(1), unrolled=order)
    search.train()
    assert_same(search.mutator.choices, order)


@pytest.mark.parametrize('family', FAMILIES)
def test_a_training_loop_of_ones_own_has_it(family, monkeypatch):
    monkeypatch.setenv(hosts.PREFERENCE, family)
    model = write_weights(Space())
    mutator = hosts.of_model(model).DartsMutator(model, methods=[FairDARTS()]).double()
    start(mutator.choices)
    (_, (x, y)), = batches(1)
    mutator.reset()
    (nn.functional.cross_entropy(model(x), y) + mutator.regularizer()).backward()
    assert_same(mutator.choices, False)


@pytest.mark.family('lightning', 'nas')
@pytest.mark.parametrize('order', ORDERS)
def test_a_strategy_has_it(order):
    seen = []
    search(data=batches(1), epochs=1, order=order, changes={0: seen.append})
    assert_same(seen[0].choices, order)


def search(order=False, changes=None, **options):
    """With the strategy that is here."""
    with mock.patch.object(recorded_search, 'start_logits', start):
        return searched('first order', space=Space, changes=changes,
                        arguments={'methods': [FairDARTS()], 'unrolled': order}, **options)


# What is derived, recorded and resumed ---------------------------------------------------------------------------------------

@pytest.mark.parametrize('family', FAMILIES)
def test_the_edge_with_the_largest_sigmoid_is_kept(family, monkeypatch):
    monkeypatch.setenv(hosts.PREFERENCE, family)
    kept = []
    for given in ([FairDARTS()], []):
        model = Space()
        mutator = hosts.of_model(model).DartsMutator(model, methods=given)
        mutator.choices['a'].data = torch.tensor([2.0, 1.9, 2.0])     # a softmax of 0.34
        mutator.choices['b'].data = torch.tensor([-9.0, 1.0, -9.0, -9.0])
        kept.append(mutator.export())
    assert kept == [{'a': 'linear', 'b': [], 'pick': 'a'}, {'a': [], 'b': 'skip', 'pick': 'b'}]


@pytest.mark.parametrize('family', FAMILIES)
def test_what_is_cut_does_not_run_and_does_not_learn(family, monkeypatch):
    monkeypatch.setenv(hosts.PREFERENCE, family)
    search = trainer(2)
    search.mutator.cut('b', 'sine')
    search.train()
    weights = search.mutator.choices.probabilities('b')
    assert weights[2] == 0 and search.mutator.choices['b'][2] == 0 and torch.isfinite(weights).all()


def test_the_entropy_is_that_of_shares():
    search = trainer(1)
    search.mutator.choices['a'].data = torch.zeros(3, dtype=torch.float64)
    found = entropies(search.mutator.choices)
    assert found['a'] == pytest.approx(1) and 0 < found['b'] < 1
    assert 0 < CollapseWatch(search.mutator).read().entropy < 1


def state(search):
    return (search.export(), {key: logits.tolist() for key, logits in search.mutator.choices.items()}, search.history,
            {name: value.tolist() for name, value in search.model.state_dict().items()})


@pytest.mark.parametrize('order', ORDERS)
def test_a_trainer_resumes_bit_for_bit(order, tmp_path):
    class Failing:
        def build(self, *args):
            pass

        def on_epoch_begin(self, epoch):
            if epoch == 2:
                raise Interrupted

        def on_epoch_end(self, epoch):
            pass
    through = trainer(4, unrolled=order)
    through.train()
    with pytest.raises(Interrupted):
        trainer(4, unrolled=order, checkpoint_dir=tmp_path, callbacks=[Failing()]).train()
    again = trainer(4, unrolled=order, checkpoint_dir=tmp_path)
    start(again.mutator.choices)
    again.train()
    assert state(again) == state(through)


def test_it_does_not_resume_with_another_weight(tmp_path):
    trainer(1, checkpoint_dir=tmp_path).train()
    with pytest.raises(nni_darts_ext.CheckpointError, match='FairDARTS'):
        trainer(2, checkpoint_dir=tmp_path, methods=[FairDARTS(1.0)]).train()


@pytest.mark.family('lightning', 'nas')
def test_a_strategy_resumes_bit_for_bit(tmp_path):
    from pytorch_lightning.callbacks import ModelCheckpoint
    with mock.patch.object(numpy, 'Inf', numpy.inf, create=True):  # which NumPy 2 has no more and the oldest Lightning reads
        through = search(epochs=3, keep=[ModelCheckpoint(str(tmp_path), '{epoch}', save_top_k=-1, every_n_epochs=1)])
        again = search(epochs=3, checkpoint=tmp_path / 'epoch=1.ckpt')
    n = len(again['losses'])
    assert n == len(through['losses']) // 3
    assert {**again, 'losses': through['losses'][-n:]} == {**through, 'losses': again['losses']}


@pytest.mark.parametrize('family', FAMILIES)
def test_its_run_is_read_shown_and_drawn(family, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv(hosts.PREFERENCE, family)
    search = trainer(2, run_dir=tmp_path / 'run')
    search.train()
    run = Run.read(tmp_path / 'run')
    assert run.state.status == DONE and run.settings['methods'] == ['FairDARTS(zero_one_weight=10.0)']
    for key, logits in search.mutator.choices.items():
        assert run.epochs[-1].weights[key] == pytest.approx([1 / (1 + math.exp(-logit)) for logit in logits.tolist()])
        assert sum(run.epochs[-1].weights[key]) > 1.2
    assert all(0 <= epoch.indicators['entropy'] <= 1 for epoch in run.epochs)
    assert cli.main(['show', str(tmp_path / 'run')]) == 0
    assert 'pick' in capsys.readouterr().out
    if all(importlib.util.find_spec(package) for package in plot.PACKAGES):
        for command in ('plot', 'report'):
            assert cli.main([command, str(tmp_path / 'run')]) == 0
        assert (tmp_path / 'run' / 'report.html').is_file() and list((tmp_path / 'run' / 'pictures').iterdir())


@pytest.mark.family('lightning', 'nas')
def test_the_run_of_a_strategy_has_its_weights(tmp_path):
    with mock.patch.object(recorded_search, 'start_logits', start):
        found = searched('first order', space=Space, arguments={'methods': [FairDARTS()], 'run_dir': tmp_path / 'run'})
    for key, weights in Run.read(tmp_path / 'run').epochs[-1].weights.items():
        assert weights == pytest.approx([1 / (1 + math.exp(-logit)) for logit in found['logits'][key]])


# One file --------------------------------------------------------------------------------------------------------------------

def test_it_is_one_file_of_which_the_package_knows_nothing():
    package = Path(nni_darts_ext.__file__).parent
    assert [path for path in package.rglob('*.py') if 'fair' in path.read_text(encoding='utf-8').lower()] == []
    assert len(EXAMPLE.read_text(encoding='utf-8').splitlines()) < 50


def test_a_file_in_the_folder_of_methods_is_found(tmp_path, monkeypatch):
    shutil.copy(str(EXAMPLE), str(tmp_path))
    monkeypatch.setattr(methods, '__path__', [*methods.__path__, str(tmp_path)])
    monkeypatch.setitem(sys.modules, 'nni_darts_ext.methods.fair_darts', None)  # put back to what it was, which is nothing
    del sys.modules['nni_darts_ext.methods.fair_darts']
    assert methods.known()['FairDARTS'].__module__ == 'nni_darts_ext.methods.fair_darts'
    assert 'FairDARTS' in dir(methods)


def test_cells_that_share_their_keys_are_searched_too():
    torch.manual_seed(0)
    model = Cells(TWO_NODES, cells=2, named=True).double()
    search = DartsTrainer(model, nn.functional.cross_entropy, None, torch.optim.SGD(model.parameters(), RATE), 1,
                          tuple(zip(*batches(2))), device='cpu', methods=[FairDARTS()])
    search.mutator.double()
    search.train()
    assert math.isfinite(search.history[0]['train']['loss'])
