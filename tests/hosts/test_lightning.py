"""NNI 2.8 - 2.10: the strategy in real RetiariiExperiments."""

import copy
import dataclasses
import inspect
import math
import warnings
from collections import UserDict, namedtuple

import logged
import nni.retiarii.nn.pytorch as nn_retiarii
import numpy
import pytest
import reads
import repeated_batch
import strategy_cuts
import strategy_ranks
import ten_steps
import torch
import two_processes
import words
from conftest import OFFERED
from nni.retiarii import fixed_arch, model_wrapper
from nni.retiarii.evaluator import FunctionalEvaluator
from nni.retiarii.evaluator.pytorch import DataLoader, Lightning, LightningModule, Trainer
from nni.retiarii.experiment.pytorch import RetiariiExeConfig, RetiariiExperiment
from nni.retiarii.strategy import DARTS as NniDARTS
from pytorch_lightning import Callback
from pytorch_lightning.callbacks import ModelCheckpoint
from pytorch_lightning.utilities.types import LRSchedulerTypeTuple
from resumed import Counting, Interrupted, Net
from spaces import TWO_NODES, Cells, batches, write_weights
from torch import nn

import nni_darts_ext
from nni_darts_ext import CheckpointError, EvaluatorError, SearchSpaceError, TrainingError, hosts
from nni_darts_ext.hosts import lightning
from nni_darts_ext.hosts.retiarii import input_choice, layer_choice
from nni_darts_ext.methods import EarlyStopping, Eigenvalue, Shrinking, Warmup, eigenvalue
from nni_darts_ext.run import Run


@pytest.fixture(autouse=True)
def _retiarii_first(monkeypatch):
    monkeypatch.setenv(hosts.PREFERENCE, 'retiarii')


class Module(LightningModule):
    def __init__(self, optimizer):
        super().__init__()
        self.make_optimizer, self.losses = optimizer, []

    def forward(self, x):
        return self.model(x)

    def training_step(self, batch, batch_idx):
        x, y = batch
        loss = nn.functional.cross_entropy(self(x), y)
        self.losses.append(loss.item())
        return loss

    def validation_step(self, batch, batch_idx):
        pass

    def configure_optimizers(self):
        return self.make_optimizer(self.parameters())


def search(model, darts, data, optimizer=None, epochs=1, module=None, **options):
    training, validation = zip(*data)
    module = module or Module(optimizer or (lambda weights: torch.optim.SGD(weights, 0.05)))
    loaders = [DataLoader(list(part), batch_size=None) for part in (training, validation)]
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')  # of all that has changed around NNI since
        trainer = Trainer(**{**dict(max_epochs=epochs, enable_progress_bar=False, enable_model_summary=False, logger=False,
                                    enable_checkpointing='callbacks' in options, accelerator='cpu', num_sanity_val_steps=0),
                             **options})
        experiment = RetiariiExperiment(model, Lightning(module, trainer, *loaders), [], darts)
        config = RetiariiExeConfig('local')
        config.execution_engine = 'oneshot'
        experiment.run(config)
    return module, experiment


