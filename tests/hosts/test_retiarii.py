"""NNI 2.0 - 2.10: the mutator on Retiarii's choices."""

import os
import subprocess
import sys
import warnings
from pathlib import Path

import nni.retiarii.nn.pytorch as retiarii
import pytest
import torch
from conftest import OFFERED
from torch import nn

import nni_darts_ext.nn as dnn
from nni_darts_ext import DartsTrainer, SearchSpaceError, hosts
from nni_darts_ext.hosts import retiarii as retiarii_host
from nni_darts_ext.hosts.retiarii import DartsMutator, input_choice, layer_choice

PORTABLE = ['test_conformance.py', 'test_ten_steps.py', 'test_choose_from.py', 'test_fixed.py', 'test_nn.py', 'test_trainer.py']


@pytest.fixture(autouse=True)
def _first_choice(monkeypatch):
    monkeypatch.setenv(hosts.PREFERENCE, 'retiarii')


@pytest.mark.ends
@pytest.mark.skipif(OFFERED['classic'] is not None, reason='here the family comes first anyway')
def test_all_that_holds_on_every_host_holds_on_this_one_where_another_comes_first():
    ran = subprocess.run([sys.executable, '-m', 'pytest', '-p', 'no:cacheprovider',
                          *(str(Path(__file__).parents[1] / name) for name in PORTABLE)],
                         env={**os.environ, hosts.PREFERENCE: 'retiarii'}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                         universal_newlines=True, timeout=600)
    assert ran.returncode == 0, ran.stdout


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = dnn.LayerChoice({'linear': nn.Linear(3, 3), 'tanh': nn.Tanh()}, key='a')
        self.b = dnn.LayerChoice([nn.Linear(3, 3), nn.Identity()], key='b')
        self.pick = dnn.InputChoice(choose_from=['a', 'b'], n_chosen=1, key='pick')

    def forward(self, x):
        return self.pick([self.a(x), self.b(x)])


def test_the_choices_are_nnis_own():
    model = Net()
    assert type(model.a) is retiarii.LayerChoice and type(model.pick) is retiarii.InputChoice
    mutator = DartsMutator(model)
    assert mutator.mutables == [model.a, model.b, model.pick]
    assert mutator.space.edges['a'].names == ('linear', 'tanh')


def test_fixed_arch_takes_the_sample():
    fixed = pytest.importorskip('nni.retiarii.fixed', reason='this NNI has no fixed_arch')
    torch.manual_seed(0)
    mutator = DartsMutator(Net())
    sample = mutator.export('sample')
    with fixed.fixed_arch(sample):
        found = Net()
    x = torch.randn(2, 3)
    kept = sample['pick'][0]
    assert torch.equal(found(x), [found.a, found.b][kept](x))
    assert sum(p.numel() for p in found.parameters()) < sum(p.numel() for p in mutator.model.parameters())


@pytest.mark.usefixtures('one_experiment')
def test_nnis_experiment_runs_the_trainer():
    if not hasattr(retiarii_host, 'Trainer'):
        pytest.skip('the experiment of the first version needs torchvision')
    try:
        from nni.retiarii.experiment.pytorch import RetiariiExperiment
    except ImportError:  # its first home
        from nni.retiarii.experiment import RetiariiExperiment
    model = Net()
    dataset = torch.utils.data.TensorDataset(torch.randn(8, 3), torch.randint(3, (8,)))
    trainer = DartsTrainer(model, nn.CrossEntropyLoss(), lambda output, labels: {}, torch.optim.SGD(model.parameters(), 0.1),
                           num_epochs=1, dataset=dataset, batch_size=2, workers=0, device='cpu')
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')  # NNI would rather have its strategies
        experiment = RetiariiExperiment(model, trainer)
        experiment.run()
        found = experiment.export_top_models()
    assert set(found) == {'a', 'b', 'pick'} and len(trainer.history) == 1


def test_other_choices_are_not_passed_over():
    value_choice = getattr(retiarii, 'ValueChoice', None)
    if value_choice is None or not issubclass(value_choice, nn.Module):
        pytest.skip('the ValueChoice of this NNI is no module')

    class Valued(nn.Module):
        def __init__(self):
            super().__init__()
            self.edge = layer_choice([nn.Identity()], 'edge')
            self.value = value_choice([1, 2])
    with pytest.raises(SearchSpaceError, match="ValueChoice at 'value'"):
        DartsMutator(Valued())


def test_bad_input():
    with pytest.raises(SearchSpaceError, match='no LayerChoice'):
        DartsMutator(nn.Linear(1, 1))
    model = nn.ModuleList([layer_choice([nn.Sequential(layer_choice([nn.Identity()], 'in'))], 'out')])
    with pytest.raises(SearchSpaceError, match='lies inside'):
        DartsMutator(model)
    model = nn.ModuleList([layer_choice([nn.Identity()], 'a'), input_choice(['a', 'b'], 1, 'sum', 'i')])
    with pytest.raises(SearchSpaceError, match=r"names \['b'\]"):
        DartsMutator(model)
    model = Net()
    DartsMutator(model)
    with pytest.raises(SearchSpaceError, match='searched already'):
        DartsMutator(model)
