"""NNI 3.0: the mutator on its choices, and the strategy in real experiments of NNI's."""

import copy
import dataclasses
import json
import logging
import math
import pickle
import subprocess
import sys
from collections import OrderedDict, UserDict, namedtuple

import logged
import nas_experiment
import nni
import pytest
import reads
import repeated_batch
import strategy_cuts
import strategy_ranks
import torch
import words
from nni.mutable import label_scope
from nni.nas.evaluator import FunctionalEvaluator
from nni.nas.evaluator.pytorch import DataLoader, Lightning, Trainer
from nni.nas.execution import SequentialExecutionEngine
from nni.nas.experiment import NasExperiment
from nni.nas.hub.pytorch import DARTS as DartsHub
from nni.nas.hub.pytorch import MobileNetV3Space
from nni.nas.nn.pytorch import (
    Cell,
    InputChoice,
    LayerChoice,
    ModelSpace,
    MutableAvgPool2d,
    MutableConv2d,
    MutableLinear,
    MutableMaxPool2d,
    MutableReLU,
    Repeat,
)
from nni.nas.oneshot.pytorch.profiler import ExpectationProfilerPenalty
from nni.nas.oneshot.pytorch.strategy import DARTS as NniDARTS
from nni.nas.oneshot.pytorch.strategy import is_supernet
from nni.nas.profiler.pytorch.flops import NumParamsProfiler
from nni.nas.space import RawFormatModelSpace, model_context
from pytorch_lightning import Callback
from pytorch_lightning.callbacks import ModelCheckpoint
from resumed import Counting, Interrupted
from resumed import Net as Resumed
from spaces import TWO_NODES, Cells, batches, write_weights
from torch import nn

import nni_darts_ext.nn as dnn
from nni_darts_ext import (
    DARTS,
    CheckpointError,
    DartsMutator,
    EvaluatorError,
    LogitsError,
    SearchSpaceError,
    TrainingError,
    apply_fixed_architecture,
)
from nni_darts_ext.hosts.nas.penalty import penalize
from nni_darts_ext.methods import EarlyStopping, Eigenvalue, Shrinking, eigenvalue
from nni_darts_ext.run import DONE, Run


def search(model=None, steps=3, loss=nn.functional.cross_entropy, optimizer=None, data=None, trainer=(), **options):
    """A short search; returns the strategy, the experiment and how the logits moved."""
    model = write_weights(Cells(TWO_NODES, named=True)) if model is None else model
    strategy = Recording(**options)
    module = nas_experiment.Module(optimizer or (lambda weights: torch.optim.SGD(weights, 0.05)), loss)
    experiment = nas_experiment.search(model, strategy, module, data or batches(steps), **dict(trainer))
    moved = {key: strategy.choices[key].detach() - start for key, start in strategy.start.items()}
    return strategy, experiment, moved


class Recording(DARTS):
    """Remembers the logits as they were drawn."""

    def mutate_model(self, model):
        model = super().mutate_model(model)
        self.choices.double()
        self.start = {key: logits.detach().clone() for key, logits in self.choices.items()}
        return model


# The mutator -----------------------------------------------------------------------------------------------------------

def test_choices_stay_nnis_own_and_can_be_frozen():
    model = Cells(TWO_NODES, named=True)
    mutator = DartsMutator(model)
    assert {type(module) for module in mutator.mutables} == {LayerChoice, InputChoice}
    assert [module.label for module in mutator.mutables] == [module.label for module in dict.fromkeys(
        module for module in model.modules() if isinstance(module, (LayerChoice, InputChoice)))]
    assert mutator.device() == torch.device('cpu')

    sample = mutator.export('sample')
    assert model.contains(sample)
    x = torch.randn(5, 3)
    frozen = model.freeze(sample).eval()
    with model_context(sample):
        rebuilt = Cells(TWO_NODES, named=True).eval()
    rebuilt.load_state_dict(frozen.state_dict())
    assert torch.equal(rebuilt(x), frozen(x))


def test_an_applied_sample_is_the_network_that_nni_freezes():
    model = Cells(TWO_NODES, cells=2, named=True)
    mutator = DartsMutator(model)
    for logits in mutator.choices.values():
        logits.data[0] = 1.0  # a layer with weights on every edge
    sample = mutator.export('sample')
    x = torch.randn(5, 3)
    frozen = model.freeze(sample).eval()
    applied = apply_fixed_architecture(model, sample).eval()
    assert torch.equal(applied(x), frozen(x))
    assert set(applied.state_dict()) < set(frozen.state_dict())  # NNI keeps the edges that nothing reads


def test_choices_that_share_a_label_share_the_logits():
    mutator = DartsMutator(Cells(TWO_NODES, cells=3))
    assert len(mutator.choices) == 5
    assert len(mutator.mutables) == 7


def test_the_model_is_not_a_part_of_the_mutator():
    mutator = DartsMutator(Cells(TWO_NODES))
    assert list(mutator.parameters()) == mutator.choices.values()
    assert all(name.startswith('choices.') for name in mutator.state_dict())


@pytest.mark.parametrize('copies', [copy.deepcopy, lambda pair: pickle.loads(pickle.dumps(pair))])
def test_model_and_mutator_can_be_copied_together(copies):
    model = Cells(TWO_NODES)
    pair = copies((model, DartsMutator(model)))
    pair[1].choices['node0_edge0'].data[0] = 9.0
    x = torch.randn(4, 3)
    assert not torch.equal(pair[0].eval()(x), model.eval()(x))
    pair[0](x).sum().backward()
    assert pair[1].choices['node0_edge0'].grad is not None


class MyLayerChoice(LayerChoice):
    pass


class Subclassed(ModelSpace):
    def __init__(self):
        super().__init__()
        self.edge = MyLayerChoice([nn.Linear(3, 2), nn.Linear(3, 2)], label='edge')

    def forward(self, x):
        return self.edge(x)


def test_a_subclass_of_layer_choice_is_searched_where_nni_refuses_it():
    with pytest.raises(TypeError, match='dangling mutables'):
        NniDARTS().mutate_model(Subclassed())
    DartsMutator(Subclassed())
    _, experiment, moved = search(Subclassed().double(), arc_learning_rate=0.1)
    assert moved['edge'].abs().min() > 0
    assert experiment.export_top_models(formatter='dict')[0]['edge'] in (0, 1)