class Started(lightning.DartsModule):
    """Begins with logits that are the same everywhere, and remembers them."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.search.double()
        ten_steps.start_logits(self.search.choices)
        self.start = {key: logits.detach().clone() for key, logits in self.search.choices.items()}


def strategy(**options):
    made = lightning.DARTS(**options)
    made.oneshot_module = Started
    return made


def test_it_is_what_the_package_offers_here():
    assert nni_darts_ext.DARTS is lightning.DARTS
    assert issubclass(lightning.DARTS, NniDARTS)


def test_it_takes_the_recorded_ten_steps():
    model, data = ten_steps.model_and_data()
    darts = strategy(arc_learning_rate=ten_steps.ARC_LR)
    module, _ = search(model, darts, data, lambda weights: torch.optim.SGD(weights, ten_steps.LR, momentum=0.9,
                                                                             weight_decay=3e-4))
    ten_steps.assert_same({'validation_loss': module.losses[0::2], 'training_loss': module.losses[1::2],
                           'logits': {key: logits.tolist() for key, logits in darts.choices.items()}}, ten_steps.recorded(), 1e-6)


@pytest.mark.parametrize('unrolled', [True, 'exact', 'finite_difference'])
def test_its_second_order_is_the_cores(unrolled):
    expected = ten_steps.unrolled_by_the_core(unrolled)
    model, data = ten_steps.model_and_data()
    darts = strategy(arc_learning_rate=ten_steps.ARC_LR, unrolled=unrolled)
    search(model, darts, data[:4], lambda weights: torch.optim.SGD(weights, ten_steps.LR, momentum=0.9, weight_decay=3e-4))
    ten_steps.assert_same({'logits': {key: logits.tolist() for key, logits in darts.choices.items()}}, {'logits': expected}, 1e-9)


def test_each_step_computes_for_what_it_owns_alone_where_nnis_computes_for_both():
    seen = []

    class Watching(Module):
        def training_step(self, batch, batch_idx):
            seen.append([any(p.requires_grad for p in part) for part in (
                self.model.parameters(), darts.model.arch_parameters())])
            return super().training_step(batch, batch_idx)
    darts = strategy()
    module = Watching(lambda weights: torch.optim.SGD(weights, 0.05))
    search(small(), darts, batches(2), module=module)
    assert seen == [[False, True], [True, False]] * 2


@pytest.mark.parametrize('unrolled', [False, 'exact', 'finite_difference'])
def test_the_host_reads_no_numbers_in_a_step(unrolled, monkeypatch):
    monkeypatch.setattr('nni_darts_ext.core.logits.AT_ONCE', ())  # on the CPU one need not wait for them

    def reads_of(n):
        return reads.count(monkeypatch, lambda: search(small(), strategy(unrolled=unrolled), batches(n)))
    assert reads_of(2) == reads_of(9) > 0


@pytest.mark.parametrize('call, what', [(9, 'validation'), (10, 'training')])
@pytest.mark.parametrize('at_once', [True, False])
def test_a_loss_that_is_no_number_ends_the_search_and_spoils_nothing(call, what, at_once, monkeypatch):
    if not at_once:  # as on a device on which reading means waiting
        monkeypatch.setattr('nni_darts_ext.core.logits.AT_ONCE', ())
    class Failing(Module):
        def training_step(self, batch, batch_idx):
            loss = super().training_step(batch, batch_idx)
            return loss * (math.nan if len(self.losses) == call else 1.0)
    darts, model, module = strategy(arc_learning_rate=0.1), small(), Failing(torch.optim.Adam)
    with pytest.raises(TrainingError, match=f'The {what} loss in step 1 of epoch 1 .* is nan'):
        search(model, darts, batches(3), epochs=2, module=module)
    assert len(module.losses) == (call if at_once else 12)
    assert all(torch.isfinite(p).all() for p in model.parameters())
    assert all(torch.isfinite(logits).all() for logits in darts.choices.values())


@pytest.mark.parametrize('unrolled', [False, 'exact', 'finite_difference'])
def test_what_is_logged_and_recorded_is_of_the_training_batches(unrolled, tmp_path):
    module = logged.logging(Module)(lambda weights: torch.optim.SGD(weights, 0.05))
    search(small(), strategy(unrolled=unrolled, run_dir=tmp_path), batches(3), module=module, epochs=2)
    logged.check(module, tmp_path, 3, 2)


@pytest.mark.parametrize('unrolled', [False, 'exact', 'finite_difference'])
def test_weights_that_are_frozen_stay_and_the_logits_learn(unrolled, caplog):
    model, darts = small(), strategy(unrolled=unrolled, arc_learning_rate=0.01)
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    before = [parameter.clone() for parameter in model.parameters()]
    search(model, darts, batches(2))
    assert all(torch.equal(one, other) for one, other in zip(before, model.parameters()))
    assert all((logits - darts.model.start[key]).abs().max() > 1e-3 for key, logits in darts.choices.items())
    assert 'any trained parameter' not in caplog.text


def test_a_loss_that_reaches_nothing_that_learns_moves_nothing_and_is_reported_once(caplog):
    class Lost(Module):
        def training_step(self, batch, batch_idx):
            return super().training_step(batch, batch_idx).detach()

        def on_after_backward(self):
            backwards.append(1)
    backwards, model = [], small()
    before = [parameter.clone() for parameter in model.parameters()]
    search(model, strategy(), batches(2), module=Lost(lambda weights: torch.optim.SGD(weights, 0.05)))
    assert all(torch.equal(one, other) for one, other in zip(before, model.parameters()))
    assert caplog.text.count('does not depend on any trained parameter') == 1
    assert len(backwards) == 2 * 2  # in which several processes meet


@pytest.mark.parametrize('unrolled', [False, 'exact', 'finite_difference'])
def test_sparse_gradients_are_gradients(unrolled):
    def searched(sparse):
        model, darts = words.model(sparse), strategy(unrolled=unrolled, methods=[Eigenvalue()])
        search(model, darts, words.batches(3), lambda weights: torch.optim.SGD(weights, 0.5))
        return [model.embedding.weight.detach(), *darts.choices.values()]
    for one, other in zip(searched(True), searched(False)):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-12)
    with pytest.raises(TrainingError, match='sparse gradients.*sparse=False.*SparseAdam'):
        search(words.model(), strategy(), words.batches(1), torch.optim.Adam)


def test_an_optimizer_that_needs_a_closure_is_refused():
    with pytest.raises(TrainingError, match='LBFGS needs a closure'):
        search(small(), strategy(), batches(1), torch.optim.LBFGS)


def small():
    return write_weights(Cells(TWO_NODES, named=True))


def test_the_architecture_learns_at_the_given_rate_alone_where_nnis_ignores_it():
    for rate, data in ((0.0, batches(3)), (1e-2, batches(1))):
        darts = strategy(arc_learning_rate=rate)
        search(small(), darts, data)
        for key, logits in darts.choices.items():  # Adam's first step is the learning rate
            moved = (logits - darts.model.start[key]).abs().tolist()
            assert moved == pytest.approx([rate] * len(moved), rel=1e-2)
    inner = Module(torch.optim.Adam)
    inner.set_model(small())
    theirs = NniDARTS().oneshot_module(inner, arc_learning_rate=0.0)
    assert theirs.configure_architecture_optimizers().param_groups[0]['lr'] == 3e-4


def test_the_logits_are_in_the_architecture_optimizer_alone_in_the_order_of_the_model():
    darts = strategy()
    search(small(), darts, batches(1))
    logits = [id(parameter) for parameter in darts.choices.values()]
    holding = [[id(p) for group in optimizer.param_groups for p in group['params']]
               for optimizer in darts.model.trainer.optimizers]
    assert sorted(holding, key=len)[0] == logits
    assert sum(len(set(logits) & set(ids)) for ids in holding) == len(logits)


def test_the_sample_honours_the_strengths_of_the_edges_and_fixed_arch_takes_it():
    model = small()
    darts = strategy()
    _, experiment = search(model, darts, batches(1))
    strong = {'node0_edge0': 0.0, 'node0_edge1': 3.0, 'node1_edge0': 2.0, 'node1_edge1': 0.0, 'node1_edge2': 1.0}
    for key, strength in strong.items():
        darts.choices[key].data[:] = 0.0
        darts.choices[key].data[1] = strength
    sample, = experiment.export_top_models()
    assert sample['node0'] == [1] and sample['node1'] == [0, 2]
    assert {sample[key] for key in ('node0_edge1', 'node1_edge0', 'node1_edge2')} == {'op1'}
    with fixed_arch(sample):
        found = Cells(TWO_NODES, named=True)
    found(torch.randn(4, 3)).sum().backward()
    applied = nni_darts_ext.apply_fixed_architecture(Cells(TWO_NODES, named=True), sample)
    assert applied(torch.randn(4, 3)).shape == (4, 2)


@model_wrapper
class Everything(nn.Module):
    """NNI's other primitives around an edge of ours, which feeds one of two InputChoices."""

    def __init__(self):
        super().__init__()
        width = nn_retiarii.ValueChoice([4, 8], label='width')
        self.stem = nn_retiarii.Conv2d(1, width, 3, padding=1)
        self.squeeze = nn_retiarii.Conv2d(width, 4, 1)
        self.repeat = nn_retiarii.Repeat(lambda i: nn_retiarii.Conv2d(4, 4, 3, padding=1), (1, 2), label='depth')
        self.unfed = input_choice(['', ''], 1, 'sum', 'unfed')
        self.edge = layer_choice({'conv': nn_retiarii.Conv2d(4, 4, 1), 'skip': nn_retiarii.Identity()}, 'edge')
        self.fed = input_choice(['', ''], 1, 'sum', 'fed')
        self.cell = nn_retiarii.Cell([nn_retiarii.Conv2d(4, 4, 1), nn_retiarii.Identity()], 1, 1, 1, label='cell')
        self.classifier = nn_retiarii.Linear(4, 2)

    def forward(self, x):
        x = self.repeat(self.squeeze(self.stem(x)))
        x = self.unfed([x, torch.relu(x)])
        x = self.fed([self.edge(x), x])
        return self.classifier(self.cell([x]).mean((2, 3)))


