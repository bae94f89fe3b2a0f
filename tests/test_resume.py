"""Searches of DartsTrainer that end early and are started again, on whatever NNI is installed."""

import json
import os
import random
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch
from resumed import Counting, Interrupted, Net
from spaces import TWO_NODES, Cells
from torch import nn
from torch.optim import lr_scheduler as rates
from torch.optim.swa_utils import SWALR
from torch.utils.data import DataLoader, Dataset, TensorDataset

import nni_darts_ext.nn as dnn
from nni_darts_ext import CheckpointError, DartsTrainer
from nni_darts_ext.core import files
from nni_darts_ext.core.random_states import random_states, set_random_states
from nni_darts_ext.loop.checkpoint import Checkpoints, read, write
from nni_darts_ext.run import DONE, Run

TESTS = Path(__file__).parent


@pytest.mark.parametrize('kills', [5, pytest.param(100, marks=pytest.mark.slow)])
def test_a_search_that_is_killed_again_and_again_ends_as_one_that_ran_through(kills, tmp_path):
    script = [sys.executable, '-W', 'ignore', str(TESTS / 'killed.py'), str(tmp_path), str(kills)]
    paths = os.pathsep.join([str(TESTS), str(TESTS.parent), os.environ.get('PYTHONPATH', '')])
    ended = subprocess.run(script, env={**os.environ, 'PYTHONPATH': paths}, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                           universal_newlines=True)
    assert ended.returncode == 0, ended.stderr
    report = json.loads(ended.stdout.splitlines()[-1])
    assert report['differences'] == []
    assert report['kills'] == kills and report['searches'] > 0
    assert report['while_writing'] or kills < 100


class Noisy(Dataset):
    """Draws from the random states of Python and PyTorch."""

    def __init__(self, n=16):
        self.x, self.y = torch.randn(n, 3), torch.randint(2, (n,))

    def __len__(self):
        return len(self.x)

    def __getitem__(self, i):
        return self.x[i] + torch.randn(3) * random.random(), self.y[i]


class Callback:
    """As people write them: one attribute has a state, and in one epoch the power fails."""

    def __init__(self, fails=None):
        self.fails = fails

    def build(self, model, mutator, trainer):
        self.model, self.mutator, self.trainer = model, mutator, trainer  # as NNI's do
        self.scheduler = torch.optim.lr_scheduler.ExponentialLR(trainer.optimizer, 0.5)

    def on_epoch_begin(self, epoch):
        if epoch == 1:
            self.mutator.cut('b', 'skip')

    def on_epoch_end(self, epoch):
        self.scheduler.step()
        if epoch == self.fails:
            raise Interrupted


def trainer(folder, seed=0, fails=None, last=None, data=lambda: TensorDataset(torch.randn(16, 3), torch.randint(2, (16,))),
            model=Net, epochs=4, loss=nn.functional.cross_entropy, of_loss=(),
            metrics=lambda output, labels: {'chance': random.random()}, **options):
    torch.manual_seed(seed)
    random.seed(seed)
    model = model()
    made = DartsTrainer(model, loss, metrics, torch.optim.SGD([*model.parameters(), *of_loss], 0.1, momentum=0.9), epochs, data(),
                        **{**dict(batch_size=4, workers=0, device='cpu', callbacks=[Callback(fails)], checkpoint_dir=folder,
                                  methods=[Counting(last)]), **options})
    return made


def outcome(search):
    return (search.export(), {key: logits.tolist() for key, logits in search.mutator.choices.items()}, search.history,
            {name: value.tolist() for name, value in search.model.state_dict().items()}, search.mutator.choices.cuts('b'),
            search.optimizer.param_groups[0]['lr'],
            next(one.losses for one in search.steps.methods if isinstance(one, Counting)), search.stopped, random.random())


def loaders():
    """With generators of their own."""
    data = TensorDataset(torch.randn(16, 3), torch.randint(2, (16,)))
    return tuple(DataLoader(data, 4, shuffle=True, generator=torch.Generator().manual_seed(seed)) for seed in (1, 2))


@pytest.mark.parametrize('options', [
    dict(), dict(unrolled=True), dict(data=loaders), dict(data=lambda: (Noisy(8), Noisy(4)), workers=1),
    dict(dataset_valid=Noisy(8))],
    ids=['plain', 'second order', 'own generators', 'workers', 'held-out data'])
