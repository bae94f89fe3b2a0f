"""DartsTrainer on whatever NNI is installed."""

import copy
import json
import math
import re

import disks
import pytest
import reads
import repeated_batch
import ten_steps
import torch
import words
from spaces import TWO_NODES, Cells, batches, write_weights
from torch import nn
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

import nni_darts_ext.nn as dnn
from nni_darts_ext import DartsMutator, DartsTrainer, LogitsError, TrainingError, apply_fixed_architecture
from nni_darts_ext.loop import guard
from nni_darts_ext.loop.checkpoint import read
from nni_darts_ext.methods import EarlyStopping, Eigenvalue, Shrinking, eigenvalue
from nni_darts_ext.run import Run


def accuracy(output, labels):
    return {'acc': (output.argmax(dim=1) == labels).float().mean().item()}


def dataset(n=24):
    (x, y), _ = batches(1, batch=n)[0]
    return TensorDataset(x, y)


def trainer(model=None, data=None, lr=0.05, loss=nn.functional.cross_entropy, num_epochs=1, mutator=None, **options):
    model = write_weights(Cells(TWO_NODES, cells=2, named=True)) if model is None else model
    mutator = mutator or DartsMutator(model).double()
    optimizer = torch.optim.SGD(model.parameters(), lr, momentum=0.9, weight_decay=3e-4)
    return DartsTrainer(model, loss, accuracy, optimizer, num_epochs, data or dataset(), mutator=mutator,
                        **{**dict(batch_size=6, workers=0, device='cpu'), **options})


def logits(search):
    return [logits.detach().clone() for logits in search.mutator.choices.values()]


def test_it_takes_the_recorded_ten_steps():
    model, data = ten_steps.model_and_data()
    search = trainer(model, tuple(zip(*data)), arc_learning_rate=ten_steps.ARC_LR, grad_clip=ten_steps.CLIP)
    ten_steps.start_logits(search.mutator.choices)
    search.fit()
    ten_steps.assert_same({'logits': {key: logits.tolist() for key, logits in search.mutator.choices.items()}},
                          ten_steps.recorded(), 1e-9)
    assert search.history[0]['train']['loss'] == pytest.approx(sum(ten_steps.recorded()['training_loss']) / 10)


def test_it_makes_the_mutator_itself_and_its_export_can_be_applied(tmp_path):
    model = Cells(TWO_NODES).double()
    search = DartsTrainer(model, nn.CrossEntropyLoss(), accuracy, torch.optim.Adam(model.parameters()), num_epochs=1,
                          dataset_train=dataset(), dataset_valid=dataset(12), workers=0, batch_size=4)
    search.train()
    (tmp_path / 'architecture.json').write_text('{"of": "an earlier search"}')
    with disks.full(up_to=8), pytest.raises(OSError):
        search.export(str(tmp_path / 'architecture.json'))
    assert [file.read_text() for file in tmp_path.iterdir()] == ['{"of": "an earlier search"}']
    architecture = search.export(str(tmp_path / 'architecture.json'))
    assert architecture == search.mutator.export(search.mutator.form)
    assert json.loads((tmp_path / 'architecture.json').read_text()) == json.loads(json.dumps(architecture))
    found = apply_fixed_architecture(Cells(TWO_NODES).double(), str(tmp_path / 'architecture.json'))
    found(dataset()[:4][0]).sum().backward()


def test_the_architecture_learns_at_the_given_rate():
    still = trainer(arc_learning_rate=0.0, num_epochs=2)
    before = logits(still)
    still.fit()
    assert all(torch.equal(old, new) for old, new in zip(before, logits(still)))

    moving = trainer(data=tuple(zip(*batches(1))), arc_learning_rate=1e-2)
    before = logits(moving)
    moving.fit()
    for old, new in zip(before, logits(moving)):  # Adam's first step is the learning rate
        assert (new - old).abs().tolist() == pytest.approx([1e-2] * len(old), rel=1e-3)


@pytest.mark.parametrize('grad_clip', [1e-4, 0, None])
def test_the_gradient_of_the_weights_is_clipped_as_told(grad_clip):
    search = trainer(data=tuple(zip(*batches(1))), lr=1.0, grad_clip=grad_clip)
    for group in search.optimizer.param_groups:
        group['weight_decay'] = 0.0
    before = [parameter.detach().clone() for parameter in search.model.parameters()]
    search.fit()
    moved = torch.stack([(new - old).norm() for new, old in zip(search.model.parameters(), before)]).norm().item()
    assert moved == pytest.approx(grad_clip, rel=1e-3) if grad_clip else moved > 0.01


