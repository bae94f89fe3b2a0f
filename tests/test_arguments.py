"""The arguments of trainer and strategies: what they are called, what is said of others, and what they do."""

import inspect

import numpy
import pytest
import torch
from conftest import OFFERED
from spaces import TWO_NODES, Cells, batches
from torch import nn

import nni_darts_ext
from nni_darts_ext import ArgumentError, DartsTrainer
from nni_darts_ext.loop.arguments import SHARED

BOTH = ['arc_betas', 'arc_learning_rate', 'arc_weight_decay', 'channels_last', 'choose_from', 'compile', 'methods', 'progress',
        'recompute', 'run_dir', 'unrolled', 'zero_op_wins']
STRATEGY = pytest.mark.family('nas', 'lightning')


def classes():
    return [DartsTrainer, *([nni_darts_ext.DARTS] if None in (OFFERED['nas'], OFFERED['lightning']) else [])]


def test_what_trainer_and_strategy_share_has_the_same_defaults_and_is_documented_in_both():
    found = [{name: parameter for name, parameter in inspect.signature(one).parameters.items() if name in BOTH}
             for one in classes()]
    for parameters in found:
        assert sorted(parameters) == BOTH
        assert {name: parameter.default for name, parameter in parameters.items()} == {
            name: parameter.default for name, parameter in found[0].items()}
    for one in classes():
        assert 'kwargs' not in str(inspect.signature(one))
        assert SHARED.split('\n    progress')[0] in one.__doc__
        documented = one.__doc__.split('Attributes\n')[0]
        assert [name for name in inspect.signature(one).parameters if name not in documented] == []


@pytest.mark.parametrize('keyword, nearest', [('unroled', 'unrolled'), ('method', 'methods'), ('channel_last', 'channels_last')])
def test_of_an_unknown_keyword_the_nearest_known_one_is_named(keyword, nearest):
    model = Cells(TWO_NODES)
    with pytest.raises(ArgumentError, match=f"no argument '{keyword}'. Did you mean '{nearest}'\\? It has model, "):
        DartsTrainer(model, nn.CrossEntropyLoss(), None, torch.optim.SGD(model.parameters(), 0.1), 1, **{keyword: 1})


@pytest.mark.parametrize('keyword, method', [('early_stopping', 'EarlyStopping'), ('shrink', 'Shrinking')])
def test_of_one_that_is_a_method_the_method_is_named(keyword, method):
    model = Cells(TWO_NODES)
    with pytest.raises(ArgumentError, match=rf"no argument '{keyword}'. Did you mean methods=\[{method}\(...\)\]\?"):
        DartsTrainer(model, nn.CrossEntropyLoss(), None, torch.optim.SGD(model.parameters(), 0.1), 1, **{keyword: 1})


@STRATEGY
@pytest.mark.parametrize('keyword, nearest', [('unroled', 'unrolled'), ('arc_learning_rat', 'arc_learning_rate')])
def test_and_by_the_strategy(keyword, nearest):
    with pytest.raises(TypeError, match=f"DARTS has no argument '{keyword}'. Did you mean '{nearest}'"):
        nni_darts_ext.DARTS(**{keyword: 1})
    with pytest.raises(ArgumentError, match="DARTS has no argument 'xyz'. It has arc_learning_rate, "):
        nni_darts_ext.DARTS(xyz=1)


@pytest.mark.family('classic', 'retiarii', 'nas')
def test_the_optimizer_of_the_logits_is_as_told():
    model = Cells(TWO_NODES).double()
    search = DartsTrainer(model, nn.functional.cross_entropy, None, torch.optim.SGD(model.parameters(), 0.05), 1,
                          tuple(zip(*batches(1))), device='cpu', arc_learning_rate=0.1, arc_betas=(0.9, 0.99),
                          arc_weight_decay=0.2)
    group, = search.ctrl_optim.param_groups
    assert (group['lr'], group['betas'], group['weight_decay']) == (0.1, (0.9, 0.99), 0.2)


@STRATEGY
def test_that_of_a_strategy_too_and_its_bar(mocker):
    mocker.patch.object(numpy, 'Inf', numpy.inf, create=True)  # which the oldest Lightning reads
    import recorded_search
    from pytorch_lightning import Callback
    seen = {}

    class Watch(Callback):
        def on_train_end(self, trainer, module):
            seen.update(optimizer=module.architecture_optimizer().param_groups[0],
                        bars=[callback for callback in trainer.callbacks if 'ProgressBar' in type(callback).__name__])
    for progress in (True, None):
        recorded_search.searched('first order', epochs=1, data=batches(1), keep=[Watch()], arguments=dict(
            arc_betas=(0.9, 0.99), arc_weight_decay=0.2, progress=progress))
        assert [seen['optimizer'][name] for name in ('lr', 'betas', 'weight_decay')] == [0.05, (0.9, 0.99), 0.2]
        assert len(seen['bars']) == bool(progress)


@pytest.mark.family('classic', 'retiarii', 'nas')
def test_what_is_the_mutators_is_refused_where_one_is_given():
    model = Cells(TWO_NODES)
    with pytest.raises(nni_darts_ext.TrainingError, match='zero_op_wins and choose_from have no effect'):
        DartsTrainer(model, nn.CrossEntropyLoss(), None, torch.optim.SGD(model.parameters(), 0.1), 1, tuple(zip(*batches(1))),
                     mutator=nni_darts_ext.DartsMutator(model), zero_op_wins=True)


@pytest.mark.family('classic', 'retiarii', 'nas')
def test_zero_op_wins_and_choose_from_are_handed_to_the_mutator():
    model = Cells([((3, 2), 1, 'sum')])
    search = DartsTrainer(model, nn.CrossEntropyLoss(), None, torch.optim.SGD(model.parameters(), 0.1), 1,
                          tuple(zip(*batches(1))), device='cpu', zero_op_wins=True,
                          choose_from={'node0': ['node0_edge1', 'node0_edge0']})
    assert search.mutator.zero_op_wins and search.mutator.choose_from == {'node0': ('node0_edge1', 'node0_edge0')}