def test_labels_under_a_prefix_are_found_by_their_keys():
    class Prefixed(ModelSpace, label_prefix='net'):
        def __init__(self):
            super().__init__()
            with label_scope('cell'):
                self.edge = dnn.LayerChoice([nn.Identity()], key='edge')
                self.pick = dnn.InputChoice(choose_from=['edge', ''], n_chosen=1, key='pick')
    mutator = DartsMutator(Prefixed())
    assert list(mutator.choices) == ['net/cell/edge']
    assert mutator.space.inputs['net/cell/pick'].choose_from == ('net/cell/edge', '')


def test_a_cut_reaches_the_frozen_sample():
    model = Cells(TWO_NODES, named=True)
    mutator = DartsMutator(model)
    for candidate in ('op0', 'op1', 'op3'):
        mutator.cut('node0_edge0', candidate)
    assert mutator.export('sample')['node0_edge0'] == 'op2'


def test_an_input_choice_without_sources_is_reported(caplog):
    class NoSources(ModelSpace):
        def __init__(self):
            super().__init__()
            self.edge = LayerChoice([nn.Identity()], label='edge')
            self.pick = InputChoice(2, n_chosen=1, label='pick')
    with caplog.at_level(logging.WARNING):
        DartsMutator(NoSources()).export()
    assert "InputChoice 'pick' names no LayerChoice in choose_from" in caplog.text


# The strategy ------------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize('first', ['DARTS', 'DartsMutator', 'DartsTrainer', 'nn.LayerChoice'])
def test_nnis_own_strategies_work_whatever_of_ours_was_imported_first(first):
    code = (f'import nni_darts_ext, nni_darts_ext.nn; nni_darts_ext.{first}; nni_darts_ext.DARTS; '
            'from nni.nas.strategy import DARTS; assert issubclass(nni_darts_ext.DARTS, DARTS); DARTS()')
    subprocess.run([sys.executable, '-c', code], check=True)


def test_it_is_nnis_strategy_by_class_and_name():
    assert issubclass(DARTS, NniDARTS)
    assert repr(DARTS()) == repr(NniDARTS()) == 'DARTS()'


def test_a_seed_gives_the_logits_that_it_gives_to_the_mutator():
    torch.manual_seed(1)
    model = Cells(TWO_NODES)
    state = torch.get_rng_state()
    mutator = DartsMutator(Cells(TWO_NODES) if torch.set_rng_state(state) else copy.deepcopy(model))
    torch.set_rng_state(state)
    strategy = DARTS()
    strategy.mutate_model(model)
    assert list(strategy.choices) == list(mutator.choices)
    assert all(torch.equal(strategy.choices[key], mutator.choices[key]) for key in mutator.choices)


def test_the_supernet_computes_what_the_mutators_does():
    one, other = Cells(TWO_NODES, cells=2), Cells(TWO_NODES, cells=2)
    other.load_state_dict(one.state_dict())
    mutator, strategy = DartsMutator(one), DARTS()
    strategy.mutate_model(other)
    strategy.choices.load_state_dict(mutator.choices.state_dict())
    x = torch.randn(4, 3)
    assert torch.equal(one(x), other(x))
    assert is_supernet(other)


def test_the_sample_honours_the_strengths_of_the_edges_and_freezes():
    strategy, experiment, _ = search(steps=1)
    strong = {'node0_edge0': 0.0, 'node0_edge1': 3.0, 'node1_edge0': 2.0, 'node1_edge1': 0.0, 'node1_edge2': 1.0}
    for key, strength in strong.items():
        strategy.choices[key].data[:] = 0.0
        strategy.choices[key].data[1] = strength
    strategy.choices['node1_edge1'].data[-1] = 5.0  # the zero op takes the edge's mass

    sample, = experiment.export_top_models(formatter='dict')
    assert sample['node0'] == [1] and sample['node1'] == [0, 2]
    assert {sample[key] for key in ('node0_edge1', 'node1_edge0', 'node1_edge2')} == {'op1'}
    frozen = experiment.model_space.freeze(sample)
    assert not any('_darts' in name for name, _ in frozen.named_parameters())
    instance, = experiment.export_top_models(formatter='instance')
    x = torch.randn(4, 3, dtype=torch.float64)
    with model_context(sample):
        rebuilt = Cells(TWO_NODES, named=True).double()
    rebuilt.load_state_dict(instance.state_dict())
    assert torch.equal(rebuilt.eval()(x), instance.eval()(x))


def test_the_architecture_learns_at_the_given_rate_alone():
    _, _, still = search(arc_learning_rate=0.0)
    assert not any(move.any() for move in still.values())
    for rate in (1e-2, 1e-3):
        _, _, moved = search(steps=1, arc_learning_rate=rate)
        for move in moved.values():  # Adam's first step is the learning rate
            assert move.abs().tolist() == pytest.approx([rate] * len(move), rel=1e-2)


def test_warm_up_leaves_the_architecture_alone():
    _, _, moved = search(arc_learning_rate=0.1, warmup_epochs=2, trainer={'max_epochs': 2})
    assert not any(move.any() for move in moved.values())
    _, _, moved = search(arc_learning_rate=0.1, warmup_epochs=2, trainer={'max_epochs': 3})
    assert all(move.all() for move in moved.values())


@pytest.mark.parametrize('clip', [None, 1e-4])
def test_gradients_of_the_weights_are_clipped(clip):
    model = write_weights(Cells(TWO_NODES, named=True))
    before = [parameter.detach().clone() for parameter in model.parameters()]
    names = [name for name, _ in model.named_parameters()]
    search(model, steps=1, gradient_clip_val=clip, optimizer=lambda weights: torch.optim.SGD(weights, 1.0))
    after = dict(model.named_parameters())
    moved = math.sqrt(sum(((after[name] - old) ** 2).sum().item() for name, old in zip(names, before)))
    assert (moved > 0.01) if clip is None else moved == pytest.approx(clip, rel=1e-3)


def test_each_step_leaves_to_the_other_what_it_owns():
    model = write_weights(Cells(TWO_NODES, named=True))
    strategy = Recording(arc_learning_rate=0.1)
    seen = []

    def loss(output, labels):
        seen.append({'weights': model.classifier.weight.detach().clone(),
                     'weights.grad': model.classifier.weight.grad,
                     'logits': strategy.choices['node0_edge0'].detach().clone()})
        value = nn.functional.cross_entropy(output, labels)
        value.register_hook(lambda _: seen[-1].update(
            weights_on=model.classifier.weight.requires_grad, logits_on=strategy.choices['node0_edge0'].requires_grad))
        return value
    nas_experiment.search(model, strategy, nas_experiment.Module(loss=loss), batches(2))
    first_arch, first_weights, second_arch, _ = seen
    assert torch.equal(first_arch['weights'], first_weights['weights'])
    assert first_weights['weights.grad'] is None
    assert not torch.equal(first_arch['logits'], first_weights['logits'])
    assert torch.equal(first_weights['logits'], second_arch['logits'])
    assert not torch.equal(first_weights['weights'], second_arch['weights'])
    assert [(step['weights_on'], step['logits_on']) for step in seen] == [(False, True), (True, False)] * 2
    assert all(parameter.requires_grad for parameter in model.parameters())