@pytest.mark.parametrize('fails', [1, 3])
def test_an_interrupted_search_ends_as_one_that_ran_through(options, fails, tmp_path):
    through = trainer(None, **options)
    through.train()
    expected = outcome(through)
    with pytest.raises(Interrupted):
        trainer(tmp_path, fails=fails, **options).train()
    again = trainer(tmp_path, **options)
    random.seed(100)
    torch.rand(100)
    again.train()
    assert outcome(again) == expected
    assert expected[4] == (1,) and expected[5] == pytest.approx(0.1 / 16)


def test_a_callback_with_a_state_of_its_own_goes_on_with_it(tmp_path):
    class Counter:
        def __init__(self):
            self.count = 0

        def build(self, model, mutator, trainer):
            pass

        def on_epoch_begin(self, epoch):
            self.count += 1

        def on_epoch_end(self, epoch):
            pass

        def state_dict(self):
            return {'count': self.count}

        def load_state_dict(self, state):
            self.count = state['count']
    trainer(tmp_path, epochs=3, callbacks=[Counter(), Callback()]).train()
    counter = Counter()
    trainer(tmp_path, epochs=5, callbacks=[counter, Callback()]).train()
    assert counter.count == 5


class Centred(nn.Module):
    """The cross entropy of outputs from which a running mean is taken, at a temperature that is learned."""

    def __init__(self, size=2):
        super().__init__()
        self.temperature = nn.Parameter(torch.ones(()))
        self.register_buffer('mean', torch.zeros(size))

    def forward(self, output, labels):
        with torch.no_grad():
            self.mean += 0.1 * (output.mean(0) - self.mean)
        return nn.functional.cross_entropy((output - self.mean) * self.temperature, labels)


def with_centred(folder, size=2, attribute=False, **options):
    loss = held = Centred(size)
    if attribute:
        def loss(output, labels):
            return held(output, labels)
        loss.held = held
    return trainer(folder, loss=loss, of_loss=held.parameters(), **options), held


@pytest.mark.parametrize('attribute', [False, True])
@pytest.mark.parametrize('unrolled', [False, 'exact'])
def test_a_loss_with_a_state_goes_on_with_it(unrolled, attribute, tmp_path):
    def ended(folder, **options):
        search, loss = with_centred(folder, attribute=attribute, unrolled=unrolled, **options)
        search.train()
        return outcome(search), {name: value.tolist() for name, value in loss.state_dict().items()}
    through = ended(None)
    with pytest.raises(Interrupted):
        ended(tmp_path, fails=2)
    assert ended(tmp_path) == through
    assert through[1]['temperature'] != 1 and through[1]['mean'] != [0, 0]


def test_a_checkpoint_of_another_loss_is_refused_and_one_without_is_gone_on_from(tmp_path, caplog):
    with_centred(tmp_path / 'with', epochs=1)[0].train()
    with pytest.raises(CheckpointError, match=r'mean was a torch.float32 of shape \(2,\) and is .*\(1,\)'):
        with_centred(tmp_path / 'with', size=1)[0].train()
    with pytest.raises(CheckpointError, match=r"what of loss and metrics has a state was \['loss'\] and is \[\]"):
        trainer(tmp_path / 'with').train()
    with_centred(tmp_path / 'old', epochs=1)[0].train()
    state = read(tmp_path / 'old' / 'epoch-1.ckpt')
    del state['loss'], state['settings']['what of loss and metrics has a state']  # as the first ones were written
    Checkpoints(tmp_path / 'old').save(1, state)
    again, _ = with_centred(tmp_path / 'old')
    again.train()
    assert len(again.history) == 4
    assert 'does not contain the state of loss, which keeps its current state' in caplog.text