def images(steps):
    return [[(torch.randn(4, 1, 6, 6), torch.randint(2, (4,))) for _ in range(2)] for _ in range(steps)]


def test_cell_repeat_and_value_choices_work_as_in_nni():
    inner = Module(torch.optim.Adam)
    inner.set_model(Everything())
    labels = set(NniDARTS().oneshot_module(inner).export())
    data = images(3)
    darts = lightning.DARTS(arc_learning_rate=0.1)
    _, experiment = search(Everything(), darts, data)
    sample, = experiment.export_top_models()
    assert set(sample) == labels
    assert darts.choose_from['fed'] == ('edge', '') and darts.choose_from['unfed'] == ('', '')
    assert sample['fed'] == [0] and sample['unfed'] in (0, 1, [0], [1])  # as that NNI writes it
    with fixed_arch(sample):
        Everything()(data[0][0][0]).sum().backward()
    own = set(darts.model.arch_parameters())
    weights = max(darts.model.trainer.optimizers, key=lambda optimizer: sum(len(g['params']) for g in optimizer.param_groups))
    assert len(own) > 1 and not own & {p for group in weights.param_groups for p in group['params']}


@pytest.mark.skipif(OFFERED['classic'] is not None, reason='this NNI has no classic family')
def test_a_model_of_the_classic_family_is_refused_and_the_message_says_what_to_set(monkeypatch):
    monkeypatch.delenv(hosts.PREFERENCE)
    said = r'LayerChoice at .*nni\.nas\.pytorch\.mutables, the classic family.*NNI_DARTS_EXT_FAMILY=lightning'
    with pytest.raises(SearchSpaceError, match=said):
        search(write_weights(Cells(TWO_NODES)), lightning.DARTS(), batches(2))
    monkeypatch.setenv(hosts.PREFERENCE, 'lightning')
    search(write_weights(Cells(TWO_NODES)), lightning.DARTS(), batches(2))