def test_neither_step_touches_what_the_other_owns():
    search = trainer(data=tuple(zip(*batches(1))))
    seen = []
    loss = search.loss
    search.loss = lambda output, labels: (seen.append([p.requires_grad for p in (search.model.classifier.weight,
                                                                              *search.mutator.parameters())])
                                          or loss(output, labels))
    step = search.ctrl_optim.step

    def stepped():
        assert all(parameter.grad is None for parameter in search.model.parameters())
        arch_gradients.extend(parameter.grad.clone() for parameter in search.mutator.parameters())
        step()
    arch_gradients, search.ctrl_optim.step = [], stepped
    search.train_one_epoch(0)
    assert all(torch.equal(p.grad, old) for p, old in zip(search.mutator.parameters(), arch_gradients))
    assert seen == [[False] + [True] * len(arch_gradients), [True] + [False] * len(arch_gradients)]


def test_the_supernet_is_validated_after_each_epoch_and_not_moved_by_it():
    search = trainer(num_epochs=2, dataset_valid=dataset(30))
    search.train()
    assert [set(epoch) for epoch in search.history] == [{'epoch', 'train', 'valid'}] * 2
    assert set(search.history[1]['valid']) == {'acc', 'loss'}
    state = [value.clone() for value in search.model.state_dict().values()]
    assert search.validate() == search.history[1]['valid']
    assert all(torch.equal(old, new) for old, new in zip(state, search.model.state_dict().values()))
    search.train(validate=False)
    assert set(search.history[-1]) == {'epoch', 'train'}


def indices(loader):
    return {tuple(row) for x, _ in loader for row in x.tolist()}


def test_the_split_is_the_users_to_choose():
    data = dataset(24)
    rows = [tuple(row) for row in data.tensors[0].tolist()]
    halves = trainer(data=data)
    assert (indices(halves.train_loader), indices(halves.valid_loader)) == (set(rows[:12]), set(rows[12:]))
    share = trainer(data=data, split=0.75)
    assert (indices(share.train_loader), indices(share.valid_loader)) == (set(rows[:18]), set(rows[18:]))
    pair = trainer(data=(data, dataset(12)))
    assert (len(pair.train_loader), len(pair.valid_loader)) == (4, 2)
    loaders = DataLoader(data, 12), DataLoader(data, 8)
    own = trainer(data=loaders)
    assert (own.train_loader, own.valid_loader) == loaders


def test_retiariis_arguments_are_understood():
    model = write_weights(Cells(TWO_NODES))
    search = DartsTrainer(model, nn.CrossEntropyLoss(), accuracy, torch.optim.SGD(model.parameters(), 0.1), 1, dataset=dataset(),
                          grad_clip=1.0, learning_rate=0.025, batch_size=6, workers=0, arc_learning_rate=1e-3)
    search.mutator.double()
    search.fit()
    assert search.optimizer.param_groups[0]['lr'] == 0.025
    assert search.ctrl_optim.param_groups[0]['lr'] == 1e-3
    assert set(search.export()) == {'node0', 'node1', *search.mutator.choices}


@pytest.mark.parametrize('log_frequency', [None, 100])
@pytest.mark.parametrize('unrolled', [False, 'exact', 'finite_difference'])
def test_the_host_reads_no_numbers_in_a_step(unrolled, log_frequency, monkeypatch):
    monkeypatch.setattr('nni_darts_ext.core.logits.AT_ONCE', ())  # on the CPU one need not wait for them

    def reads_of(n):
        model = write_weights(Cells(TWO_NODES, cells=2, named=True))
        search = DartsTrainer(
            model, nn.functional.cross_entropy, lambda output, labels: {'acc': (output.argmax(1) == labels).double().mean()},
            torch.optim.SGD(model.parameters(), 0.05, momentum=0.9), 1, tuple(zip(*batches(n))), dataset_valid=batches(1)[0],
            unrolled=unrolled, mutator=DartsMutator(model).double(), device='cpu', log_frequency=log_frequency)
        search.ctrl_optim = torch.optim.SGD(search.mutator.parameters(), 0.1)  # Adam's own counter is a tensor of the host
        return reads.count(monkeypatch, search.train, whose='')
    assert reads_of(2) == reads_of(9) > 0


def test_means_of_tensors_and_of_numbers_are_the_same():
    def history(as_number):
        torch.manual_seed(0)
        search = trainer(num_epochs=2, log_frequency=1)
        search.metrics = lambda output, labels: {'acc': as_number((output.argmax(1) == labels).double().mean())}
        search.train()
        return search.history
    assert history(float) == history(lambda value: value) == history(lambda value: value.reshape(1).requires_grad_())
    assert all(type(value) is float for epoch in history(lambda value: value) for value in epoch['train'].values())


