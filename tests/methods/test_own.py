"""A method of one's own, examples/fair_darts.py, wherever a search can have it. Its weights do not add up to 1."""

import importlib.util
import math
import shutil
import sys
from pathlib import Path
from unittest import mock

import numpy
import papers
import pytest
import recorded_search
import torch
from papers import FAMILIES, ORDERS, RATE, Space, check_loop, check_strategy, check_trainer, start
from recorded_search import searched
from resumed import Interrupted
from spaces import TWO_NODES, Cells, batches
from torch import nn

import nni_darts_ext
from nni_darts_ext import DartsTrainer, cli, hosts, methods, plot
from nni_darts_ext.core.collapse import CollapseWatch, entropies
from nni_darts_ext.run import DONE, Run

EXAMPLE = Path(__file__).parents[2] / 'examples' / 'fair_darts.py'


def _example():
    spec = importlib.util.spec_from_file_location('fair_darts', str(EXAMPLE))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


FairDARTS = _example().FairDARTS


def sigmoid(alphas, at):
    return {key: torch.sigmoid(of_edge) for key, of_edge in alphas.items()}


def zero_one_loss(alphas, at):
    """w_01 L_01 with L_01 = -1/N sum (sigmoid(alpha) - 1/2)^2 over the N = 5 candidates."""
    return -10 / 5 * sum((weight - 0.5) ** 2 for of_edge in sigmoid(alphas, at).values() for weight in of_edge[:-1])


def trainer(epochs, data=None, weight=10.0, **options):
    return papers.trainer([FairDARTS(weight)], epochs, data or batches(4), **options)


def search(**options):
    """With the strategy that is here."""
    with mock.patch.object(recorded_search, 'start_logits', start):
        return searched('first order', space=Space, arguments={'methods': [FairDARTS()]}, **options)


# The gradient --------------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize('family', FAMILIES)
@pytest.mark.parametrize('order', ORDERS)
def test_the_trainer_has_the_gradient_of_the_paper(order, family, monkeypatch):
    monkeypatch.setenv(hosts.PREFERENCE, family)
    check_trainer(FairDARTS, sigmoid, order, zero_one_loss)


@pytest.mark.parametrize('family', FAMILIES)
def test_a_training_loop_of_ones_own_has_it(family, monkeypatch):
    monkeypatch.setenv(hosts.PREFERENCE, family)
    check_loop(FairDARTS, sigmoid, zero_one_loss)


@pytest.mark.family('lightning', 'nas')
@pytest.mark.parametrize('order', ORDERS)
def test_a_strategy_has_it(order):
    check_strategy(FairDARTS, sigmoid, order, zero_one_loss)


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
        trainer(2, checkpoint_dir=tmp_path, weight=1.0).train()


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