def test_a_model_without_choices_is_refused():
    with pytest.raises(SearchSpaceError, match='no LayerChoice'):
        search(nn.Linear(3, 2).double(), lightning.DARTS(), batches(2))


def placeholder(model):
    model.hole = nn_retiarii.Placeholder('here')


def parameter(model):
    model.scale = nn_retiarii.ModelParameterChoice([1, 2], label='scale')


def called(model):
    model.value = nn_retiarii.ValueChoice([1.0, 2.0], label='value')


@pytest.mark.parametrize('add, message', [
    (placeholder, "Placeholder at 'hole'.*mutation_hooks"), (parameter, "ModelParameterChoice 'scale' of Model at ''"),
    (called, r'The forward pass calls ValueChoice\(\[1.0, 2.0\]')])
def test_choices_that_no_strategy_searches_are_not_passed_over(add, message):
    @model_wrapper
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.edge = layer_choice([nn.Linear(3, 2), nn.Linear(3, 2)], 'edge')
            add(self)

        def forward(self, x):
            return self.edge(x) * (self.value() if hasattr(self, 'value') else 1)
    with pytest.raises(SearchSpaceError, match=message):
        search(Model().double(), lightning.DARTS(), batches(2))


Named = namedtuple('Named', 'images labels')
Record = dataclasses.make_dataclass('Record', Named._fields)  # Lightning moves no frozen one


@pytest.mark.parametrize('form', [Named, Record, lambda *parts: dict(zip(Named._fields, parts)),
                                  lambda *parts: UserDict(zip(Named._fields, parts))])
def test_batches_of_any_form_reach_the_module_with_their_channels_last(form):
    seen = []

    class Watching(Module):
        def training_step(self, batch, batch_idx):
            x, y = (getattr(batch, name) if hasattr(batch, name) else batch[name] for name in Named._fields)
            seen.append((type(batch), x.stride()))
            return super().training_step((x, y), batch_idx)
    data = [tuple(form(*batch) for batch in pair) for pair in images(2)]
    search(Everything(), lightning.DARTS(channels_last=True, methods=[Eigenvalue()]), data, module=Watching(torch.optim.Adam))
    strides = torch.empty(4, 1, 6, 6).contiguous(memory_format=torch.channels_last).stride()
    assert len(seen) > 4 and set(seen) == {(type(form(0, 0)), strides)}


