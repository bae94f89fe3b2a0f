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
from nni_darts_ext import DartsTrainer, SearchSpaceError, apply_fixed_architecture, hosts
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


def module_of(**children):
    model = nn.Module()
    for name, child in children.items():
        setattr(model, name, child)
    return model


def values(*candidates):
    if not hasattr(retiarii, 'ValueChoice'):
        pytest.skip('this NNI has no ValueChoice')
    return retiarii.ValueChoice(list(candidates))


def wrapped(choice):
    """A model of one's own with arguments."""
    class Own(nn.Module):
        def __init__(self, width):
            super().__init__()
            self.layer = retiarii.Linear(3, width)
    return pytest.importorskip('nni.retiarii').model_wrapper(Own)(choice)


OTHERS = {
    'a module': (lambda: values(1, 2), r"ValueChoice at 'other'"),
    'an argument': (lambda: retiarii.Linear(8, values(4, 16)), r"ValueChoice\(\[4, 16\].*for out_features of Linear at 'other'"),
    'by name': (lambda: retiarii.Conv2d(1, 2, kernel_size=values(3, 5)), r"for kernel_size of Conv2d at 'other'"),
    'no matter what': (lambda: retiarii.Dropout(values(0.1, 0.2)), r"for p of Dropout at 'other'"),
    'deep within': (lambda: nn.Sequential(nn.ReLU(), retiarii.Linear(8, values(4, 16))), r"Linear at 'other.1'"),
    'a candidate': (lambda: layer_choice([retiarii.Linear(3, values(3, 4)), nn.Identity()], 'b'), r"Linear at 'other.0'"),
    'depth': (lambda: retiarii.Repeat(nn.ReLU(), (1, 3)), r"Repeat at 'other'"),
    'a placeholder': (lambda: retiarii.Placeholder('here', **({'related_info': {}} if retiarii_host._FIRST else {})),
                      r"Placeholder at 'other'"),
    'a model of its own': (lambda: wrapped(values(3, 4)), r"Own at 'other'|Linear at 'other.layer'"),
}


@pytest.mark.parametrize('case', OTHERS)
def test_other_choices_are_not_passed_over(case):
    build, message = OTHERS[case]
    try:
        other = build()
    except AttributeError as error:
        pytest.skip(f'this NNI has none: {error}')
    model = module_of(edge=layer_choice([nn.Linear(3, 3), nn.Identity()], 'edge'), other=other)
    with pytest.raises(SearchSpaceError, match=f'{message}.*only LayerChoice and InputChoice can. Fix its value'):
        DartsMutator(model)
    with pytest.raises(SearchSpaceError, match=message):
        apply_fixed_architecture(model, {'edge': '0'})


@pytest.mark.skipif(not hasattr(retiarii, 'ModelParameterChoice'), reason='this NNI has no ModelParameterChoice')
def test_a_value_that_a_model_chooses_for_itself_is_not_passed_over():
    from nni.retiarii import model_wrapper

    @model_wrapper
    class Own(nn.Module):
        def __init__(self):
            super().__init__()
            self.edge = layer_choice([nn.Identity()], 'edge')
            self.scale = retiarii.ModelParameterChoice([1, 2], label='scale')
    with pytest.raises(SearchSpaceError, match="ModelParameterChoice 'scale' of Own at ''"):
        DartsMutator(Own())
    with pytest.raises(SearchSpaceError, match="ModelParameterChoice 'scale' of Own at 'own'"):
        DartsMutator(module_of(own=Own()))


def test_nnis_modules_with_plain_arguments_are_searched():
    DartsMutator(module_of(edge=layer_choice([retiarii.Linear(3, 3), retiarii.Conv2d(1, 1, (3, 3))], 'edge'),
                           beside=retiarii.Sequential(retiarii.Linear(8, 4), retiarii.Embedding(2, 3))))


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