@pytest.mark.parametrize('unrolled', [False, 'exact', 'finite_difference'])
def test_the_host_reads_no_numbers_in_a_step(unrolled, monkeypatch):
    monkeypatch.setattr('nni_darts_ext.core.logits.AT_ONCE', ())  # on the CPU one need not wait for them

    def reads_of(n):
        return reads.count(monkeypatch, lambda: search(steps=n, unrolled=unrolled, log_prob_every_n_step=100))
    assert reads_of(2) == reads_of(9) > 0


def test_logits_that_are_no_numbers_any_more_are_reported_in_the_next_epoch():
    with pytest.raises(LogitsError, match='learning rate that is too high'):
        search(arc_learning_rate=math.inf, trainer={'max_epochs': 2})


@pytest.mark.parametrize('call, what', [(9, 'validation'), (10, 'training')])
@pytest.mark.parametrize('at_once', [True, False])
def test_a_loss_that_is_no_number_ends_the_search_and_spoils_nothing(call, what, at_once, monkeypatch):
    if not at_once:  # as on a device on which reading means waiting
        monkeypatch.setattr('nni_darts_ext.core.logits.AT_ONCE', ())
    calls = []

    def loss(output, labels):
        calls.append(1)
        return nn.functional.cross_entropy(output, labels) * (math.nan if len(calls) == call else 1.0)
    strategy = Recording(arc_learning_rate=0.1)
    model = write_weights(Cells(TWO_NODES, named=True))
    with pytest.raises(TrainingError, match=f'The {what} loss in step 1 of epoch 1 .* is nan'):
        nas_experiment.search(model, strategy, nas_experiment.Module(loss=loss), batches(3), max_epochs=2)
    assert len(calls) == (call if at_once else 12)
    assert all(torch.isfinite(p).all() for p in model.parameters())
    assert all(torch.isfinite(logits).all() for logits in strategy.choices.values())


@pytest.mark.parametrize('unrolled', [False, 'exact', 'finite_difference'])
def test_what_is_logged_and_recorded_is_of_the_training_batches(unrolled, tmp_path):
    module = logged.logging(nas_experiment.Module)()
    nas_experiment.search(write_weights(Cells(TWO_NODES, named=True)), Recording(unrolled=unrolled, run_dir=tmp_path), module,
                          batches(3), max_epochs=2)
    logged.check(module, tmp_path, 3, 2)


@pytest.mark.parametrize('unrolled', [False, 'exact', 'finite_difference'])
def test_weights_that_are_frozen_stay_and_the_logits_learn(unrolled, caplog):
    model = write_weights(Cells(TWO_NODES, named=True))
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    before = [parameter.clone() for parameter in model.parameters()]
    _, _, moved = search(model, unrolled=unrolled)
    assert all(torch.equal(one, other) for one, other in zip(before, model.parameters()))
    assert all(change.abs().max() > 1e-4 for change in moved.values())
    assert 'any trained parameter' not in caplog.text


def test_a_loss_that_reaches_nothing_that_learns_moves_nothing_and_is_reported_once(caplog):
    class Lost(nas_experiment.Module):
        def training_step(self, batch, batch_idx):
            return super().training_step(batch, batch_idx).detach()

        def on_after_backward(self):
            backwards.append(1)
    backwards, model = [], write_weights(Cells(TWO_NODES, named=True))
    before = [parameter.clone() for parameter in model.parameters()]
    nas_experiment.search(model, Recording(), Lost(), batches(2))
    assert all(torch.equal(one, other) for one, other in zip(before, model.parameters()))
    assert caplog.text.count('does not depend on any trained parameter') == 1
    assert len(backwards) == 2 * 2  # in which several processes meet


@pytest.mark.parametrize('unrolled', [False, 'exact', 'finite_difference'])
def test_sparse_gradients_are_gradients(unrolled):
    def searched(sparse):
        torch.manual_seed(0)
        model = words.model(sparse)
        darts, _, _ = search(model, unrolled=unrolled, data=words.batches(3), methods=[Eigenvalue()],
                             optimizer=lambda weights: torch.optim.SGD(weights, 0.5))
        return [model.embedding.weight.detach(), *darts.choices.values()]
    for one, other in zip(searched(True), searched(False)):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-12)
    with pytest.raises(TrainingError, match='sparse gradients.*sparse=False.*SparseAdam'):
        search(words.model(), data=words.batches(1), optimizer=torch.optim.Adam)


def test_an_optimizer_that_needs_a_closure_is_refused():
    with pytest.raises(TrainingError, match='LBFGS needs a closure'):
        search(optimizer=torch.optim.LBFGS)


def test_the_second_order_counts_the_penalty_once_and_moves_no_statistics():
    model = write_weights(Cells(TWO_NODES, named=True))
    statistics = [buffer for name, buffer in model.named_buffers() if 'num_batches' in name]
    search(model, unrolled=True)
    assert statistics and all(counter == 3 for counter in statistics)

    def moves(unrolled):
        torch.manual_seed(0)
        model = Weighty()
        penalty = {'profiler': NumParamsProfiler(model, torch.randn(1, 3)), 'baseline': 10.0, 'scale': 100.0}
        data = [[(x.float(), y) for x, y in step] for step in batches(10)]
        strategy = DARTS(arc_learning_rate=0.01, penalty=penalty, unrolled=unrolled)
        nas_experiment.search(model, strategy, nas_experiment.Module(
            loss=lambda output, labels: 0 * nn.functional.cross_entropy(output, labels)), data)
        return {key: logits.tolist() for key, logits in strategy.choices.items()}
    assert moves('exact')['edge'] == pytest.approx(moves(False)['edge'])  # the loss weighs nothing, the penalty everything