def test_channels_last_reaches_batches_and_weights():
    seen = set()

    class Watching(Module):
        def training_step(self, batch, batch_idx):
            seen.add(batch[0].stride())
            return super().training_step(batch, batch_idx)
    module = Watching(torch.optim.Adam)
    search(Everything(), lightning.DARTS(channels_last=True), images(2), module=module)
    assert seen == {torch.empty(4, 1, 6, 6).contiguous(memory_format=torch.channels_last).stride()}
    four = [parameter for parameter in module.parameters() if parameter.dim() == 4]
    assert four and all(parameter.is_contiguous(memory_format=torch.channels_last) for parameter in four)


def test_convolutions_that_overrun_memory_on_some_cpus_are_warned_of(caplog):
    class Reduction(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem = nn.Conv2d(1, 4, 1, 2)
            self.edge = layer_choice([nn.Conv2d(4, 2, 1, 2), nn.Sequential(nn.ReLU(), nn.Conv2d(4, 2, 1, 2))], 'edge')
            self.linear = nn.Linear(2, 2)

        def forward(self, x):
            return self.linear(self.edge(self.stem(x)).mean((2, 3)))

    with caplog.at_level('WARNING', 'nni_darts_ext'):
        search(Reduction(), lightning.DARTS(channels_last=True), images(2))
    message, = [message for message in caplog.messages if 'AVX-512' in message]
    assert "itself: 'stem'. " in message  # the candidates run otherwise


class Failing(Module):
    """Cuts a candidate, and fails in the middle of an epoch."""

    def __init__(self, darts, fails):
        def optimizer(weights):
            made = torch.optim.SGD(weights, 0.1, momentum=0.9)
            scheduler = torch.optim.lr_scheduler.ExponentialLR(made, 0.5)
            is_read = isinstance(scheduler, LRSchedulerTypeTuple)  # a new PyTorch's by an old Lightning is not
            is_known = hasattr(lightning.DartsLightningModule, 'advance_lr_schedulers')  # to NNI 2.8 it is not
            return ([made], [scheduler]) if is_read and is_known else made
        super().__init__(optimizer)
        self.darts, self.fails = darts, fails

    def training_step(self, batch, batch_idx):
        if batch_idx == 1 and self.trainer.current_epoch == 1:
            self.darts.search.cut('b', 'skip')
        if batch_idx == 1 and self.trainer.current_epoch == self.fails:
            raise Interrupted
        return super().training_step(batch, batch_idx)


def resumable(folder, mocker, fails=None, last=None, model=Net, **options):
    mocker.patch.object(numpy, 'Inf', numpy.inf, create=True)  # which NumPy 2 has no more and the oldest Lightning reads
    torch.manual_seed(0)
    darts = lightning.DARTS(arc_learning_rate=0.1, methods=[Counting(last)])
    data = [[(x.float(), y) for x, y in pair] for pair in batches(3)]
    keep = ModelCheckpoint(str(folder), '{epoch}', save_top_k=-1, every_n_epochs=1)
    search(model(), darts, data, epochs=4, module=Failing(darts, fails), callbacks=[keep], **options)
    module = darts.model
    return ({key: logits.tolist() for key, logits in darts.choices.items()}, darts.choices.cuts('b'), darts.choose_from,
            [parameter.tolist() for parameter in module.parameters()], module.search.methods.all[1].losses, module.stopped,
            [optimizer.param_groups[0]['lr'] for optimizer in module.trainer.optimizers], torch.rand(1).item())


@pytest.mark.parametrize('last', [None, 3])
def test_a_search_goes_on_from_lightnings_checkpoint_as_if_it_had_not_ended(last, tmp_path, mocker):
    expected = resumable(tmp_path / 'through', mocker, last=last)
    with pytest.raises(Interrupted):
        resumable(tmp_path / 'ended', mocker, fails=2, last=last)
    file = tmp_path / 'ended' / 'epoch=1.ckpt'
    assert resumable(tmp_path / 'again', mocker, last=last, resume_from_checkpoint=str(file)) == expected
    assert expected[1] == (1,) and expected[2] == {'pick': ('b', 'a')}
    assert (len(expected[4]), expected[5]) == ((4, None) if last is None else (3, '3 are enough'))
    if last is not None:  # what ended stays ended
        ended = resumable(tmp_path / 'more', mocker, resume_from_checkpoint=str(tmp_path / 'through' / 'epoch=2.ckpt'))
        assert ended[:6] == expected[:6]


def test_a_search_that_resumes_in_a_warm_up_counts_as_many_steps(tmp_path, mocker):
    mocker.patch.object(numpy, 'Inf', numpy.inf, create=True)

    def steps(**options):
        darts = lightning.DARTS(methods=[Warmup(3)])
        data = [[(x.float(), y) for x, y in pair] for pair in batches(2)]
        keep = ModelCheckpoint(str(tmp_path), '{epoch}', save_top_k=-1, every_n_epochs=1)
        search(Net(), darts, data, epochs=4, callbacks=[keep], **options)
        return darts.model.trainer.global_step
    through = steps()
    file = tmp_path / 'epoch=0.ckpt'
    if not file.exists():
        pytest.skip('the oldest Lightnings write no checkpoint in a warm-up')
    assert steps(resume_from_checkpoint=str(file)) == through == 8


def test_a_schedule_that_was_made_for_other_epochs_is_refused(tmp_path, mocker):
    is_read = issubclass(torch.optim.lr_scheduler.CosineAnnealingLR, LRSchedulerTypeTuple)
    if not is_read or not hasattr(lightning.DartsLightningModule, 'advance_lr_schedulers'):
        pytest.skip('this NNI, or this Lightning, takes no schedulers of this PyTorch')

    def run(epochs, made_for, **options):
        def configured(weights):
            optimizer = torch.optim.SGD(weights, 0.1)
            return [optimizer], [torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, made_for)]
        keep = ModelCheckpoint(str(tmp_path), '{epoch}', save_top_k=-1, every_n_epochs=1)
        search(Net().double(), strategy(), batches(2), configured, epochs=epochs, callbacks=[keep], **options)
    mocker.patch.object(numpy, 'Inf', numpy.inf, create=True)  # which NumPy 2 has no more and the oldest Lightning reads
    run(2, made_for=2)
    file = {'resume_from_checkpoint': str(tmp_path / 'epoch=1.ckpt')}
    with pytest.raises(CheckpointError, match=r'another schedule: T_max of lr_schedulers\[0\] was 2 and is 3'):
        run(3, made_for=3, **file)
    run(3, made_for=2, **file)