def test_logits_that_are_no_numbers_any_more_are_reported_in_the_same_epoch():
    search = trainer(num_epochs=5, loss=lambda output, labels: 1e10 * nn.functional.cross_entropy(output, labels))
    search.ctrl_optim = torch.optim.SGD(search.mutator.parameters(), 1e308)
    with pytest.raises(LogitsError, match='learning rate that is too high'):
        search.train()
    assert len(search.history) == 1


def test_channels_last_gives_the_same_search_in_another_layout():
    class Images(dnn.ModelSpace):
        def __init__(self):
            super().__init__()
            self.edge = dnn.LayerChoice([nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(3, 4, 1)], key='edge')
            self.classifier = nn.Linear(4, 2)

        def forward(self, x):
            layouts.add(x.is_contiguous(memory_format=torch.channels_last))
            return self.classifier(torch.relu(self.edge(x)).mean((2, 3)))

    def search(**options):
        torch.manual_seed(0)
        layouts.clear()
        model = Images().double()
        data = TensorDataset(torch.randn(12, 3, 5, 5).double(), torch.randint(2, (12,)))
        found = trainer(model, data, num_epochs=2, **options)
        found.train()
        return found
    layouts = set()
    plain = search()
    assert layouts == {False}
    other = search(channels_last=True)
    assert layouts == {True}
    assert all(p.is_contiguous(memory_format=torch.channels_last) for p in other.model.parameters() if p.dim() == 4)
    for one, two in zip([*plain.model.parameters(), *logits(plain)], [*other.model.parameters(), *logits(other)]):
        torch.testing.assert_close(one, two, rtol=1e-9, atol=1e-9)


class Reduction(dnn.ModelSpace):
    """A stride and few channels: in the model, in a candidate with a forward pass of its own and in a plain Sequential."""

    class Own(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(4, 4, 1, 2)

        def forward(self, x):
            return self.conv(x)

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 1, 2)
        self.edge = dnn.LayerChoice({'own': self.Own(), 'plain': nn.Sequential(nn.ReLU(), nn.Conv2d(4, 4, 1, 2))}, key='edge')

    def forward(self, x):
        return self.edge(self.stem(x)).mean((2, 3))


@pytest.mark.parametrize('options', [{}, {'channels_last': True}, {'compile': True}], ids=str)
def test_convolutions_that_overrun_memory_on_some_cpus_are_warned_of_where_channels_lie_last(options, caplog):
    with caplog.at_level('WARNING'):
        trainer(Reduction(), **options)
    assert len(caplog.messages) == len(options)
    for message in caplog.messages:
        assert "itself: 'stem', 'edge.own.conv' of LayerChoice 'edge'. " in message and f'without {min(options)}.' in message


def test_the_second_order_moves_statistics_and_the_random_state_no_more_than_the_weight_step_does():
    search = trainer(data=tuple(zip(*batches(3))), unrolled=True)
    counters = [buffer for name, buffer in search.model.named_buffers() if 'num_batches' in name]
    state = torch.get_rng_state()
    search.train(validate=False)
    assert counters and all(counter == 3 for counter in counters)
    assert torch.equal(torch.get_rng_state(), state)


def test_the_eigenvalue_of_each_epoch_is_recorded_and_changes_nothing(tmp_path):
    search = trainer(num_epochs=2, methods=[Eigenvalue()], run_dir=tmp_path)
    search.train()
    recorded = [epoch['collapse']['eigenvalue'] for epoch in search.history]
    assert len(set(recorded)) == 2 and all(math.isfinite(value) and value != 0 for value in recorded)
    assert [epoch.indicators['eigenvalue'] for epoch in Run.read(tmp_path).epochs] == recorded
    torch.manual_seed(0)
    plain = trainer(num_epochs=2)
    torch.manual_seed(0)
    watched = trainer(num_epochs=2, methods=[Eigenvalue()])
    for one in (plain, watched):
        torch.manual_seed(1)
        one.train()
    assert all(torch.equal(one, other) for one, other in zip(logits(plain), logits(watched)))