def test_a_supernet_can_be_trained_on():
    model = write_weights(Cells(TWO_NODES, named=True))
    module = nas_experiment.Module(lambda weights: torch.optim.SGD(weights, 0.05), nn.functional.cross_entropy)
    evaluator = nas_experiment.evaluator(module, *map(list, zip(*batches(2))))
    strategy = DARTS(arc_learning_rate=0.1, methods=[Eigenvalue()])
    supernet = strategy.initialize(RawFormatModelSpace(model, evaluator), SequentialExecutionEngine())
    strategy.choices.double()
    seen = []
    for epochs in (1, 2):
        evaluator.trainer.fit_loop.max_epochs = epochs
        supernet.evaluator.evaluate(supernet.model_space)
        seen.append([logits.tolist() for logits in strategy.choices.values()])
    assert seen[0] != seen[1] and evaluator.trainer.current_epoch == 2


def test_the_second_order_under_scaled_losses_is_refused():
    class Scaled(Callback):  # as on a GPU
        def on_train_start(self, trainer, module):
            trainer.precision_plugin.scaler = object()
    with pytest.raises(TrainingError, match='scaled losses.*bfloat16'):
        search(steps=1, unrolled=True, trainer={'callbacks': [Scaled()]})


Named = namedtuple('Named', 'images labels')
Record = dataclasses.make_dataclass('Record', Named._fields)  # Lightning moves no frozen one


@pytest.mark.parametrize('form', [Named, Record, lambda *parts: dict(zip(Named._fields, parts)),
                                  lambda *parts: UserDict(zip(Named._fields, parts))])
def test_batches_of_any_form_reach_the_module_with_their_channels_last(form):
    seen = []

    class Watching(nas_experiment.Module):
        def training_step(self, batch, batch_idx):
            x, y = (getattr(batch, name) if hasattr(batch, name) else batch[name] for name in Named._fields)
            seen.append((type(batch), x.stride()))
            return super().training_step((x, y), batch_idx)
    data = [tuple(form(*batch) for batch in pair) for pair in images(2, 6, 1, 2)]
    nas_experiment.search(Everything(), DARTS(channels_last=True, methods=[Eigenvalue()]), Watching(), data)
    strides = torch.empty(4, 1, 6, 6).contiguous(memory_format=torch.channels_last).stride()
    assert len(seen) > 4 and set(seen) == {(type(form(0, 0)), strides)}


def test_channels_last_reaches_batches_and_weights():
    seen = set()

    class Watching(nas_experiment.Module):
        def training_step(self, batch, batch_idx):
            seen.add(batch[0].stride())
            return super().training_step(batch, batch_idx)
    module = Watching()
    nas_experiment.search(Everything(), DARTS(channels_last=True), module, images(2, 6, 1, 2))
    assert seen == {torch.empty(4, 1, 6, 6).contiguous(memory_format=torch.channels_last).stride()}
    four = [parameter for parameter in module.parameters() if parameter.dim() == 4]
    assert four and all(parameter.is_contiguous(memory_format=torch.channels_last) for parameter in four)


def test_convolutions_that_overrun_memory_on_some_cpus_are_warned_of(caplog):
    class Reduction(ModelSpace):
        def __init__(self):
            super().__init__()
            self.stem = nn.Conv2d(1, 4, 1, 2)
            self.edge = LayerChoice([nn.Conv2d(4, 2, 1, 2), nn.Sequential(nn.ReLU(), nn.Conv2d(4, 2, 1, 2))], label='edge')
            self.linear = nn.Linear(2, 2)

        def forward(self, x):
            return self.linear(self.edge(self.stem(x)).mean((2, 3)))

    with caplog.at_level('WARNING', 'nni_darts_ext'):
        nas_experiment.search(Reduction(), DARTS(channels_last=True), nas_experiment.Module(), images(2, 6, 1, 2))
    message, = [message for message in caplog.messages if 'AVX-512' in message]
    assert "itself: 'stem'. " in message  # the candidates run otherwise


def test_the_runs_folder_tells_what_the_strategy_did(tmp_path):
    strategy = DARTS(run_dir=tmp_path / 'run')
    nas_experiment.search(Cells(TWO_NODES, named=True), strategy, nas_experiment.Module(), batches_of_floats(3), max_epochs=2)
    run = Run.read(tmp_path / 'run')
    assert run.state.status == DONE and [epoch.epoch for epoch in run.epochs] == [0, 1]
    for key in strategy.choices:
        assert run.epochs[-1].weights[key] == pytest.approx(strategy.choices.probabilities(key).tolist())
    assert json.loads((tmp_path / 'run' / 'architecture.json').read_text()) == strategy.search.architecture()


def test_an_error_that_ends_the_experiment_is_in_the_runs_folder(tmp_path):
    class Failing(nas_experiment.Module):
        def training_step(self, batch, batch_idx):
            if self.losses:
                raise KeyError('a bad sample')
            return super().training_step(batch, batch_idx)
    with pytest.raises(KeyError, match='a bad sample'):
        nas_experiment.search(Cells(TWO_NODES, named=True), DARTS(run_dir=tmp_path), Failing(), batches_of_floats(3))
    assert 'a bad sample' in Run.read(tmp_path).state.error


def batches_of_floats(n):
    return [tuple((x.float(), y) for x, y in step) for step in batches(n)]


@pytest.mark.parametrize('unrolled', [False, 'exact', 'finite_difference'])
def test_under_autocast_a_search_learns_as_it_does_in_32_bits(unrolled):
    def losses():
        torch.manual_seed(0)
        module = nas_experiment.Module(repeated_batch.optimizer)
        nas_experiment.search(repeated_batch.model(), DARTS(arc_learning_rate=repeated_batch.ARC_RATE, unrolled=unrolled), module,
                              repeated_batch.data())
        each = len(module.losses) // repeated_batch.STEPS
        return module.losses[each - 1::each]
    repeated_batch.check(losses)


def test_bfloat16_is_a_switch_of_lightnings():
    seen = set()

    class Watching(nas_experiment.Module):
        def training_step(self, batch, batch_idx):
            seen.add(self(batch[0]).dtype)
            return super().training_step(batch, batch_idx)
    strategy = DARTS(recompute=True)
    nas_experiment.search(Everything(), strategy, Watching(), images(2, 6, 1, 2), precision='bf16')
    assert seen == {torch.bfloat16}
    assert all(logits.dtype == torch.float32 and logits.isfinite().all() for logits in strategy.choices.values())


