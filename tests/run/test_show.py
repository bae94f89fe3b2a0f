"""The command ``nni-darts-ext show``, run by its executable."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import runs

from nni_darts_ext.run import STATE, Run, storage, text
from nni_darts_ext.run.show import render
from nni_darts_ext.run.writer import Writer


def command(*arguments, status=0):
    ran = subprocess.run([str(Path(sys.executable).with_name('nni-darts-ext')), *map(str, arguments)], stdout=subprocess.PIPE,
                         stderr=subprocess.PIPE, universal_newlines=True, timeout=120)
    assert ran.returncode == status, ran.stderr
    return ran.stdout if status == 0 else ran.stderr


def test_a_run_that_is_done(tmp_path):
    shown = command('show', runs.write(tmp_path / 'run', runs.SPACES['nine edges of six'], 12))
    first, *lines = shown.splitlines()
    assert re.fullmatch(r'.*run: done: 12 of 12 epochs in 0:00:\d\d', first)
    run = Run.read(tmp_path / 'run')
    assert [re.split('  +', line.strip()) for line in lines if line.startswith(('  acc', '  loss'))] == [
        [name, text.number(run.epochs[-1].train[name]), text.number(run.epochs[-1].valid[name])] for name in ('acc', 'loss')]
    assert 'skip_share 0.4583  entropy' in shown and 'cell normal' in shown
    derived = [re.split('  +', line.strip()) for line in lines if line.startswith('  node')]
    assert len(derived) == 6
    assert {row[2] for row in derived} == {run.decision(key) for key in run.space.edges} - {'dropped'}


def test_a_run_that_runs_and_has_no_epoch_yet(tmp_path):
    writer = Writer(tmp_path / 'run', runs.SPACES['no inputs'], num_epochs=10)
    try:
        assert re.fullmatch(r'.*: (running|unknown).*: 0 of 10 epochs.*; last update 0:00:\d\d ago\n',
                            command('show', tmp_path / 'run'))
        for number in range(3):
            writer.epoch(runs.epoch(runs.SPACES['no inputs'], number, seconds=100.0))
        shown = render(Run.read(tmp_path / 'run'))
        assert '3 of 10 epochs, about 0:11:' in shown and 'choices outside cells\n  blocks.0' in shown
    finally:
        writer.end(ValueError('a learning rate that is too high'))
    assert 'failed after 3 of 10 epochs and 0:05:00: ' in render(Run.read(tmp_path / 'run'))
    assert 'ValueError: a learning rate that is too high' in render(Run.read(tmp_path / 'run'))


def test_a_clock_that_is_set_back_and_forth_changes_no_order_and_no_duration(tmp_path, mocker):
    times = ['2026-05-01T12:00:00+00:00', '1970-01-01T00:00:01+00:00', '2099-01-01T00:00:00+00:00', '2098-01-01T00:00:00+00:00']
    mocker.patch('nni_darts_ext.run.writer.now', side_effect=[times[2], times[1]])
    space = runs.SPACES['no inputs']
    with Writer(tmp_path / 'run', space, num_epochs=8) as writer:
        for number, time in enumerate(times):
            writer.epoch(runs.epoch(space, number, seconds=100.0)._replace(time=time))
        run = Run.read(tmp_path / 'run')
        assert [epoch.epoch for epoch in run.epochs] == [0, 1, 2, 3] and run.seconds_left == 400
        assert 'last update 0:00:00 ago' in render(run)
    assert 'done: 4 of 8 epochs in 0:06:40' in render(Run.read(tmp_path / 'run'))


@pytest.mark.skipif(not storage.LOCKS, reason='this system does not tell who holds a lock')
def test_a_run_that_is_dead(tmp_path):
    runs.write(tmp_path / 'run', runs.SPACES['no inputs'], 1)
    state = json.loads((tmp_path / 'run' / STATE).read_text())
    (tmp_path / 'run' / STATE).write_text(json.dumps({**state, 'ended': None}))
    assert 'was killed or crashed after 1 of 1 epochs' in render(Run.read(tmp_path / 'run'))


def test_the_most_probable_architectures(tmp_path):
    space = runs.SPACES['of all sorts']
    shown = command('show', runs.write(tmp_path / 'run', space, 12), '--best', 3)
    run = Run.read(tmp_path / 'run')
    rows = [re.split('  +', line.strip()) for line in shown.split('most probable architectures\n')[1].splitlines()]
    assert rows[0] == ['probability', 'of the first', 'differences']
    first, second, _ = run.ranked(3)
    assert rows[1] == ['1', text.number(first.probability), '1.000', 'as derived']
    (key, (was, becomes)), = second.differences.items()
    assert rows[2] == ['2', text.number(second.probability), f'{second.relative:.3f}',
                       f'{key}: {run.named(key, was)} -> {run.named(key, becomes)}']
    assert 'most probable' not in command('show', tmp_path / 'run')
    for wrong in ('0', 'two'):
        assert f"'{wrong}' is not a number of at least 1" in command('show', tmp_path / 'run', '--best', wrong, status=2)
    writer = Writer(tmp_path / 'live', space, num_epochs=10)
    try:
        assert Run.read(tmp_path / 'live').ranked(3) == [] and command('show', tmp_path / 'live', '--best', 3)
        writer.epoch(runs.epoch(space, 0))
        assert 'as derived' in command('show', tmp_path / 'live', '--best', 3)
    finally:
        writer.end()


@pytest.mark.parametrize('name', runs.SPACES)
def test_the_ranking_begins_with_the_recorded_architecture(name, tmp_path):
    runs.write(tmp_path / 'run', runs.SPACES[name], 3)
    run = Run.read(tmp_path / 'run')
    found = run.ranked(50)
    assert found[0].architecture == run.epochs[-1].architecture and found[0].differences == {}
    assert [one.probability for one in found] == sorted((one.probability for one in found), reverse=True)
    assert len({str(one.architecture) for one in found}) == len(found) > 1


def test_what_is_no_run_is_refused(tmp_path):
    assert command('show', tmp_path, status=1) == (
        f'nni-darts-ext: {tmp_path} is not the run of a search: it has no config.json. Pass the run_dir of DartsTrainer or of '
        'the strategy.\n')
    assert 'the following arguments are required: RUN' in command('show', status=2)
    assert 'nni-darts-ext show runs/first' in command('show', '--help')


def test_showing_needs_neither_torch_nor_matplotlib(tmp_path):
    runs.write(tmp_path / 'run', runs.SPACES['no inputs'], 1)
    code = ('import sys; sys.modules.update(dict.fromkeys(["torch", "nni", "matplotlib", "networkx"]));'
            'from nni_darts_ext.cli import main; sys.exit(main(["show", "run", "--best", "2"]))')
    subprocess.run([sys.executable, '-c', code], cwd=str(tmp_path), check=True, stdout=subprocess.PIPE)