def test_a_search_ends_early_with_the_logits_of_before_and_says_why(mocker, caplog, tmp_path):
    mocker.patch.object(eigenvalue, 'dominant_eigenvalue', side_effect=[1.0] * 6 + [2.0] * 24)
    kept = []

    class Keeping:
        def build(self, *args):
            pass

        def on_epoch_begin(self, epoch):
            kept.append(logits(search))

        def on_epoch_end(self, epoch):
            saved.append(logits(search))
    saved = []
    search = trainer(num_epochs=30, methods=[EarlyStopping()], arc_learning_rate=0.1, run_dir=tmp_path, callbacks=[Keeping()])
    with caplog.at_level('WARNING'):
        search.train()
    assert len(search.history) == 10 and 'grown from 1 to 1.8 within 5 epochs' in search.stopped
    assert 'The search ends after epoch 9: the dominant eigenvalue' in caplog.text
    assert all(torch.equal(one, other) for one, other in zip(logits(search), kept[5]))  # after epoch 4
    assert not all(torch.equal(one, other) for one, other in zip(logits(search), kept[9]))
    assert all(torch.equal(one, other) for one, other in zip(logits(search), saved[-1]))
    assert Run.read(tmp_path).epochs[-1].weights == {
        key: search.mutator.choices.probabilities(key).tolist() for key in search.mutator.choices}


def test_what_a_callback_does_at_the_end_of_an_epoch_is_in_its_record_and_in_its_checkpoint(tmp_path):
    class Cutting:
        def build(self, model, mutator, trainer):
            self.mutator = mutator

        def on_epoch_begin(self, epoch):
            pass

        def on_epoch_end(self, epoch):
            self.mutator.cut('node0_edge0', 0)
    search = trainer(run_dir=tmp_path, callbacks=[Cutting()])
    search.train()
    assert Run.read(tmp_path).epochs[0].weights['node0_edge0'][0] == 0
    assert read(tmp_path / 'checkpoints' / 'epoch-1.ckpt')['mutator']['choices.node0_edge0'][0] == -math.inf


def test_edges_shrink_on_the_way_and_what_went_stays_away():
    seen = []
    search = trainer(num_epochs=4, methods=[Shrinking({1: 3, 3: 1})])

    class Watch:
        def build(self, *args):
            pass

        def on_epoch_begin(self, epoch):
            choices = search.mutator.choices
            seen.append([len(logits) - 1 - len(choices.cuts(key)) for key, logits in choices.items()])

        def on_epoch_end(self, epoch):
            pass
    search.callbacks.append(Watch())
    search.train()
    assert seen == [[4, 3, 5, 2, 3], [3, 3, 3, 2, 3], [3, 3, 3, 2, 3], [1, 1, 1, 1, 1]]
    left = {key: edge.names[next(i for i in range(9) if i not in search.mutator.choices.cuts(key))]
            for key, edge in search.mutator.space.edges.items()}
    assert {key: search.mutator.architecture('sample').get(key, name) for key, name in left.items()} == left
    assert all(torch.isfinite(p).all() for p in (*search.model.parameters(), *search.mutator.parameters()))


class FailingLoss:
    """The cross entropy, but for one call; remembers the state before each call."""

    def __init__(self, call, value):
        self.call, self.value, self.states = call, value, []

    def __call__(self, output, labels):
        loss = nn.functional.cross_entropy(output, labels)
        if not torch.is_grad_enabled():
            return loss
        self.states.append(state_of(self.search))
        return loss * self.value if len(self.states) == self.call + 1 else loss


def state_of(search):
    optimizers = [optimizer.state_dict()['state'] for optimizer in (search.optimizer, search.ctrl_optim)]
    tensors = [p.data for p in (*search.model.parameters(), *search.mutator.parameters())]
    tensors += [torch.as_tensor(value) for state in optimizers for i in sorted(state) for _, value in sorted(state[i].items())]
    return copy.deepcopy(tensors)


def assert_same(ones, others):
    assert len(ones) == len(others) and all(torch.equal(one, other) for one, other in zip(ones, others))


@pytest.mark.parametrize('value, word', [(math.nan, 'nan'), (math.inf, 'inf'), (-math.inf, '-inf')])
@pytest.mark.parametrize('call, message', [
    (0, 'validation loss in step 0 of epoch 0'), (10, 'validation loss in step 1 of epoch 1'),
    (11, 'training loss in step 1 of epoch 1')])
def test_nothing_learns_from_a_loss_that_is_no_number(value, word, call, message):
    loss = FailingLoss(call, value)
    search = loss.search = trainer(data=tuple(zip(*batches(4))), loss=loss, num_epochs=3)
    with pytest.raises(TrainingError, match=f'The {message} .* is {word}. Nothing has learned from it'):
        search.train(validate=False)
    assert len(loss.states) == call + 1
    assert_same(state_of(search), loss.states[-1])
    search.train(validate=False)  # nothing of it has stayed


@pytest.mark.parametrize('unrolled, calls, call', [(unrolled, calls, call) for unrolled, calls in (
    ('exact', 3), ('finite_difference', 5)) for call in range(calls)])