class Failing(nas_experiment.Module):
    """Cuts a candidate, and fails in the middle of an epoch."""

    def __init__(self, fails=None):
        def with_scheduler(weights):
            optimizer = torch.optim.SGD(weights, 0.1, momentum=0.9)
            return [optimizer], [torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5)]
        super().__init__(with_scheduler)
        self.fails = fails

    def training_step(self, batch, batch_idx):
        if batch_idx == 1 and self.trainer.current_epoch == 1:
            self.model._darts.cut('b', 'skip')
        if batch_idx == 1 and self.trainer.current_epoch == self.fails:
            raise Interrupted
        return super().training_step(batch, batch_idx)


def resumable(folder, mocker, fails=None, last=None, model=Resumed, **options):
    torch.manual_seed(0)
    strategy = DARTS(arc_learning_rate=0.1, methods=[Counting(last)])
    data = [[(x.float(), y) for x, y in pair] for pair in batches(3)]
    keep = ModelCheckpoint(str(folder), '{epoch}', save_top_k=-1, every_n_epochs=1)
    torch.manual_seed(1)
    nas_experiment.search(model(), strategy, Failing(fails), data, max_epochs=4, callbacks=[keep], enable_checkpointing=True,
                          **options)
    module = strategy.oneshot_module
    return ({key: logits.tolist() for key, logits in strategy.choices.items()}, strategy.choices.cuts('b'), strategy.choose_from,
            [parameter.tolist() for parameter in strategy.supernet.parameters()],
            module.search.methods.all[1].losses, module.stopped,
            [optimizer.param_groups[0]['lr'] for optimizer in module.trainer.optimizers], torch.rand(1).item())


@pytest.mark.parametrize('last', [None, 3])
def test_a_search_goes_on_from_lightnings_checkpoint_as_if_it_had_not_ended(last, tmp_path, mocker):
    expected = resumable(tmp_path / 'through', mocker, last=last)
    with pytest.raises(Interrupted):
        resumable(tmp_path / 'ended', mocker, fails=2, last=last)
    file = tmp_path / 'ended' / 'epoch=1.ckpt'
    assert resumable(tmp_path / 'again', mocker, last=last, fit_kwargs={'ckpt_path': str(file)}) == expected
    assert expected[1] == (1,) and expected[2] == {'pick': ('b', 'a')}
    assert (len(expected[4]), expected[5]) == ((4, None) if last is None else (3, '3 are enough'))
    if last is not None:  # what ended stays ended
        ended = resumable(tmp_path / 'more', mocker, fit_kwargs={'ckpt_path': str(tmp_path / 'through' / 'epoch=2.ckpt')})
        assert ended[:6] == expected[:6]


def cosine(epochs):
    def configured(weights):
        optimizer = torch.optim.SGD(weights, 0.1)
        return [optimizer], [torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs)]
    return nas_experiment.Module(configured)


def test_a_schedule_that_was_made_for_other_epochs_is_refused(tmp_path):
    def run(epochs, made_for, **options):
        keep = ModelCheckpoint(str(tmp_path), '{epoch}', save_top_k=-1, every_n_epochs=1)
        nas_experiment.search(Resumed(), DARTS(), cosine(made_for), batches_of_floats(2), max_epochs=epochs, callbacks=[keep],
                              enable_checkpointing=True, **options)
    run(2, made_for=2)
    file = {'fit_kwargs': {'ckpt_path': str(tmp_path / 'epoch=1.ckpt')}}
    with pytest.raises(CheckpointError, match=r'another schedule: T_max of lr_schedulers\[0\] was 2 and is 3'):
        run(3, made_for=3, **file)
    run(3, made_for=2, **file)


def test_a_checkpoint_of_another_search_is_refused(tmp_path, mocker):
    resumable(tmp_path, mocker)
    file = tmp_path / 'epoch=3.ckpt'
    with pytest.raises(CheckpointError, match=r"to another search: .*LayerChoice 'b' was \['norm', 'skip', 'more0'\] and is"):
        resumable(tmp_path, mocker, model=lambda: Resumed(candidates=3), fit_kwargs={'ckpt_path': str(file)})
    content = torch.load(str(file))
    del content['nni_darts_ext']
    torch.save(content, str(file))
    with pytest.raises(CheckpointError, match='not written by a search with nni_darts_ext.DARTS'):
        resumable(tmp_path, mocker, fit_kwargs={'ckpt_path': str(file)})


def test_an_order_that_there_is_not_is_refused_at_construction():
    with pytest.raises(TrainingError, match="unrolled='second'"):
        DARTS(unrolled='second')


def test_probabilities_are_logged_with_the_zero_op():
    from pytorch_lightning.loggers import CSVLogger

    class Logger(CSVLogger):
        def log_metrics(self, metrics, step=None):
            seen.update(metrics)
    logger, seen = Logger('.'), {}
    strategy, _, _ = search(steps=2, log_prob_every_n_step=1, trainer={'logger': logger, 'log_every_n_steps': 1})
    logged = {name: value for name, value in seen.items() if name.startswith('prob/node0_edge0/')}
    assert set(logged) == {f'prob/node0_edge0/{name}' for name in ('op0', 'op1', 'op2', 'op3', 'zero_op')}
    assert sum(logged.values()) == pytest.approx(1.0)
    assert list(logged.values()) == pytest.approx(strategy.choices.probabilities('node0_edge0').tolist(), abs=1e-6)


class Weighty(ModelSpace):
    """One edge and one layer width, each with a heavy and a light choice that compute alike."""

    def __init__(self):
        super().__init__()
        self.edge = dnn.LayerChoice({'heavy': nn.Linear(3, 3), 'light': nn.Identity()}, key='edge')
        self.wide = MutableLinear(3, nni.choice('width', [2, 4]))
        self.narrow = MutableLinear(nni.choice('width', [2, 4]), 2)

    def forward(self, x):
        return self.narrow(self.wide(self.edge(x)))


def test_a_penalty_moves_the_architecture_where_nnis_does_not():
    def moves(strategy_class, edge=None):
        torch.manual_seed(0)
        model = Weighty()
        model.edge = edge or model.edge
        penalty = {'profiler': NumParamsProfiler(model, torch.randn(1, 3)), 'baseline': 10.0, 'scale': 100.0}
        strategy = strategy_class(arc_learning_rate=0.01, penalty=penalty)
        data = [[(x.float(), y) for x, y in step] for step in batches(10)]
        nas_experiment.search(model, strategy, nas_experiment.Module(
            loss=lambda output, labels: 0 * nn.functional.cross_entropy(output, labels)), data)
        return strategy.oneshot_module.export_probs()
    ours = moves(DARTS)
    assert ours['edge']['light'] > ours['edge']['heavy'] + 0.03
    assert ours['width'][2] > ours['width'][4] + 0.03
    with pytest.raises(ValueError, match='Error when summing items'):
        moves(NniDARTS)  # an op without parameters beside one with some
    theirs = moves(NniDARTS, edge=nn.Linear(3, 3))
    assert theirs['width'][2] == pytest.approx(theirs['width'][4], abs=0.01)