def test_a_checkpoint_of_another_search_is_refused(tmp_path, mocker):
    resumable(tmp_path, mocker)
    file = tmp_path / 'epoch=3.ckpt'
    with pytest.raises(CheckpointError, match=r"to another search: .*LayerChoice 'b' was \['norm', 'skip', 'more0'\] and is"):
        resumable(tmp_path, mocker, model=lambda: Net(candidates=3), resume_from_checkpoint=str(file))
    content = torch.load(str(file))
    del content['nni_darts_ext']
    torch.save(content, str(file))
    with pytest.raises(CheckpointError, match='not written by a search with nni_darts_ext.DARTS'):
        resumable(tmp_path, mocker, resume_from_checkpoint=str(file))


def test_arguments_that_nni_would_not_hand_on_are_refused():
    if 'fit_kwargs' not in inspect.signature(Lightning.__init__).parameters:
        pytest.skip('the evaluators of this NNI have none')
    training, validation = (DataLoader(list(part), batch_size=None) for part in zip(*batches(1)))
    evaluator = Lightning(Module(None), Trainer(max_epochs=1), training, validation, fit_kwargs={'ckpt_path': 'file'})
    experiment = RetiariiExperiment(small(), evaluator, [], strategy())
    config = RetiariiExeConfig('local')
    config.execution_engine = 'oneshot'
    with pytest.raises(EvaluatorError, match=r"fit_kwargs.*'ckpt_path': 'file'.*resume_from_checkpoint"):
        experiment.run(config)


def test_nnis_own_darts_space_is_searched_exported_and_trained():
    hub = pytest.importorskip('nni.retiarii.hub.pytorch', reason='this NNI has no hub')
    if not hasattr(hub, 'DARTS'):
        pytest.skip('the hub of this NNI has no DARTS space')

    def space():
        return hub.DARTS(width=4, num_cells=3, dataset='cifar')
    data = [[(torch.randn(2, 3, 32, 32), torch.randint(10, (2,))) for _ in range(2)]]
    darts = lightning.DARTS(arc_learning_rate=0.1)
    _, experiment = search(space(), darts, data)
    sample, = experiment.export_top_models()
    with fixed_arch(sample):
        output = space()(data[0][0][0])
    (output[0] if isinstance(output, tuple) else output).sum().backward()