def test_nor_in_the_second_order(unrolled, calls, call):
    loss = FailingLoss(calls + call, math.nan)
    search = loss.search = trainer(data=tuple(zip(*batches(4))), loss=loss, unrolled=unrolled)
    with pytest.raises(TrainingError, match='loss in step 1 of epoch 0 .* is nan'):
        search.train(validate=False)
    assert_same(state_of(search), loss.states[calls if call < calls - 1 else -1])  # the last call is that of the weight step


class Steep(torch.autograd.Function):
    """The identity, whose gradient is no number."""

    @staticmethod
    def forward(context, value):
        return value.clone()

    @staticmethod
    def backward(context, gradient):
        return gradient * math.nan


@pytest.mark.parametrize('grad_clip', [5.0, None])
@pytest.mark.parametrize('call, message', [(4, 'gradient of the logits in step 2'), (5, 'gradient of the weights in step 2')])
def test_nor_from_a_gradient_that_is_none_where_the_loss_is_one(call, message, grad_clip):
    loss = FailingLoss(-1, 1.0)
    search = trainer(data=tuple(zip(*batches(4))), grad_clip=grad_clip,
                     loss=lambda *batch: Steep.apply(loss(*batch)) if len(loss.states) == call else loss(*batch))
    loss.search = search
    with pytest.raises(TrainingError, match=f'{message} of epoch 0 .* is nan'):
        search.train(validate=False)
    assert_same(state_of(search), loss.states[-1])


@pytest.mark.parametrize('call, message, back_at', [(21, 'training loss in step 10 of epoch 0', 8), (4, 'step 2 of epoch 0', 0),
                                                    (24 + 2 * 8, 'validation loss in step 8 of epoch 1', 12 + 8)])
def test_where_reading_means_waiting_everything_goes_back_to_the_last_reading(call, message, back_at, monkeypatch):
    monkeypatch.setattr('nni_darts_ext.core.logits.AT_ONCE', ())
    monkeypatch.setattr(guard, 'EVERY', 4)
    loss = FailingLoss(call, math.nan)
    search = loss.search = trainer(data=tuple(zip(*batches(12))), loss=loss, num_epochs=2)
    search.mutator.cut('node0_edge0', 0)
    statistics = []
    search.model.register_forward_pre_hook(lambda *_: statistics.append(copy.deepcopy(list(search.model.buffers()))))
    with pytest.raises(TrainingError, match=f'{message} .* is nan.*restored to their state of at most 4 steps before'):
        search.train(validate=False)
    assert len(loss.states) > call + 1  # it goes on for a while
    assert_same(state_of(search), loss.states[2 * back_at])
    assert_same(list(search.model.buffers()), statistics[2 * back_at])
    assert search.mutator.choices.cuts('node0_edge0') == (0,)
    search.train(validate=False)


class Learning(nn.Module):
    """A loss with a weight and a running mean; from some call on it is no number."""

    def __init__(self, fails=math.inf):
        super().__init__()
        self.fails, self.states = fails, []
        self.temperature = nn.Parameter(torch.ones((), dtype=torch.float64))
        self.register_buffer('mean', torch.zeros(2, dtype=torch.float64))

    def forward(self, output, labels):
        self.states.append(copy.deepcopy(self.state_dict()))
        with torch.no_grad():
            self.mean += 0.1 * (output.mean(0) - self.mean)
        loss = nn.functional.cross_entropy((output - self.mean) * self.temperature, labels)
        return loss * math.nan if len(self.states) > self.fails else loss


def with_learning(loss, **options):
    torch.manual_seed(0)
    search = trainer(loss=loss, **options)
    search.optimizer.add_param_group({'params': loss.parameters()})
    return search


def test_what_goes_back_is_what_the_steps_move(monkeypatch):
    monkeypatch.setattr('nni_darts_ext.core.logits.AT_ONCE', ())
    monkeypatch.setattr(guard, 'EVERY', 4)
    copied = []

    class Teacher(nn.Linear):
        def __deepcopy__(self, memo):
            raise AssertionError

        def state_dict(self, *args, **kwargs):
            copied.append(self)
            return super().state_dict(*args, **kwargs)

    class Callback:
        """Has a teacher, and a schedule of the rate that goes on with each step."""

        def build(self, model, mutator, trainer):
            self.teacher = Teacher(2, 2)
            self.schedule = schedule = torch.optim.lr_scheduler.StepLR(trainer.optimizer, 1)
            model.register_forward_pre_hook(lambda *_: schedule.step())

        def on_epoch_begin(self, epoch):
            copied.clear()

        def on_epoch_end(self, epoch):
            pass
    loss = Learning(fails=2 * 6)
    search = with_learning(loss, data=tuple(zip(*batches(12))), callbacks=[Callback()])
    with pytest.raises(TrainingError, match='step 6 of epoch 0'):
        search.train(validate=False)
    assert not copied
    assert_same(list(loss.state_dict().values()), list(loss.states[2 * 4].values()))
    assert search.callbacks[0].schedule.last_epoch == 2 * 4
    assert search.optimizer.param_groups[0]['lr'] == pytest.approx(0.05 * 0.1 ** 8)