def test_a_penalty_is_nnis_to_the_last_digit():
    model = Weighty()
    model.edge = nn.Linear(3, 3)  # what NNI's own can add up
    penalty = ExpectationProfilerPenalty(NumParamsProfiler(model, torch.randn(1, 3)), 10.0, 2.0, nonlinear='positive',
                                         aggregate='mul')
    probabilities = {'width': {2: torch.tensor(0.3), 4: torch.tensor(0.7)}}
    (ours, our_details), (theirs, their_details) = (penalize(penalty, torch.tensor(2.0), probabilities),
                                                    penalty(torch.tensor(2.0), probabilities))
    assert torch.equal(ours, theirs) and our_details == their_details


def test_the_architecture_parameters_have_the_order_of_the_model():
    strategy, _, _ = search(steps=1)
    module = strategy.oneshot_module
    assert [id(p) for p in module.arch_parameters()] == [id(p) for p in strategy.choices.values()]
    weights, arch = module.optimizers()
    own = {id(p) for p in strategy.choices.values()}
    assert not own & {id(p) for group in weights.param_groups for p in group['params']}
    assert [id(p) for p in arch.param_groups[0]['params']] == [id(p) for p in strategy.choices.values()]


@pytest.mark.parametrize('options', [{}, {'gradient_clip_val': 1.0, 'unrolled': True}, {'warmup_epochs': 1}])
def test_cuts_hold_in_an_experiment(options):
    def run(model, strategy, data, optimizer, epochs, on_epoch):
        class Watching(nas_experiment.Module):
            def on_train_epoch_start(self):
                on_epoch(self.trainer.current_epoch)
        nas_experiment.search(model, strategy, Watching(optimizer), data, max_epochs=epochs)
        return strategy.oneshot_module.trainer
    strategy_cuts.check(Recording(arc_learning_rate=0.1, **options), run, lambda weights: torch.optim.SGD(
        weights, 0.05, momentum=0.9, weight_decay=1e-2))


def in_steps(model, strategy, data, optimizer, on_step, on_epoch, trainer):
    class Watching(nas_experiment.Module):
        def training_step(self, batch, batch_idx):
            on_step()
            return super().training_step(batch, batch_idx)

        def on_train_epoch_start(self):
            on_epoch(self.trainer.current_epoch)
    experiment = nas_experiment.search(model, strategy, Watching(optimizer), data, **trainer)
    return experiment.export_top_models(formatter='dict')[0]


def one_of_ranks(unrolled):
    strategy = Recording(arc_learning_rate=0.02, gradient_clip_val=1.0, unrolled=unrolled, run_dir=strategy_ranks.RUN)
    return strategy_ranks.searched(strategy, in_steps, lambda: strategy.choices.values())


@pytest.mark.parametrize('unrolled', [False, 'exact', 'finite_difference'])
def test_two_ranks_under_lightning_search_as_one_process_with_twice_the_batch(unrolled):
    strategy_ranks.check(one_of_ranks, unrolled)


def forked():
    return strategy_ranks.forked_by_lightning(DARTS(arc_learning_rate=0.1), in_steps)


def test_what_processes_of_lightnings_found_is_exported_where_they_were_started():
    strategy_ranks.check_forked(forked)


def test_the_eigenvalue_is_recorded_and_changes_nothing(tmp_path):
    torch.manual_seed(0)
    _, _, moved = search(steps=2, methods=[Eigenvalue()], run_dir=tmp_path, trainer={'max_epochs': 2})
    recorded = [epoch.indicators['eigenvalue'] for epoch in Run.read(tmp_path).epochs]
    assert len(set(recorded)) == 2 and all(math.isfinite(value) and value != 0 for value in recorded)
    torch.manual_seed(0)
    _, _, plain = search(steps=2, trainer={'max_epochs': 2})
    assert all(torch.equal(moved[key], plain[key]) for key in plain)


def test_a_search_whose_eigenvalue_grows_ends_early(mocker, caplog):
    class Keeping(Callback):
        def on_train_epoch_end(self, trainer, module):
            kept.append(module.search.choices['node0_edge0'].tolist())
    mocker.patch.object(eigenvalue, 'dominant_eigenvalue', side_effect=[1.0] * 6 + [2.0] * 24)
    kept = []
    with caplog.at_level('WARNING'):
        strategy, _, _ = search(steps=1, methods=[EarlyStopping()], trainer={'max_epochs': 30, 'callbacks': [Keeping()]})
    assert len(kept) == 10 and kept[9] == kept[4] == strategy.choices['node0_edge0'].tolist() and kept[8] not in kept[:8]
    assert 'The search ends after epoch 9: the dominant eigenvalue of the validation loss has grown from 1 to 1.8' in caplog.text
    with pytest.raises(TrainingError, match="compile=True has no second derivatives, and EarlyStopping\\(\\) needs them"):
        DARTS(methods=[EarlyStopping()], compile=True)


def test_edges_shrink_on_the_way():
    strategy, _, _ = search(steps=2, methods=[Shrinking({1: 2})], arc_learning_rate=0.1, trainer={'max_epochs': 3})
    assert_left(strategy, 2)
    with pytest.raises(TrainingError, match='start of epoch 3, but the search ends with epoch 2'):
        search(methods=[Shrinking({3: 1})], trainer={'max_epochs': 3})
    with pytest.raises(TrainingError, match=r'Shrinking\(5\) has no schedule'):
        DARTS(methods=[Shrinking(5)])


def assert_left(strategy, n):
    for key, logits in strategy.choices.items():
        assert len(logits) - 1 - len(strategy.choices.cuts(key)) == n
        assert torch.isfinite(logits).all()


def test_what_cannot_be_cut_is_named_when_the_model_is_there():
    strategy_cuts.check_errors(DARTS, lambda strategy, model: strategy.mutate_model(model))


def test_cuts_before_the_search_are_made_in_every_model():
    strategy = DARTS()
    strategy.cut('node0_edge0', 'op1')
    strategy.cut('node0_edge0', 'op0')
    strategy.restore('node0_edge0', 1)
    for _ in range(2):
        strategy.mutate_model(Cells(TWO_NODES, named=True))
        assert strategy.choices.cuts('node0_edge0') == (0,)