def test_without_n_chosen_every_input_is_exported():
    darts = strategy()
    _, experiment = search(write_weights(Cells([((2, 3), None, 'sum')])), darts, batches(1))
    assert experiment.export_top_models()[0]['node0'] == [0, 1]


def test_cuts_hold_in_an_experiment():
    def run(model, strategy, data, optimizer, epochs, on_epoch):
        class Watching(Module):
            def on_train_epoch_start(self):
                on_epoch(self.trainer.current_epoch)
        search(model, strategy, data, epochs=epochs, module=Watching(optimizer))
        return strategy.model.trainer
    strategy_cuts.check(strategy(arc_learning_rate=0.1), run, lambda weights: torch.optim.SGD(
        weights, 0.05, momentum=0.9, weight_decay=1e-2))


def in_steps(model, strategy, data, optimizer, on_step, on_epoch, trainer):
    class Watching(Module):
        def training_step(self, batch, batch_idx):
            on_step()
            return super().training_step(batch, batch_idx)

        def on_train_epoch_start(self):
            on_epoch(self.trainer.current_epoch)
    _, experiment = search(model, strategy, data, module=Watching(optimizer), **trainer)
    return experiment.export_top_models()[0]


def one_of_ranks(unrolled):
    class Doubled(lightning.DartsModule):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            self.search.double()
    darts = lightning.DARTS(arc_learning_rate=0.02, unrolled=unrolled, run_dir=strategy_ranks.RUN)
    darts.oneshot_module = Doubled
    return strategy_ranks.searched(darts, in_steps, lambda: darts.choices.values())


@pytest.mark.parametrize('unrolled', [False, 'exact', 'finite_difference'])
def test_two_ranks_under_lightning_search_as_one_process_with_twice_the_batch(unrolled):
    strategy_ranks.check(one_of_ranks, unrolled)


def one_of_nnis_ranks():
    nnis = NniDARTS()
    return strategy_ranks.searched(nnis, in_steps, lambda: [
        p for module in nnis.model.nas_modules for p in module.parameters(arch=True)])


def test_in_nnis_own_the_logits_of_two_ranks_diverge():
    first, second = two_processes.results(one_of_nnis_ranks)
    assert first['steps'][0] == second['steps'][0] and first['steps'][-1] != second['steps'][-1]
    assert first['weights'] == second['weights']


def forked():
    return strategy_ranks.forked_by_lightning(lightning.DARTS(arc_learning_rate=0.1), in_steps)


def test_what_processes_of_lightnings_found_is_exported_where_they_were_started():
    strategies = pytest.importorskip('pytorch_lightning.strategies')
    if 'ddp_fork' not in strategies.StrategyRegistry:
        pytest.skip('this Lightning has no ddp_fork')
    strategy_ranks.check_forked(forked)


def test_the_eigenvalue_is_recorded_and_ends_a_search_early(mocker, tmp_path):
    search(small(), strategy(methods=[Eigenvalue()], run_dir=tmp_path), batches(2), epochs=2)
    recorded = [epoch.indicators['eigenvalue'] for epoch in Run.read(tmp_path).epochs]
    assert len(set(recorded)) == 2 and all(math.isfinite(value) and value != 0 for value in recorded)

    class Keeping(Callback):
        def on_train_epoch_end(self, trainer, module):
            kept.append(module.search.choices['node0_edge0'].tolist())
    mocker.patch.object(eigenvalue, 'dominant_eigenvalue', side_effect=[1.0] * 6 + [2.0] * 24)
    darts, kept = strategy(methods=[EarlyStopping()]), []
    search(small(), darts, batches(1), epochs=30, callbacks=[Keeping()], enable_checkpointing=False)
    assert len(kept) == 10 and kept[9] == kept[4] == darts.choices['node0_edge0'].tolist() and kept[8] not in kept[:8]
    assert 'grown from 1 to 1.8' in darts.model.stopped