@pytest.mark.parametrize('unrolled', [False, 'exact', 'finite_difference'])
def test_a_loss_that_learns_is_stepped_once_a_batch_and_not_moved_by_what_is_only_looked_at(unrolled):
    loss = Learning()
    search = with_learning(loss, data=tuple(zip(*batches(3))), unrolled=unrolled, methods=[Eigenvalue()], arc_learning_rate=0.0)
    search.train(validate=False)
    moved = copy.deepcopy(loss.state_dict())
    search.validate()
    assert_same(list(loss.state_dict().values()), list(moved.values()))
    plain = Learning()
    again = with_learning(plain, data=tuple(zip(*batches(3))), unrolled=unrolled and 'exact', arc_learning_rate=0.0)
    again.train(validate=False)
    assert_same(list(plain.state_dict().values()), list(moved.values()))
    assert moved['temperature'] != 1


def test_where_reading_means_waiting_the_host_reads_every_so_often(monkeypatch):
    monkeypatch.setattr('nni_darts_ext.core.logits.AT_ONCE', ())

    def reads_of(n):
        search = trainer(data=tuple(zip(*batches(n))), dataset_valid=batches(1)[0])
        search.metrics = lambda output, labels: {}
        search.ctrl_optim = torch.optim.SGD(search.mutator.parameters(), 0.1)
        return reads.count(monkeypatch, search.train, whose='')
    assert reads_of(2) == reads_of(9) < reads_of(60)


def test_logits_that_do_not_move_are_reported_once(caplog):
    for options in ({'arc_learning_rate': 0.0}, {}):
        caplog.clear()
        trainer(num_epochs=3, **options).train()
        still = [record.getMessage() for record in caplog.records if 'have not changed' in record.getMessage()]
        assert len(still) == bool(options)
        assert all('In epoch 0 the logits of all edges have not changed' in message for message in still)


def test_logits_that_nothing_reaches_are_reported_by_their_edge(caplog):
    class Unused(dnn.ModelSpace):
        def __init__(self):
            super().__init__()
            self.used, self.unused, self.cut = (dnn.LayerChoice([nn.Linear(3, 2), nn.Linear(3, 2)], key=key)
                                                for key in ('used', 'unused', 'cut'))

        def forward(self, x):
            return self.used(x) + self.cut(x)
    search = trainer(Unused().double())
    search.mutator.cut('cut', 0)
    search.mutator.cut('cut', 1)
    search.train()
    assert "In epoch 0 the logits of 'unused' have not changed" in caplog.text


def test_an_optimizer_that_holds_what_the_other_owns_is_refused_before_the_first_step():
    search = trainer()
    search.ctrl_optim = torch.optim.Adam([*search.mutator.parameters(), *search.model.parameters()], 1e-3)
    with pytest.raises(TrainingError, match=r'optimiser of the logits holds \d+ weights of the model \(cells.*, \.\.\.\)'):
        search.train()
    search = trainer()
    search.optimizer = torch.optim.SGD([*search.mutator.parameters(), *search.model.parameters()], 1e-3)
    with pytest.raises(TrainingError, match='optimiser of the weights holds logits'):
        search.train()


class Stream(IterableDataset):
    def __iter__(self):
        return iter([])


@pytest.mark.parametrize('arguments, message', [
    (dict(unrolled='second'), "unrolled='second'.*False.*True"),
    (dict(split=1.0), r'split=1\.0'),
    (dict(methods=[Eigenvalue(), Eigenvalue()]), r'Eigenvalue\(\) and Eigenvalue\(\) cannot be combined'),
    (dict(dataset_train=None), 'no data'),
    (dict(dataset_train=TensorDataset(torch.zeros(1, 3))), '1 samples with split=0.5 leaves 0 for the weights and 1 '),
    (dict(dataset_train=Stream()), 'Stream cannot be split.*pair'),
    (dict(dataset_train=([], batches(1))), 'The list for the weights has no batches'),
    (dict(dataset_train=(batches(1), DataLoader(dataset(3), 4, drop_last=True))),
     r'The DataLoader \(3 samples, batch_size=4, drop_last=True\) for the logits has no batches.*drop_last=False'),
    (dict(dataset_valid=DataLoader(dataset(3), 4, drop_last=True)), 'The DataLoader .* for the validation has no batches'),
])
def test_what_cannot_run_is_refused_at_construction(arguments, message):
    model = Cells(TWO_NODES)
    with pytest.raises(TrainingError, match=message):
        DartsTrainer(model, nn.CrossEntropyLoss(), accuracy, torch.optim.SGD(model.parameters(), 0.1), 1,
                     **{**dict(dataset_train=dataset(), workers=0), **arguments})


