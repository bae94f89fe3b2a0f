"""What earlier versions have computed and written: searches come to the same, and files of theirs are still read."""

import json
import shutil

import pytest
import recorded_search
from recorded_search import CHECKPOINTS, FOLDER, PROCESSES, SEARCHES, STRATEGIES, TRAINERS

from nni_darts_ext.run import DONE, Run, show

pytestmark = pytest.mark.ends
RECORDED = json.loads((FOLDER / SEARCHES).read_text())


def differences(found, recorded):
    """The movement is now that of the probabilities; when these were recorded, it was that of the logits."""
    return [one for one in recorded_search.differences(found, recorded) if '/movement: ' not in one]


def check(found, name):
    assert differences(found, RECORDED[name]) == []


@pytest.mark.parametrize('name', TRAINERS)
def test_trainer(name):
    check(TRAINERS[name](), f'trainer, {name}')


@pytest.mark.parametrize('name', PROCESSES)
def test_trainer_in_two_processes(name):
    check(PROCESSES[name](), f'two processes, {name}')


@pytest.mark.family('lightning', 'nas')
@pytest.mark.parametrize('name', STRATEGIES)
def test_strategy(name):
    check(STRATEGIES[name](), f'strategy, {name}')


@pytest.mark.family('nas')
@pytest.mark.parametrize('name', recorded_search.ONLY_NAS)
def test_strategy_of_nni_3(name):
    check(recorded_search.ONLY_NAS[name](), f'strategy, {name}')


@pytest.mark.parametrize('file', CHECKPOINTS)
def test_a_trainer_resumes_from_the_checkpoint_of_an_earlier_version(file, tmp_path):
    check(recorded_search.resumed(CHECKPOINTS[file]), f'resumed, {file}')
    check(recorded_search.resumed(CHECKPOINTS[file], FOLDER / file, tmp_path), f'resumed, {file}')
    assert [path.name for path in sorted(tmp_path.iterdir())] == ['epoch-3.ckpt', 'epoch-4.ckpt']


@pytest.mark.family('lightning', 'nas')
def test_a_strategy_resumes_from_the_checkpoint_of_an_earlier_version():
    through = RECORDED['strategy, resumed']
    found = recorded_search.strategy_resumed(FOLDER / recorded_search.of_strategy())
    n = len(through['losses']) // 2
    assert differences(found, {**through, 'losses': through['losses'][n:]}) == []


def test_a_run_of_an_earlier_version_is_read_shown_and_computed_again(tmp_path, capsys):
    shutil.copytree(str(FOLDER / 'run'), str(tmp_path / 'run'))
    run = Run.read(tmp_path / 'run')
    assert (run.state.status, run.num_epochs, [epoch.epoch for epoch in run.epochs]) == (DONE, 4, [0, 1, 2, 3])
    assert show.run(show.argparse.Namespace(run_dir=tmp_path / 'run', best=0)) == 0
    shown = capsys.readouterr().out
    assert '4 of 4 epochs' in shown and {run.decision(key) for key in run.space.edges} - {'dropped'} <= set(shown.split())

    recorded_search.write_run(tmp_path / 'again')
    again = Run.read(tmp_path / 'again')
    assert again.space == run.space
    for name in ('train', 'valid', 'weights', 'indicators', 'architecture'):
        assert differences(*([getattr(epoch, name) for epoch in one.epochs] for one in (again, run))) == [], name
    assert all('eigenvalue' in epoch.indicators for epoch in run.epochs)
    assert (tmp_path / 'again' / 'architecture.json').read_text() == (FOLDER / 'run' / 'architecture.json').read_text()