@pytest.mark.parametrize('through', ['checkpoint', 'deepcopy', 'pickle'])
def test_a_cut_in_a_strategy_stays_through_checkpoints_and_copies(through):
    strategy = DARTS()
    strategy.cut('node0_edge0', 'op0')
    model = strategy.mutate_model(Cells(TWO_NODES, named=True))
    if through == 'checkpoint':
        other = DARTS()
        again = other.mutate_model(Cells(TWO_NODES, named=True))
        again.load_state_dict(model.state_dict())
    else:
        copies = copy.deepcopy if through == 'deepcopy' else lambda pair: pickle.loads(pickle.dumps(pair))
        other, again = copies((strategy, model))
    assert other.choices.cuts('node0_edge0') == (0,)
    other.restore('node0_edge0', 0)
    assert strategy.choices.cuts('node0_edge0') == (0,)
    again(torch.randn(4, 3)).sum().backward()
    assert other.choices['node0_edge0'].grad is not None and strategy.choices['node0_edge0'].grad is None


class Everything(ModelSpace):
    """NNI's other primitives around an edge of ours."""

    def __init__(self):
        super().__init__()
        width = nni.choice('width', [4, 8])
        self.stem = MutableConv2d(1, width, 3, padding=1)
        self.squeeze = MutableConv2d(width, 4, 1)
        self.repeat = Repeat(lambda i: nn.Conv2d(4, 4, 3, padding=1), nni.choice('depth', [1, 2]))
        self.edge = dnn.LayerChoice(OrderedDict(conv=nn.Conv2d(4, 4, 1), skip=nn.Identity()), key='edge')
        self.factory_cell = Cell([lambda a, b, c: nn.Conv2d(4, 4, 1), lambda a, b, c: nn.Identity()], 2, 2, label='factory')
        self.plain_cell = Cell([nn.Conv2d(4, 4, 1), nn.Identity()], 1, 1, 2, label='plain')
        self.pick = InputChoice(2, n_chosen=1, label='pick')
        self.classifier = nn.Linear(4, 2)

    def forward(self, x):
        x = self.repeat(self.squeeze(self.stem(x)))
        x = self.edge(self.pick([x, torch.relu(x)]))
        y = self.factory_cell([x])
        return self.classifier(self.plain_cell([x, y[:, :4] + y[:, 4:]]).mean((2, 3)))


def images(steps, size, channels, classes):
    return [[(torch.randn(4, channels, size, size), torch.randint(classes, (4,))) for _ in range(2)] for _ in range(steps)]


def test_repeat_cell_value_choices_and_input_choices_without_sources_work_as_in_nni():
    data = images(3, 6, 1, 2)
    strategy, experiment, _ = search(Everything(), data=data, arc_learning_rate=0.1)
    theirs = NniDARTS()
    theirs.mutate_model(Everything())
    sample, = experiment.export_top_models(formatter='dict')
    assert set(sample) == set(Everything().simplify())
    with model_context(sample):
        Everything()(data[0][0][0]).sum().backward()

    probabilities = strategy.oneshot_module.export_probs()
    assert set(probabilities['edge']) == {'conv', 'skip', 'zero_op'}
    assert set(probabilities['pick']) == {0, 1} and set(probabilities['depth']) == {1, 2}
    assert set(probabilities['factory/2_1']) == {'0', '1', 'zero_op'}
    assert all(sum(of_label.values()) == pytest.approx(1.0, abs=1e-5) for of_label in probabilities.values())
    arch = strategy.oneshot_module.arch_parameters()
    assert all(parameter.grad is not None for parameter in arch)


@pytest.mark.parametrize('space, size', [
    (lambda: DartsHub(width=4, num_cells=3, dataset='cifar'), 32),
    (lambda: MobileNetV3Space(num_labels=10, base_widths=(8,) * 9, width_multipliers=(1.0, 2.0), expand_ratios=(1.0, 2.0),
                              depth_range=(1, 2)), 32)], ids=['DARTS', 'MobileNetV3'])
def test_the_space_hub_is_searched_exported_and_retrained(space, size):
    data = images(1, size, 3, 10)
    _, experiment, _ = search(space(), data=data, arc_learning_rate=0.1)
    sample, = experiment.export_top_models(formatter='dict')
    assert set(sample) == set(space().simplify())
    with model_context(sample):
        output = space()(data[0][0][0])
    (output[0] if isinstance(output, tuple) else output).sum().backward()


class Fed(ModelSpace):
    """An InputChoice of NNI's own after two edges, and one that chooses among what no edge computes."""

    def __init__(self):
        super().__init__()
        self.a = LayerChoice([nn.Linear(3, 3), nn.Identity()], label='a')
        self.b = LayerChoice([nn.Linear(3, 3), nn.Identity()], label='b')
        self.fed = InputChoice(2, n_chosen=1, reduction='mean', label='fed')
        self.unfed = InputChoice(2, n_chosen=1, label='unfed')
        self.classifier = nn.Linear(3, 2)

    def forward(self, x):
        x = self.unfed([x, torch.sin(x)])
        return self.classifier(self.fed([torch.relu(self.b(x)), self.a(x)]))


@pytest.mark.parametrize('warmup_epochs', [0, 1])
def test_the_strategy_finds_out_which_edges_feed_an_input_choice(warmup_epochs):
    strategy, experiment, _ = search(Fed().double(), warmup_epochs=warmup_epochs, trainer={'max_epochs': 2})
    assert strategy.choose_from == {'fed': ('b', 'a'), 'unfed': ('', '')}
    strategy.choices['b'].data[0] = 5.0
    sample, = experiment.export_top_models(formatter='dict')
    assert sample['fed'] == [0] and sample['b'] == 0 and len(sample['unfed']) == 1
    assert set(strategy.oneshot_module.export_probs()) == {'a', 'b', 'unfed'}
    x = torch.randn(4, 3, dtype=torch.float64)
    edges = strategy.supernet.a(x), strategy.supernet.b(x)
    assert torch.equal(strategy.supernet.fed(list(edges)), sum(edges) / 2)


class Skips(ModelSpace):
    """No edge at all: the choice is among earlier states."""

    def __init__(self):
        super().__init__()
        self.one, self.two = nn.Linear(3, 3), nn.Linear(3, 2)
        self.pick = dnn.InputChoice(2, n_chosen=1, key='pick')

    def forward(self, x):
        return self.two(self.pick([x, self.one(x)]))