def test_an_optimizer_that_needs_a_closure_is_refused():
    model = Cells(TWO_NODES)
    with pytest.raises(TrainingError, match='LBFGS needs a closure.*SGD or Adam'):
        DartsTrainer(model, nn.CrossEntropyLoss(), accuracy, torch.optim.LBFGS(model.parameters()), 1, dataset(), workers=0)


class Foreign(nn.Module):
    """A mutator of somebody else's, of the model whose edges ours has relaxed."""

    def __init__(self, model):
        super().__init__()
        self.ours = DartsMutator(model).double()

    def reset(self):
        self.ours.reset()

    def export(self):
        return self.ours.sample_final()


@pytest.mark.parametrize('options', [dict(recompute=True), dict(compile=True), dict(methods=[Shrinking({1: 2})]),
                                     dict(methods=[EarlyStopping()]), dict(run_dir='run')], ids=str)
def test_a_mutator_of_somebody_elses_is_refused_what_it_does_not_go_with(options, tmp_path):
    model = write_weights(Cells(TWO_NODES))
    name, = (repr(method) for method in options['methods']) if 'methods' in options else options
    with pytest.raises(TrainingError, match=f'{re.escape(name)}: does not work with a test_trainer.Foreign.*leave out'):
        trainer(model, mutator=Foreign(model), num_epochs=2, **options)
    assert not (tmp_path / 'run').exists()


def test_and_searches_with_all_the_rest(tmp_path):
    for unrolled in (False, 'exact', 'finite_difference'):
        model = write_weights(Cells(TWO_NODES))
        foreign = Foreign(model)
        start = [logits.detach().clone() for logits in foreign.parameters()]
        search = trainer(model, mutator=foreign, num_epochs=2, unrolled=unrolled, methods=[Eigenvalue()], channels_last=True,
                         checkpoint_dir=tmp_path / str(unrolled))
        search.train()
        assert not any(torch.equal(one, other) for one, other in zip(start, foreign.parameters()))
        exported = search.export(str(tmp_path / 'architecture.json'))
        assert json.loads((tmp_path / 'architecture.json').read_text()) == {key: mask.tolist() for key, mask in exported.items()}


def test_what_is_no_mutator_is_refused():
    class Empty(nn.Module):
        def reset(self):
            pass
    with pytest.raises(TrainingError, match='Empty, has no parameters'):
        trainer(mutator=Empty())
    with pytest.raises(TrainingError, match='Linear. Expected an nn.Module with reset'):
        trainer(mutator=nn.Linear(1, 1))


def test_what_nnis_trainer_has_for_its_viewer_says_what_to_use():
    with pytest.raises(TrainingError, match='run_dir=.*nni-darts-ext plot'):
        trainer().enable_visualization()


def test_single_epochs_can_be_called_for():
    search = trainer()
    search.train_one_epoch(0)
    search.validate_one_epoch(0)
    search.train_one_epoch(1)
    assert [sorted(epoch) for epoch in search.history] == [['epoch', 'train', 'valid'], ['epoch', 'train']]


def test_a_stream_without_a_batch_is_reported_by_its_first_epoch():
    search = trainer(data=(DataLoader(Stream(), 4), DataLoader(dataset(), 4)), dataset_valid=dataset())
    with pytest.raises(TrainingError, match='Epoch 0 had no step'):
        search.train()


def test_checkpoints_hold_the_logits():
    search = trainer()
    search.fit()
    saved = search.checkpoint()
    other = trainer()
    other.mutator.load_state_dict(saved['mutator'])
    other.model.load_state_dict(saved['model'])
    assert other.export() == search.export()


def search_of_words(sparse, optimizer, **options):
    model = words.model(sparse)
    search = DartsTrainer(model, nn.functional.cross_entropy, accuracy, optimizer(model.parameters()), 2,
                          tuple(zip(*words.batches(3))), mutator=DartsMutator(model).double(), device='cpu',
                          arc_learning_rate=1e-2, **options)
    search.train()
    return search


