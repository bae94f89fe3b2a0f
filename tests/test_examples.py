"""The examples run from end to end, on a small budget, as a user runs them."""

import json
import os
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import OFFERED

EXAMPLES = Path(__file__).parents[1] / 'examples'
SCRIPTS = {'classic.py': ['classic'], 'demo.py': ['nas'], 'portable.py': list(OFFERED)}


@pytest.mark.parametrize('script', [script for script, families in SCRIPTS.items()
                                    if not all(OFFERED[family] for family in families)])
def test_the_script_finds_an_architecture_and_retrains_it(script, tmp_path):
    ran = subprocess.run(
        [sys.executable, str(EXAMPLES / script), '--search-epochs', '1', '--retrain-epochs', '2'],
        cwd=str(tmp_path), env={**os.environ, 'NNI_CONFIG_DIR': str(tmp_path)}, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, universal_newlines=True, timeout=600)
    assert ran.returncode == 0, ran.stdout
    found = json.loads((tmp_path / 'architecture.json').read_text())
    assert {'normal_2_0', 'normal_2_inputs', 'reduce_4_3', 'reduce_4_inputs'} <= set(found)
    assert all(len(found[key]) == 2 for key in found if key.endswith('_inputs'))
    assert 'Test accuracy after 2 epochs from scratch' in ran.stdout


@pytest.fixture
def run(monkeypatch, capsys):
    """Run a script in this process: most of what another one would do is to import PyTorch and NNI once more."""
    def run(script, *options):
        monkeypatch.syspath_prepend(str((EXAMPLES / script).parent))
        monkeypatch.setattr(sys, 'argv', [script, *options])
        runpy.run_path(str(EXAMPLES / script), run_name='__main__')
        return capsys.readouterr().out
    return run


def test_a_trial_script_of_ones_own_runs_outside_an_experiment_too(run, tmp_path):
    run('nnictl/own_trial.py', '--epochs', '1')
    assert 'normal_2_inputs' in json.loads((tmp_path / 'architecture.json').read_text())


def test_the_estimators_of_the_second_order_are_compared(run):
    tiny = ['--channels', '2', '--cells', '3', '--nodes', '1', '--batch-size', '2', '--steps', '2', '--seeds', '1']
    assert 'exact' in run('unrolled.py', *tiny)
