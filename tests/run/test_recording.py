"""Searches that write their run's folder after each epoch."""

import json

import pytest
import torch
from spaces import TWO_NODES, Cells, batches
from torch import nn

from nni_darts_ext import DartsTrainer, RunError, apply_fixed_architecture, cost
from nni_darts_ext.methods import Shrinking
from nni_darts_ext.run import DONE, FAILED, Run, show

pytestmark = pytest.mark.family('classic', 'retiarii', 'nas')


def trainer(epochs, **options):
    torch.manual_seed(0)
    model = Cells(TWO_NODES).double()
    found = DartsTrainer(model, nn.functional.cross_entropy, lambda output, labels: {'acc': 0.5},
                         torch.optim.SGD(model.parameters(), 0.05), epochs, tuple(zip(*batches(2))), device='cpu', **options)
    found.mutator.double()
    return found


def test_the_folder_tells_what_the_trainer_did(tmp_path):
    search = trainer(3, run_dir=tmp_path / 'run', methods=[Shrinking({2: 2})])
    search.train()
    run = Run.read(tmp_path / 'run')
    assert [epoch.epoch for epoch in run.epochs] == [0, 1, 2]
    assert [dict(epoch.train) for epoch in run.epochs] == [epoch['train'] for epoch in search.history]
    assert [dict(epoch.valid) for epoch in run.epochs] == [epoch['valid'] for epoch in search.history]
    for key, logits in search.mutator.choices.items():
        assert run.epochs[-1].weights[key] == pytest.approx(search.mutator.choices.probabilities(key).tolist())
        assert sum(weight == 0 for weight in run.epochs[-1].weights[key]) == len(logits) - 1 - 2
    assert json.loads((tmp_path / 'run' / 'architecture.json').read_text()) == search.mutator.export()
    assert run.state.status == DONE


def test_a_search_that_goes_on_goes_on_in_its_folder(tmp_path):
    trainer(2, run_dir=tmp_path).train()
    search = trainer(3, run_dir=tmp_path)
    search.train()
    assert [epoch.epoch for epoch in Run.read(tmp_path).epochs] == [0, 1, 2] and len(search.history) == 3
    assert len(Run.read(tmp_path).state.resumed) == 1


def test_a_search_that_starts_anew_overwrites_no_other(tmp_path):
    trainer(1, run_dir=tmp_path).train()
    with pytest.raises(RunError, match='already holds a run'):
        trainer(1, run_dir=tmp_path, checkpoint_dir=tmp_path / 'elsewhere').train()


def test_an_error_that_ends_the_search_is_written_down(tmp_path):
    search = trainer(2, run_dir=tmp_path)
    search.metrics = lambda output, labels: {}['accuracy']
    with pytest.raises(KeyError):
        search.train()
    state = Run.read(tmp_path).state
    assert state.status == FAILED and 'accuracy' in state.error


def test_a_bar_shows_the_epoch_where_it_is_of_search(capsys):
    pytest.importorskip('tqdm')
    trainer(1, progress=True).train()
    assert 'Epoch 1/1:' in capsys.readouterr().err
    trainer(1).train()
    assert 'Epoch' not in capsys.readouterr().err


@pytest.mark.parametrize('n_chosen', [1, None])
def test_the_run_tells_what_the_derived_network_costs(n_chosen, tmp_path):
    def space():
        return Cells([((4, 3), n_chosen, 'sum'), ((5, 2, 3), 2, 'sum')], cells=2).double()
    model, data = space(), tuple(zip(*batches(2)))
    search = DartsTrainer(model, nn.functional.cross_entropy, None, torch.optim.SGD(model.parameters(), 0.05), 1, data,
                          device='cpu', run_dir=tmp_path / 'run', arc_learning_rate=0.5)
    search.mutator.double()
    search.train()
    run = Run.read(tmp_path / 'run')
    derived = apply_fixed_architecture(space(), search.export())
    assert run.cost == cost(derived, data[0][0][0])._asdict() and run.cost['parameters'] > 8
    shown = f"The derived network has {run.cost['parameters']:,.0f} parameters and {run.cost['multiply_adds']:,.0f} multiply-adds"
    assert shown in show.render(run)


def test_what_is_known_of_the_costs_stays_when_the_search_resumes(tmp_path):
    trainer(1, run_dir=tmp_path).train()
    costs = Run.read(tmp_path).costs
    search = trainer(2, run_dir=tmp_path)
    search.mutator.cut('node0_edge0', 0)
    search.train()
    assert Run.read(tmp_path).costs == costs and set(costs) == {'parameters', 'multiply_adds'}


def test_a_model_that_runs_only_in_training_is_searched_without_its_multiply_adds(tmp_path):
    search = trainer(1, run_dir=tmp_path)
    search.model.cells[0].register_forward_pre_hook(lambda module, args: {}[module.training] if not module.training else None)
    search.train(validate=False)
    assert set(Run.read(tmp_path).cost) == {'parameters'}