@pytest.mark.parametrize('unrolled', [False, 'exact', 'finite_difference'])
@pytest.mark.parametrize('momentum', [0, 0.9])
def test_sparse_gradients_are_gradients(momentum, unrolled, tmp_path):
    if momentum and torch.__version__ < '2':
        pytest.skip('SGD of this PyTorch has no momentum for sparse gradients')

    def searched(sparse):
        found = search_of_words(sparse, lambda weights: torch.optim.SGD(weights, 0.5, momentum=momentum), unrolled=unrolled,
                                grad_clip=0.05, methods=[Eigenvalue()], run_dir=tmp_path / str(sparse))
        weights = [values for name, values in sorted(found.model.state_dict().items()) if 'edge' not in name]
        return found, [*weights, *logits(found)]
    sparse, numbers = searched(True)
    assert sparse.model.embedding.weight.grad.is_sparse
    _, expected = searched(False)
    for one, other in zip(numbers, expected):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-12)
    state = read(tmp_path / 'True' / 'checkpoints' / 'epoch-2.ckpt')['optimizer']['state']
    kept = sparse.optimizer.state_dict()['state']
    for i in kept if momentum else ():
        torch.testing.assert_close(state[i]['momentum_buffer'].to_dense(), kept[i]['momentum_buffer'].to_dense(),
                                   rtol=1e-12, atol=1e-12)  # sums of what is not coalesced, in whichever order


def test_an_optimizer_that_takes_no_sparse_gradients_is_named_with_the_way_out():
    for optimizer in (lambda weights: torch.optim.SGD(weights, 0.5, weight_decay=1e-3), torch.optim.Adam):
        with pytest.raises(TrainingError, match='sparse gradients.*sparse=False.*SparseAdam'):
            search_of_words(True, optimizer)


def test_a_loss_that_reaches_nothing_that_learns_moves_nothing_and_is_reported_once(caplog):
    def state(search):
        return copy.deepcopy(list(search.model.parameters()))
    for unrolled in (False, 'exact', 'finite_difference'):
        caplog.clear()
        frozen = trainer(num_epochs=2, unrolled=unrolled, arc_learning_rate=0.1)
        for parameter in frozen.model.parameters():
            parameter.requires_grad_(False)
        before, start = state(frozen), logits(frozen)
        frozen.train()
        assert_same(state(frozen), before)
        assert not any(torch.equal(one, other) for one, other in zip(logits(frozen), start))
        assert 'any trained parameter' not in caplog.text
    caplog.clear()
    lost = trainer(num_epochs=2, loss=lambda output, labels: nn.functional.cross_entropy(output.detach(), labels))
    before = state(lost)
    lost.train()
    assert_same(state(lost), before)
    warning, = [record.getMessage() for record in caplog.records if 'any trained parameter' in record.getMessage()]
    assert warning.startswith('The training loss in step 0 of epoch 0')


@pytest.mark.parametrize('recompute', [False, True])
@pytest.mark.parametrize('unrolled', [False, 'exact', 'finite_difference'])
def test_under_autocast_a_search_learns_as_it_does_in_32_bits(unrolled, recompute):
    if recompute and unrolled == 'exact' and not hasattr(torch.utils.checkpoint, 'set_checkpoint_early_stop'):
        pytest.skip('This PyTorch recomputes nothing with second derivatives.')

    def losses():
        model, data = repeated_batch.model(), repeated_batch.data()
        torch.manual_seed(0)
        search = DartsTrainer(model, nn.functional.cross_entropy, accuracy, repeated_batch.optimizer(model.parameters()),
                              len(data), tuple([batch] for batch in data[0]), device='cpu', unrolled=unrolled,
                              recompute=recompute, arc_learning_rate=repeated_batch.ARC_RATE, callbacks=[Reading(seen)])
        search.train()
        assert all(logits.dtype == torch.float32 and logits.isfinite().all() for logits in search.mutator.parameters())
        return [epoch['train']['loss'] for epoch in search.history]
    seen = []
    repeated_batch.check(losses)
    assert seen == [torch.float32] * repeated_batch.STEPS + [torch.bfloat16] * repeated_batch.STEPS


class Reading:
    """Computes a gradient of its own after each epoch, in the same context."""

    def __init__(self, seen):
        self.seen = seen

    def build(self, model, mutator, trainer):
        self.model = model

    def on_epoch_begin(self, epoch):
        pass

    def on_epoch_end(self, epoch):
        weight, bias = self.model.classifier.parameters()
        output = self.model.classifier(torch.ones(1, 3))
        torch.testing.assert_close(output[0].float(), weight.sum(1) + bias, rtol=0.02, atol=0.02)
        assert torch.autograd.grad(output.sum(), weight)[0].tolist() == [[1.0] * 3] * 2
        self.seen.append(output.dtype)