def test_metrics_with_a_state_go_on_with_it(tmp_path):
    class Counted(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer('calls', torch.zeros((), dtype=torch.long))

        def forward(self, output, labels):
            self.calls += 1
            return {'calls': float(self.calls)}

    def history(folder, epochs):
        search = trainer(folder, epochs=epochs, metrics=Counted())
        search.train()
        return search.history
    through = history(None, 4)
    history(tmp_path, 2)
    assert history(tmp_path, 4) == through


def test_more_epochs_go_on_from_where_a_search_ended(tmp_path):
    through = trainer(None, epochs=5)
    through.train()
    expected = outcome(through)
    trainer(tmp_path, epochs=2).train()
    longer = trainer(tmp_path, epochs=5)
    longer.train()
    assert outcome(longer) == expected


class Scheduled:
    """Steps a schedule of the rate that is made for the epochs of the search."""

    def __init__(self, make, fails=None):
        self.make, self.fails, self.rates = make, fails, []

    def build(self, model, mutator, trainer):
        self.trainer = trainer
        self.scheduler = self.make(trainer.optimizer, trainer.num_epochs)

    def on_epoch_begin(self, epoch):
        self.rates.append(self.trainer.optimizer.param_groups[0]['lr'])

    def on_epoch_end(self, epoch):
        self.scheduler.step()
        if epoch == self.fails:
            raise Interrupted


SCHEDULES = {
    'T_max': rates.CosineAnnealingLR,
    'total_steps': lambda optimizer, epochs: rates.OneCycleLR(optimizer, 0.1, total_steps=epochs + 1),
    'step_size': lambda optimizer, epochs: rates.StepLR(optimizer, epochs // 2),
    'milestones': lambda optimizer, epochs: rates.MultiStepLR(optimizer, [epochs // 2, epochs]),
    '_milestones': lambda optimizer, epochs: rates.SequentialLR(
        optimizer, [rates.LinearLR(optimizer, total_iters=2), rates.CosineAnnealingLR(optimizer, 20)], [epochs]),
    'total_iters': lambda optimizer, epochs: rates.ChainedScheduler(
        [rates.ExponentialLR(optimizer, 0.9), rates.LinearLR(optimizer, total_iters=epochs)]),
    'anneal_epochs': lambda optimizer, epochs: SWALR(optimizer, 0.01, epochs),
    'total_size': lambda optimizer, epochs: rates.CyclicLR(optimizer, 0.01, 0.1, epochs),
}


@pytest.mark.parametrize('length', SCHEDULES)
def test_a_schedule_goes_on_and_one_that_was_made_for_other_epochs_is_refused(length, tmp_path):
    def rates_of(folder, epochs=4, fails=None):
        callback = Scheduled(SCHEDULES[length], fails)
        trainer(folder, epochs=epochs, callbacks=[callback]).train()
        return callback.rates
    through = rates_of(None)
    with pytest.raises(Interrupted):
        rates_of(tmp_path, fails=2)
    assert rates_of(tmp_path) == through[2:]
    with pytest.raises(CheckpointError, match=f'another schedule: {length} of callbacks.0..scheduler was .* and is .*Build it'):
        rates_of(tmp_path, epochs=6)


def test_a_trainer_that_gets_more_epochs_goes_on(tmp_path):
    through = trainer(None, epochs=4)
    through.train()
    expected = outcome(through)
    for options in (dict(checkpoint_dir=None), dict(), dict(run_dir=tmp_path / 'run', checkpoint_dir=None)):
        search = trainer(tmp_path / 'checkpoints', epochs=2, **options)
        search.train()
        search.num_epochs += 2
        search.train()
        assert outcome(search) == expected
    run = Run.read(tmp_path / 'run')
    assert [epoch.epoch for epoch in run.epochs] == [0, 1, 2, 3] and run.num_epochs == 4 and run.state.status == DONE


def test_what_is_changed_between_two_calls_of_train_stays_changed(tmp_path):
    search = trainer(tmp_path, epochs=2)
    search.train()
    search.mutator.cut('a', 'skip')
    search.num_epochs += 1
    search.train()
    assert search.mutator.choices.cuts('a') == (1,) and len(search.history) == 3


@pytest.mark.parametrize('with_checkpoints', [False, True])
def test_after_an_error_a_trainer_goes_on_with_the_epoch_that_failed(with_checkpoints, tmp_path):
    search = trainer(tmp_path if with_checkpoints else None, fails=2)
    with pytest.raises(Interrupted):
        search.train()
    search.callbacks[0].fails = None
    search.train()
    found = outcome(search)
    assert [epoch['epoch'] for epoch in search.history] == [0, 1, 2, 3]
    if with_checkpoints:
        through = trainer(None)
        through.train()
        assert found == outcome(through)


def test_a_search_that_is_complete_is_only_read(tmp_path, caplog):
    first = trainer(tmp_path)
    first.train()
    expected = outcome(first)
    files = {file: file.stat().st_mtime_ns for file in tmp_path.iterdir()}
    again = trainer(tmp_path)
    again.train()
    assert outcome(again) == expected
    assert files == {file: file.stat().st_mtime_ns for file in tmp_path.iterdir()}
    warning, = [record for record in caplog.records if record.levelname == 'WARNING' and 'epochs are done' in record.message]
    assert '4 of 4 epochs are done' in warning.message and 'epoch-4.ckpt' in warning.message


def test_a_search_that_was_ended_stays_ended(tmp_path):
    first = trainer(tmp_path, last=2)
    first.train()
    assert first.stopped == '2 are enough' and len(first.history) == 2
    again = trainer(tmp_path)
    again.train()
    assert again.stopped == '2 are enough' and again.history == first.history


def test_the_last_two_checkpoints_stay_and_nothing_half_written(tmp_path):
    (tmp_path / '.epoch-1.ckpt.123.tmp').write_bytes(b'half')  # of a process that was killed
    (tmp_path / 'notes.txt').write_text('mine')
    trainer(tmp_path).train()
    assert sorted(file.name for file in tmp_path.iterdir()) == ['epoch-3.ckpt', 'epoch-4.ckpt', 'notes.txt']


def damage(file, how):
    content = bytearray(file.read_bytes())
    if how == 'a bit':
        content[len(content) // 2] ^= 1
    file.write_bytes({'a bit': content, 'truncated': content[:-100], 'empty': b'', 'foreign': b'PK? no, text'}[how])


@pytest.mark.parametrize('how', ['a bit', 'truncated', 'empty', 'foreign'])
def test_a_damaged_checkpoint_is_named_and_the_one_before_it_used(how, tmp_path, caplog):
    search = trainer(tmp_path)
    search.train()
    expected = outcome(search)
    damage(tmp_path / 'epoch-4.ckpt', how)
    again = trainer(tmp_path)
    with caplog.at_level('INFO', 'nni_darts_ext'):
        again.train()
    assert outcome(again) == expected
    error, = [record for record in caplog.records if record.levelname == 'ERROR']
    assert 'epoch-4.ckpt' in error.message and 'cannot be read' in error.message
    assert 'epoch-3.ckpt: 3 of 4' in caplog.text


def test_a_search_never_starts_anew_silently(tmp_path):
    trainer(tmp_path).train()
    for file in tmp_path.iterdir():
        damage(file, 'a bit')
    with pytest.raises(CheckpointError, match='any checkpoint in.*epoch-4.ckpt.*epoch-3.ckpt.*pass an empty folder'):
        trainer(tmp_path).train()


OTHERS = {
    'a candidate': (dict(model=lambda: Net(candidates=3)), r"LayerChoice 'b' was \['norm', 'skip', 'more0'\] and is \['norm', "),
    'a space': (dict(model=lambda: Cells(TWO_NODES), callbacks=[]), "the keys of the choices was .'a', 'b', 'pick'"),
    'a width': (dict(model=lambda: Net(width=5)), r'classifier.weight was a torch.float32 of shape \(2, 3\) and is .*\(2, 5\)'),
    'a dtype': (dict(model=lambda: Net().double()), r'classifier.weight was a torch.float32 .* and is a torch.float64'),
    'the data': (dict(data=lambda: TensorDataset(torch.randn(20, 3), torch.randint(2, (20,)))),
                 "the training data was 'TensorDataset of 16 in 2 batches' and is 'TensorDataset of 20 in 3 batches'"),
    'the split': (dict(split=0.7), 'split was 0.5 and is 0.7'),
    'the rate': (dict(learning_rate=0.2), 'lr of group 0 of the optimizer was 0.1 and is 0.2'),
    'the rate of the logits': (dict(arc_learning_rate=0.1), 'arc_learning_rate was 0.0003 and is 0.1'),
    'the order': (dict(unrolled=True), 'unrolled was False and is True'),
    'the seed': (dict(seed=7), 'seed was 0 and is 7'),
    'a callback': (dict(callbacks=[]), "what has a state was .*callbacks"),
}


@pytest.mark.parametrize('other', OTHERS)
def test_a_checkpoint_of_another_search_is_refused_and_what_differs_is_named(other, tmp_path):
    trainer(tmp_path, epochs=1).train()
    options, message = OTHERS[other]
    with pytest.raises(CheckpointError, match=f'to another search: .*{message}'):
        trainer(tmp_path, **options).train()


class Named(Net):
    """Whose InputChoice names its sources."""

    def __init__(self, *sources):
        super().__init__()
        self.pick = dnn.InputChoice(choose_from=list(sources), n_chosen=1, key='pick')


def test_sources_that_the_model_names_must_stay_and_those_that_were_found_may_be_put_right(tmp_path):
    trainer(tmp_path / 'named', epochs=1, model=lambda: Named('b', 'a')).train()
    message = r"choose_from of InputChoice 'pick' was \['b', 'a'\] and is \['a', 'b'\]"
    with pytest.raises(CheckpointError, match=f'to another search: .*{message}'):
        trainer(tmp_path / 'named', model=lambda: Named('a', 'b')).train()
    trainer(tmp_path / 'named', epochs=2, model=lambda: Named('b', 'a')).train()
    trainer(tmp_path / 'found', epochs=1).train()
    again = trainer(tmp_path / 'found', epochs=2, model=lambda: Named('b', ''))
    again.train()
    assert again.mutator.choose_from == {'pick': ('b', '')}


def test_what_no_checkpoint_can_hold_is_refused_at_construction(tmp_path):
    class Odd(Callback):
        def state_dict(self):
            return {'best': [1, object()]}

        def load_state_dict(self, state):
            pass
    with pytest.raises(CheckpointError, match=r"state\['callbacks\[0\]'\]\['best'\]\[1\] is a object.*plain values and tensors"):
        trainer(tmp_path, callbacks=[Odd()])
    (tmp_path / 'file').write_text('')
    with pytest.raises(CheckpointError, match='for checkpoints cannot be written.*another checkpoint_dir'):
        trainer(tmp_path / 'file')


def test_a_checkpoint_is_written_at_any_time(tmp_path, mocker):
    mocker.patch('time.time', return_value=0)  # on a machine without a clock, and before a zip can tell
    write(tmp_path / 'file', {'a': torch.ones(2)})
    assert read(tmp_path / 'file')['a'].tolist() == [1, 1]


@pytest.mark.skipif(os.name == 'nt', reason='there is no limit of the size of files there')
def test_a_full_disk_stops_the_search_with_the_last_checkpoint_whole(tmp_path, mocker):
    from disks import full
    mocker.patch.object(files, 'DISK_PATIENCE', 0.1)
    save = Checkpoints.save

    def on_a_full_disk(self, epochs, state):
        with full() if epochs == 2 else nullcontext():
            save(self, epochs, state)
    mocker.patch.object(Checkpoints, 'save', on_a_full_disk)
    with pytest.raises(CheckpointError, match=r'epoch-2.ckpt.*File too large.*Free some space.*it resumes from epoch-1.ckpt'):
        trainer(tmp_path).train()
    assert [file.name for file in tmp_path.iterdir()] == ['epoch-1.ckpt']
    mocker.stopall()
    outcomes = []
    for folder in (tmp_path, None):
        search = trainer(folder)
        search.train()
        outcomes.append(outcome(search))
    assert outcomes[0] == outcomes[1]


WRITTEN = [TESTS / 'data' / 'nni2.0.ckpt', TESTS / 'data' / 'nni2.10.1.ckpt']
"""Two epochs of :func:`portable`, written with these, Python 3.8 and PyTorch 1.12.1: ``python test_resume.py FILE``."""


def portable(folder, epochs):
    torch.manual_seed(0)
    model = Cells([((3,), 1, 'sum')], named=True)
    search = DartsTrainer(model, nn.functional.cross_entropy, lambda output, labels: {}, torch.optim.Adam(model.parameters()),
                          epochs, TensorDataset(torch.randn(16, 3), torch.arange(16) % 2), batch_size=4, workers=0, device='cpu',
                          arc_learning_rate=0.1, checkpoint_dir=folder)
    search.train()
    return search


@pytest.mark.parametrize('written', WRITTEN, ids=lambda file: file.stem)
def test_a_checkpoint_of_another_nni_is_gone_on_from(written, tmp_path):
    state = read(written)
    Checkpoints(tmp_path).save(2, state)
    search = portable(tmp_path, 3)
    assert search.history[:2] == state['history'] and len(search.history) == 3
    through = portable(None, 3)
    for ours, theirs in zip([*search.model.state_dict().values(), *search.mutator.choices.values()],
                            [*through.model.state_dict().values(), *through.mutator.choices.values()]):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


if __name__ == '__main__':
    Checkpoints('.').save(2, portable(None, 2).checkpoint())
    os.replace('epoch-2.ckpt', sys.argv[1])


@pytest.mark.parametrize('damage', [lambda state: state[:4], lambda state: [*state, 0],
                                    lambda state: [*state[:2], 10 ** 5, *state[3:]]])
def test_a_damaged_random_state_of_numpy_is_refused_before_numpy_reads_beyond_it(damage):
    states = random_states()
    with pytest.raises(CheckpointError, match='state of NumPy is damaged'):
        set_random_states({**states, 'numpy': damage(list(states['numpy']))})