def test_edges_shrink_on_the_way():
    darts = strategy(methods=[Shrinking({1: 2})], arc_learning_rate=0.1)
    search(small(), darts, batches(2), epochs=3)
    assert_left(darts, 2)
    with pytest.raises(TrainingError, match='start of epoch 3, but the search ends with epoch 2'):
        search(small(), strategy(methods=[Shrinking({3: 1})]), batches(2), epochs=3)
    with pytest.raises(TrainingError, match=r'Shrinking\(5\) has no schedule'):
        lightning.DARTS(methods=[Shrinking(5)])


def assert_left(strategy, n):
    for key, logits in strategy.choices.items():
        assert len(logits) - 1 - len(strategy.choices.cuts(key)) == n
        assert torch.isfinite(logits).all()


def taken_up(darts, model):
    inner = Module(torch.optim.Adam)
    inner.set_model(model)
    darts.model = darts.oneshot_module(inner, **darts.oneshot_kwargs)
    return darts.model


def test_what_cannot_be_cut_is_named_when_the_model_is_there():
    strategy_cuts.check_errors(lightning.DARTS, taken_up)


@pytest.mark.parametrize('through', ['checkpoint', 'deepcopy'])
def test_a_cut_in_a_strategy_stays_through_checkpoints_and_copies(through):
    darts = lightning.DARTS()
    darts.cut('node0_edge0', 'op0')
    module = taken_up(darts, small())
    if through == 'checkpoint':
        again = taken_up(lightning.DARTS(), small())
        again.load_state_dict(module.state_dict())
    else:
        again = copy.deepcopy(module)
    assert again.search.choices.cuts('node0_edge0') == (0,)
    again.search.restore('node0_edge0', 0)
    assert darts.choices.cuts('node0_edge0') == (0,)
    again.model(torch.randn(4, 3, dtype=torch.float64)).sum().backward()
    assert again.search.choices['node0_edge0'].grad is not None and darts.choices['node0_edge0'].grad is None


def test_bad_input():
    with pytest.raises(TrainingError, match="unrolled='second'"):
        lightning.DARTS(unrolled='second')
    class Greedy(lightning.DartsModule):
        def configure_architecture_optimizers(self):
            return torch.optim.Adam(self.parameters(), 1e-3)
    greedy = lightning.DARTS()
    greedy.oneshot_module = Greedy
    with pytest.raises(TrainingError, match='optimiser of the logits holds 2[0-9] weights of the model'):
        search(small(), greedy, batches(1))
    little = torch.utils.data.DataLoader([1, 2, 3], 4, drop_last=True)
    for loaders, part in (((little, [1]), 'weights'), (([1], little), 'logits')):
        with pytest.raises(TrainingError, match=f'DataLoader .3 samples, batch_size=4, drop_last=True. for the {part}'):
            lightning.DARTS().preprocess_dataloader(*loaders)
    with pytest.raises(EvaluatorError, match='Lightning evaluator, but found FunctionalEvaluator'), warnings.catch_warnings():
        warnings.simplefilter('ignore')
        config = RetiariiExeConfig('local')
        config.execution_engine = 'oneshot'
        RetiariiExperiment(small(), FunctionalEvaluator(print), [], lightning.DARTS()).run(config)
    model = nn.ModuleDict({'a': layer_choice([nn.Sequential(layer_choice([nn.Identity()], 'in'))], 'out')})
    with pytest.raises(SearchSpaceError, match='lies inside'):
        search(model, lightning.DARTS(), batches(1))
    model = nn.ModuleDict({'a': layer_choice([nn.Identity()], 'edge'), 'b': nn_retiarii.InputChoice(2, label='pick'),
                           'c': nn_retiarii.InputChoice(3, label='pick')})
    with pytest.raises(SearchSpaceError, match="'pick'.*different numbers of candidates: 2 at 'b', 3 at 'c'"):
        search(model, lightning.DARTS(), batches(1))


@pytest.mark.parametrize('unrolled', [False, 'exact', 'finite_difference'])
def test_under_autocast_a_search_learns_as_it_does_in_32_bits(unrolled):
    def losses():
        torch.manual_seed(0)
        module, _ = search(repeated_batch.model(), lightning.DARTS(arc_learning_rate=repeated_batch.ARC_RATE, unrolled=unrolled),
                           repeated_batch.data(), repeated_batch.optimizer)
        return module.losses[len(module.losses) // repeated_batch.STEPS - 1::len(module.losses) // repeated_batch.STEPS]
    repeated_batch.check(losses)
