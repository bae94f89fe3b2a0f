"""The folder of a run: what is written can be read, even if the writer is killed or another process writes."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import runs
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nni_darts_ext.errors import RunError
from nni_darts_ext.run import CONFIG, EPOCHS, SCHEMA, STATE, Epoch, InputRecord, Run, SpaceRecord, now, storage
from nni_darts_ext.run.show import render
from nni_darts_ext.run.writer import Writer

SPACE = runs.SPACES['of all sorts']
TESTS = Path(runs.__file__).parent
IN_ONE_FOLDER = settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))


@pytest.fixture(scope='module')
def sound(tmp_path_factory):
    return runs.write(tmp_path_factory.mktemp('sound') / 'run', SPACE, 2)


def numbers(run):
    return [epoch.epoch for epoch in run.epochs]


def test_what_was_written_is_read_again(tmp_path):
    written = [runs.epoch(SPACE, number) for number in range(3)]
    with Writer(tmp_path / 'a' / 'run', SPACE, {'lr': 0.05, 'device': Path('cuda')}, 3, {'nni': '3.0'}) as writer:
        for epoch in written:
            writer.epoch(epoch, {'stem': 'conv_3x3'})
    run = Run.read(tmp_path / 'a' / 'run')
    assert run.epochs == written and run.space == SPACE and run.num_epochs == 3 and run.versions == {'nni': '3.0'}
    assert run.settings == {'lr': 0.05, 'device': 'cuda'}
    assert (run.name, run.state.status, run.state.error, run.state.pid) == ('run', 'done', None, os.getpid())
    assert json.loads((tmp_path / 'a' / 'run' / 'architecture.json').read_text()) == {'stem': 'conv_3x3'}
    assert {file.name for file in (tmp_path / 'a' / 'run').iterdir()} == {CONFIG, EPOCHS, STATE, 'architecture.json'}


WORDS = st.text(max_size=8)


@st.composite
def spaces(draw):
    names = st.lists(WORDS | st.integers(0, 9), min_size=1, max_size=4).map(tuple)
    edges = draw(st.dictionaries(WORDS, names, min_size=1, max_size=4))
    sources = st.lists(st.sampled_from(['', *edges]), min_size=1, max_size=3).map(tuple)
    inputs = draw(st.dictionaries(WORDS.filter(lambda key: key not in edges),
                                  st.builds(InputRecord, sources, st.none() | st.just(1)), max_size=2))
    return SpaceRecord(edges, inputs)


@given(spaces(), st.dictionaries(WORDS, st.floats()))
@IN_ONE_FOLDER
def test_any_space_and_any_numbers_can_be_written(tmp_path, space, metrics):
    shutil.rmtree(str(tmp_path))
    epoch = runs.epoch(space, 0)._replace(valid=metrics)
    with Writer(tmp_path, space) as writer:
        writer.epoch(epoch)
    run = Run.read(tmp_path)
    assert run.space == space and repr(run.epochs) == repr([epoch])


@given(st.lists(st.integers(0, 3), min_size=2, max_size=6), st.integers(0, 5))
@IN_ONE_FOLDER
def test_an_epoch_that_is_repeated_takes_back_what_came_after_it(tmp_path, order, resumed_after):
    shutil.rmtree(str(tmp_path))
    for part in (order[:resumed_after], order[resumed_after:]):
        with Writer(tmp_path, SPACE, resume=True) as writer:
            for i, number in enumerate(part):
                writer.epoch(runs.epoch(SPACE, number, seconds=float(i)))
    run = Run.read(tmp_path)
    assert numbers(run) == sorted(set(numbers(run)))
    assert numbers(run) == [number for i, number in enumerate(order) if all(number < after for after in order[i + 1:])]
    assert len(run.state.resumed) == 1


@given(st.floats(0, 1))
@IN_ONE_FOLDER
def test_a_line_that_a_kill_has_torn_is_no_error_and_no_epoch_and_is_taken_away_by_the_next_writer(sound, tmp_path, share):
    shutil.rmtree(str(tmp_path))
    shutil.copytree(str(sound), str(tmp_path))
    whole = (tmp_path / EPOCHS).read_bytes()
    torn = whole[:int(share * len(whole))]
    (tmp_path / EPOCHS).write_bytes(torn)
    assert numbers(Run.read(tmp_path)) == list(range(torn.count(b'\n')))
    with Writer(tmp_path, SPACE, resume=True) as writer:
        writer.epoch(runs.epoch(SPACE, torn.count(b'\n')))
    assert numbers(Run.read(tmp_path)) == list(range(torn.count(b'\n') + 1))
    assert len((tmp_path / EPOCHS).read_bytes().splitlines()) == torn.count(b'\n') + 1


JSON = st.recursive(st.none() | st.booleans() | st.integers(-1, 3) | st.floats(allow_nan=False, allow_infinity=False)
                    | st.text(max_size=3) | st.sampled_from([now(), 'NaN', 10 ** 12, 10 ** 60]),
                    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(WORDS, inner, max_size=2), max_leaves=3)


def places(value, path=()):
    """Every place in a JSON value."""
    yield path
    for key, inner in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else []:
        yield from places(inner, (*path, key))


def replaced(value, path, by):
    if not path:
        return by
    changed = dict(value) if isinstance(value, dict) else list(value)
    changed[path[0]] = replaced(value[path[0]], path[1:], by)
    return changed


@pytest.mark.parametrize('choice', ['', {}, None, 0, '01'])
def test_what_an_epoch_chooses_is_a_list(sound, tmp_path, choice):
    folder = tmp_path / 'run'
    shutil.copytree(str(sound), str(folder))
    lines = (folder / EPOCHS).read_text().splitlines()
    epoch = json.loads(lines[-1])
    key = next(iter(epoch['architecture']))
    lines[-1] = json.dumps(replaced(epoch, ('architecture', key), choice))
    (folder / EPOCHS).write_text('\n'.join(lines) + '\n')
    with pytest.raises(RunError, match=f'{EPOCHS} is broken'):
        Run.read(folder)


@pytest.mark.parametrize('file', [CONFIG, EPOCHS, STATE])
@given(data=st.data())
@settings(IN_ONE_FOLDER, max_examples=80)
def test_whatever_stands_in_a_file_it_is_read_or_refused(sound, tmp_path, file, data):
    shutil.rmtree(str(tmp_path))
    shutil.copytree(str(sound), str(tmp_path))
    text = (sound / file).read_text()
    lines = text.splitlines() if file == EPOCHS else [text]
    which = data.draw(st.integers(0, len(lines) - 1))
    value = json.loads(lines[which])
    lines[which] = json.dumps(replaced(value, data.draw(st.sampled_from(list(places(value)))), data.draw(JSON)))
    (tmp_path / file).write_text('\n'.join(lines) + '\n')
    try:
        run = Run.read(tmp_path)
    except RunError as error:
        assert any(name in str(error) for name in (CONFIG, EPOCHS, STATE, 'schema'))
    else:
        assert render(run)


@pytest.mark.parametrize('content', [b'', b'{', b'[]', b'null', b'\xff\xfe', b'[' * 10 ** 5,
                                     b'{"a": NaN}', b'{"a": 1, "a": 1}'])
@pytest.mark.parametrize('file', [CONFIG, STATE, EPOCHS])
def test_a_broken_file_is_named(tmp_path, file, content):
    runs.write(tmp_path, SPACE, 2)
    (tmp_path / file).write_bytes(content + b'\n')
    with pytest.raises(RunError, match=file + (' is broken in line 1' if file == EPOCHS else '')):
        Run.read(tmp_path)


@pytest.mark.parametrize('file', [STATE, EPOCHS])
def test_a_missing_file_is_named(tmp_path, file):
    runs.write(tmp_path, SPACE, 2)
    (tmp_path / file).unlink()
    with pytest.raises(RunError, match=f'{file} is broken.*No such file') as raised:
        Run.read(tmp_path)
    assert str(raised.value).count('is broken') == 1


def test_foreign_folders_and_other_schemas_are_refused(tmp_path):
    with pytest.raises(RunError, match='nowhere is not the run of a search: there is no such folder'):
        Run.read(tmp_path / 'nowhere')
    with pytest.raises(RunError, match='has no config.json.*run_dir'):
        Run.read(tmp_path)
    (tmp_path / CONFIG).write_text('{"model_type": "bert"}')
    with pytest.raises(RunError, match='config.json belongs to something else'):
        Run.read(tmp_path)
    runs.write(tmp_path / 'run', SPACE, 1)
    config = json.loads((tmp_path / 'run' / CONFIG).read_text())
    (tmp_path / 'run' / CONFIG).write_text(json.dumps({**config, 'schema': SCHEMA + 1}))
    with pytest.raises(RunError, match=f'schema {SCHEMA + 1}; this version of nni_darts_ext reads {SCHEMA}'):
        Run.read(tmp_path / 'run')


def test_a_run_is_not_overwritten_and_goes_on_only_with_its_own_space(tmp_path):
    runs.write(tmp_path, SPACE, 2)
    with pytest.raises(RunError, match=r'already holds a run of 2 epochs \(done\)'):
        Writer(tmp_path, SPACE)
    other = SPACE._replace(edges={**SPACE.edges, 'a': ('linear', 'skip', 'tanh')})
    with pytest.raises(RunError, match=r"searches another space: \['a'\] differ"):
        Writer(tmp_path, other, resume=True)
    assert Run.read(tmp_path).state.status == 'done'
    (tmp_path / CONFIG).unlink()
    with pytest.raises(RunError, match=r'has an epochs\.jsonl without a config\.json'):
        Writer(tmp_path, SPACE)


def test_so_it_does_where_the_same_inputs_come_from_elsewhere(tmp_path):
    runs.write(tmp_path, SPACE, 1)
    named = SPACE.inputs['inputs'].choose_from
    other = SPACE._replace(inputs={**SPACE.inputs, 'inputs': InputRecord((named[1], named[0], named[2]), 1)})
    with pytest.raises(RunError, match=r"searches another space: \['inputs'\] differ"):
        Writer(tmp_path, other, resume=True)
    with pytest.raises(RunError, match=r"searches another space: \['inputs'\] differ"):
        Writer(tmp_path, SPACE._replace(inputs={**SPACE.inputs, 'inputs': InputRecord(('', ''), 1)}), resume=True)


def test_sources_become_known_and_stay_so(tmp_path):
    unknown = SPACE._replace(inputs={**SPACE.inputs, 'inputs': InputRecord(('', '', ''), 1)})
    with Writer(tmp_path, unknown) as writer:
        writer.update_space(SPACE)
        writer.epoch(runs.epoch(SPACE, 0))
    Writer(tmp_path, unknown, resume=True).end()
    assert Run.read(tmp_path).space == SPACE


def test_how_a_run_ended_can_be_seen(tmp_path):
    writer = Writer(tmp_path, SPACE)
    assert Run.read(tmp_path).state.status == 'running' and Run.read(tmp_path).epochs == []
    writer.end()
    assert Run.read(tmp_path).state.status == 'done'
    with pytest.raises(KeyboardInterrupt), Writer(tmp_path, SPACE, resume=True):
        raise KeyboardInterrupt
    state = Run.read(tmp_path).state
    assert (state.status, state.error) == ('failed', 'KeyboardInterrupt')
    with pytest.raises(ZeroDivisionError), Writer(tmp_path, SPACE, resume=True) as again:
        1 / 0  # noqa: B018
    again.end()  # a second end has no effect
    assert Run.read(tmp_path).state.error == 'ZeroDivisionError: division by zero'


WRITES = '''
import sys, time, runs
from nni_darts_ext.run.show import render
from nni_darts_ext.run.writer import Writer
writer = Writer(sys.argv[1], runs.SPACES['of all sorts'], num_epochs=9, resume=True)
writer.epoch(runs.epoch(runs.SPACES['of all sorts'], 0))
print('written', flush=True)
time.sleep(60)
'''


@pytest.mark.skipif(not storage.LOCKS, reason='this system does not tell who holds a lock')
def test_a_killed_run_is_dead_and_a_running_one_has_one_writer(tmp_path, monkeypatch):
    monkeypatch.setattr(storage.files, 'PATIENCE', 0.1)
    process = subprocess.Popen([sys.executable, '-c', WRITES, str(tmp_path)], stdout=subprocess.PIPE, universal_newlines=True,
                               env={**os.environ, 'PYTHONPATH': os.pathsep.join([str(TESTS), *sys.path])})
    try:
        assert process.stdout.readline() == 'written\n'
        run = Run.read(tmp_path)
        assert (run.state.status, run.state.pid, numbers(run)) == ('running', process.pid, [0])
        with pytest.raises(RunError, match='Another process is writing'):
            Writer(tmp_path, SPACE, resume=True)
    finally:
        process.send_signal(signal.SIGKILL)
        process.communicate()
    assert Run.read(tmp_path).state.status == 'dead'
    with Writer(tmp_path, SPACE, resume=True) as writer:
        writer.epoch(runs.epoch(SPACE, 1))
        assert Run.read(tmp_path).state.status == 'running'
    assert numbers(Run.read(tmp_path)) == [0, 1]
    state = json.loads((tmp_path / STATE).read_text())
    (tmp_path / STATE).write_text(json.dumps({**state, 'ended': None, 'host': 'elsewhere'}))
    assert Run.read(tmp_path).state.status == 'unknown'


FORKS = WRITES.replace('time.sleep(60)', """
import os
os.write(1, b'%d\\n' % os.fork())  # in one write, because both processes write
time.sleep(60)
""")


@pytest.mark.skipif(not storage.LOCKS, reason='this system does not tell who holds a lock')
def test_a_killed_run_is_dead_although_a_worker_of_it_lives_on(tmp_path, monkeypatch):
    monkeypatch.setattr(storage.files, 'PATIENCE', 0.1)
    process = subprocess.Popen([sys.executable, '-c', FORKS, str(tmp_path)], stdout=subprocess.PIPE, universal_newlines=True,
                               env={**os.environ, 'PYTHONPATH': os.pathsep.join([str(TESTS), *sys.path])})
    assert process.stdout.readline() == 'written\n'
    worker = max(int(process.stdout.readline()) for _ in range(2))
    try:
        assert Run.read(tmp_path).state.status == 'running'
        process.kill()
        process.wait()
        os.kill(worker, 0)  # raises unless the process exists
        assert Run.read(tmp_path).state.status == 'dead'
        Writer(tmp_path, SPACE, resume=True).end()
    finally:
        os.kill(worker, signal.SIGKILL)
        process.stdout.close()


def test_who_would_write_over_a_dead_run_does_not_take_itself_for_its_writer(tmp_path):
    runs.write(tmp_path, SPACE, 2)
    state = json.loads((tmp_path / STATE).read_text())
    (tmp_path / STATE).write_text(json.dumps({**state, 'ended': None}))
    with pytest.raises(RunError, match=r'of 2 epochs \(dead\)' if storage.LOCKS else r'of 2 epochs \(unknown\)'):
        Writer(tmp_path, SPACE)


def test_what_a_kill_has_left_of_a_file_is_taken_away_by_the_next_writer(tmp_path):
    runs.write(tmp_path, SPACE, 2)
    (tmp_path / f'.{STATE}.0123456789abcdef.tmp').write_text('{')
    Writer(tmp_path, SPACE, resume=True).end()
    assert not list(tmp_path.glob('.*'))


def test_a_run_can_be_read_while_it_is_written(tmp_path):
    space = runs.SPACES['fourteen edges of eight']
    Writer(tmp_path, space).end()
    thread = threading.Thread(target=runs.write, args=(tmp_path, space, 60), kwargs={'resume': True})
    thread.start()
    seen = [0]
    while thread.is_alive():
        seen.append(len(Run.read(tmp_path).epochs))
    thread.join()
    assert seen == sorted(seen) and len(Run.read(tmp_path).epochs) == 60


def test_a_line_that_does_not_fit_on_the_disk_is_taken_back(tmp_path, monkeypatch):
    writer = Writer(tmp_path, SPACE)
    writer.epoch(runs.epoch(SPACE, 0))
    with monkeypatch.context() as full:
        def fsync(handle):
            raise OSError(28, 'No space left on device')
        full.setattr(os, 'fsync', fsync)
        full.setattr(storage.files, 'DISK_PATIENCE', 0.1)
        with pytest.raises(RunError, match='Epoch 1 cannot be recorded in .*No space left.*resume the search'):
            writer.epoch(runs.epoch(SPACE, 1))
    assert numbers(Run.read(tmp_path)) == [0]
    writer.epoch(runs.epoch(SPACE, 1))
    writer.end()
    assert numbers(Run.read(tmp_path)) == [0, 1]


def test_a_run_tells_since_when_it_decides_as_it_does(tmp_path):
    decided = [[0], [1], [1], [], []]
    with Writer(tmp_path, SPACE) as writer:
        for number, architecture in enumerate(decided):
            epoch = runs.epoch(SPACE, number)
            writer.epoch(epoch._replace(architecture={**epoch.architecture, 'stem': architecture, 'a': [1]}))
    run = Run.read(tmp_path)
    assert (run.since('stem'), run.decision('stem'), run.decision('stem', 1)) == (3, 'dropped', 'conv_5x5')
    assert (run.since('a'), run.decision('a')) == (0, 'skip')


def test_the_time_left_is_that_of_the_epochs_to_come(tmp_path):
    writer = Writer(tmp_path, SPACE, num_epochs=10)
    assert Run.read(tmp_path).seconds_left is None
    for number in range(7):
        writer.epoch(runs.epoch(SPACE, number, seconds=1000.0 if number < 2 else 100.0))
    assert Run.read(tmp_path).seconds_left == pytest.approx(300, abs=60)
    writer.end()
    assert Run.read(tmp_path).seconds_left is None


def test_the_fields_of_a_line_are_those_of_the_documentation():
    assert set(Epoch._fields) == {'epoch', 'seconds', 'time', 'train', 'valid', 'weights', 'indicators', 'architecture',
                                  'usage'}