def test_a_space_of_input_choices_alone_is_searched_as_in_nni():
    strategy, experiment, _ = search(Skips().double(), arc_learning_rate=0.1)
    assert not strategy.choices and strategy.choose_from == {'pick': ('', '')}
    assert experiment.export_top_models(formatter='dict')[0] in ({'pick': [0]}, {'pick': [1]})
    alpha, = strategy.oneshot_module.arch_parameters()
    assert alpha.abs().min() > 0.01


class Mutable(ModelSpace):
    """NNI's own layers, with which its spaces are often built."""

    def __init__(self):
        super().__init__()
        self.edge = LayerChoice({
            'max': nn.Sequential(MutableMaxPool2d(3, 1, 1), nn.BatchNorm2d(4, affine=False)), 'avg': MutableAvgPool2d(3, 1, 1),
            'conv': nn.Sequential(MutableReLU(), MutableConv2d(4, 4, 1)), 'other': nn.Sequential(nn.ReLU(), nn.Conv2d(4, 4, 1))},
            label='edge')

    def forward(self, x):
        return self.edge(x)


def test_nnis_own_layers_run_and_share_their_work_with_pytorchs(mocker):
    relu = mocker.spy(nn.functional, 'relu')
    model, x = Mutable(), torch.randn(2, 4, 5, 5)
    mutator = DartsMutator(model)
    mutator.reset()
    output = model(x)
    assert relu.call_count == 1
    expected = sum(weight * op(x) for weight, op in zip(mutator.choices.relax('edge').weights, model.edge))
    torch.testing.assert_close(output, expected)


# Bad input -----------------------------------------------------------------------------------------------------------------

class Net(ModelSpace):
    def __init__(self, *build):
        super().__init__()
        self.parts = nn.ModuleList([part() for part in build])


def edge(n=1, key='a'):
    return lambda: LayerChoice([nn.Identity() for _ in range(n)], label=key)


WRONG = {
    'an unknown source': ([edge(), lambda: dnn.InputChoice(choose_from=['a', 'b'], key='i')], r"'i' names \['b'\].*\['a'\]"),
    'a candidate with the zero op\'s name': ([lambda: LayerChoice({'zero_op': nn.Identity()}, label='a')], "'a'.*'zero_op'"),
    'a candidate that is None': ([lambda: LayerChoice([nn.Identity(), None], label='a')], "Candidate 1 of .* 'a' .* is None"),
    'nested choices': ([lambda: LayerChoice([nn.Sequential(edge()())], label='out')],
                       "at 'parts.0.0.0' lies inside the choice at 'parts.0'"),
}


@pytest.mark.parametrize('wrong', WRONG)
@pytest.mark.parametrize('make', [DartsMutator, lambda model: DARTS().mutate_model(model)], ids=['mutator', 'strategy'])
def test_what_cannot_be_searched_is_refused_at_construction(make, wrong):
    build, message = WRONG[wrong]
    if make is DartsMutator and 'zero op' in wrong:
        pytest.skip('only the strategy logs the zero op by name')
    with pytest.raises(SearchSpaceError, match=message):
        make(Net(*build))


def test_a_shared_key_with_different_sizes():
    model = nn.ModuleList([Net(edge(2)), Net(edge(3))])
    with pytest.raises(SearchSpaceError, match=r"'a'.*different candidates: \[0, 1\] at .*, \[0, 1, 2\] at"):
        DartsMutator(model)


def test_too_many_inputs_to_choose():
    with pytest.raises(SearchSpaceError, match="'i'.*n_chosen=3 of 2"):
        Net(lambda: dnn.InputChoice(2, n_chosen=3, key='i'))


def test_a_model_without_choices():
    with pytest.raises(SearchSpaceError, match='no LayerChoice'):
        DartsMutator(nn.Linear(2, 2))
    with pytest.raises(SearchSpaceError, match='no LayerChoice'):
        DARTS().mutate_model(Net(lambda: nn.Linear(2, 2)))


def test_the_mutator_does_not_pass_over_what_it_cannot_search():
    with pytest.raises(SearchSpaceError, match="MutableLinear at 'wide' has choices of its own.*nni_darts_ext.DARTS.*freeze"):
        DartsMutator(Weighty())


def test_one_model_cannot_be_searched_twice():
    model = Cells(TWO_NODES)
    DartsMutator(model)
    with pytest.raises(SearchSpaceError, match='searched already'):
        DartsMutator(model)
    with pytest.raises(SearchSpaceError, match='searched already'):
        DARTS().mutate_model(model)


def test_data_that_is_too_little_for_one_batch():
    x, y = torch.randn(3, 3), torch.zeros(3, dtype=torch.long)
    little = DataLoader(torch.utils.data.TensorDataset(x, y), 4, drop_last=True)
    enough = DataLoader(torch.utils.data.TensorDataset(x, y), 3)
    for loaders, part in (((little, enough), 'weights'), ((enough, little), 'logits')):
        evaluator = Lightning(nas_experiment.Module(), Trainer(max_epochs=1, logger=False), *loaders)
        experiment = NasExperiment(Cells(TWO_NODES), evaluator, DARTS())
        with pytest.raises(TrainingError, match=rf'DataLoader \(3 samples, batch_size=4, drop_last=True\) for the {part}'):
            experiment.run()
        experiment.stop()


def test_an_architecture_optimizer_that_holds_weights_is_refused_before_the_first_step():
    class Greedy(DARTS):
        def configure_oneshot_module(self, training_module):
            module = super().configure_oneshot_module(training_module)
            module.configure_architecture_optimizers = lambda: torch.optim.Adam(module.parameters(), 1e-3)
            return module
    with pytest.raises(TrainingError, match='optimiser of the logits holds 2[0-9] weights of the model'):
        nas_experiment.search(Cells(TWO_NODES), Greedy(), nas_experiment.Module(), batches(1))


@pytest.mark.parametrize('options, says', [({'arc_learning_rate': 0.0}, True), ({}, False), ({'warmup_epochs': 2}, False)])
def test_logits_that_do_not_move_are_reported(options, says, caplog):
    search(trainer={'max_epochs': 2}, **options)
    assert ('In epoch 0 the logits of all edges have not changed' in caplog.text) == says


def test_an_evaluator_that_is_no_lightning_one():
    model = Cells(TWO_NODES)
    experiment = NasExperiment(model, FunctionalEvaluator(print), DARTS())
    with pytest.raises(EvaluatorError, match='Lightning evaluator, but found FunctionalEvaluator.*Classification'):
        experiment.run()
    experiment.stop()
    assert not is_supernet(model)
