"""The examples run from end to end, on a small budget, as a user runs them."""

import ast
import importlib.util
import json
import os
import runpy
import statistics
import subprocess
import sys
import tempfile
import types
from pathlib import Path

import pytest
from conftest import OFFERED

from nni_darts_ext import plot, random_architecture
from nni_darts_ext.run import Run

EXAMPLES = Path(__file__).parents[1] / 'examples'
SCRIPTS = {'classic.py': ['classic'], 'portable.py': list(OFFERED)}


@pytest.mark.parametrize('script', [script for script, families in SCRIPTS.items()
                                    if not all(OFFERED[family] for family in families)])
def test_the_script_finds_an_architecture_and_retrains_it(script, tmp_path):
    found, _ = search(script, tmp_path)
    assert {'normal_2_0', 'normal_2_inputs', 'reduce_4_3', 'reduce_4_inputs'} <= set(found)
    assert all(len(found[key]) == 2 for key in found if key.endswith('_inputs'))


@pytest.mark.once
@pytest.mark.family('nas')
def test_the_demo_finds_one_too_and_draws_its_search_into_a_new_folder(tmp_path):
    draws = all(importlib.util.find_spec(package) for package in plot.PACKAGES)
    found, said = search('demo.py', tmp_path, '--trainings', '1', '--random-cells', '2',
                         *(['--pictures', 'shown'] if draws else []))
    assert {'normal_1_0', 'normal_3_2'} < set(found) and len(found['normal_3_inputs']) == 2
    assert '2 random cells: median ' in said and 'The median of the found cell is above ' in said
    run_dir, = tmp_path.glob('demo-*/digits')
    assert len(Run.read(run_dir).epochs) == 1
    if draws:
        shown = {file.name for file in (tmp_path / 'shown').iterdir()}
        assert shown == {file.name for file in (EXAMPLES.parent / 'docs' / 'pictures').iterdir()}
        assert shown < {file.name for file in run_dir.glob('pictures/*')}
        assert str(run_dir.relative_to(tmp_path) / 'report.html') in said.split()
    else:
        assert 'python -m pip install ' + ' '.join(plot.PACKAGES) in said


@pytest.mark.slow
@pytest.mark.family('nas')
def test_on_the_demo_s_data_three_searches_find_cells_that_are_better_than_most_random_ones(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(str(EXAMPLES))
    demo = importlib.import_module('demo')
    train_set, _ = demo.data()
    cells = [demo.search(train_set, 12, 64, seed, tmp_path / str(seed) / 'digits', str(tmp_path)) for seed in range(3)]
    found = [demo.retrain(cell, seed, 8, 64) for seed, cell in enumerate(cells)]
    others = [demo.retrain(random_architecture(demo.SmallSpace(), seed, 'sample'), seed, 8, 64) for seed in range(8)]
    again = [found[0], *(demo.retrain(cells[0], seed, 8, 64) for seed in (3, 4))]
    assert sum(one > other for one in found for other in others) / len(found) > 2 / 3 * len(others), (found, others)
    assert statistics.stdev(others) > 3 * statistics.stdev(again), (others, again)


def search(script, folder, *options):
    """Run a script in a process of its own; returns the architecture, and what it said."""
    ran = subprocess.run(
        [sys.executable, str(EXAMPLES / script), '--search-epochs', '1', '--retrain-epochs', '2', *options],
        cwd=str(folder), env={**os.environ, 'NNI_CONFIG_DIR': str(folder)}, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, universal_newlines=True, timeout=600)
    assert ran.returncode == 0, ran.stdout
    assert 'Test accuracy after 2 epochs from scratch' in ran.stdout
    return json.loads((folder / 'architecture.json').read_text()), ran.stdout


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


# The notebook ------------------------------------------------------------------------------------------------------------

NOTEBOOK = json.loads((EXAMPLES / 'digits.ipynb').read_text(encoding='utf-8'))
CELLS = {'markdown': {'cell_type', 'id', 'metadata', 'source'},
         'code': {'cell_type', 'id', 'metadata', 'source', 'execution_count', 'outputs'}}
"""The members of a cell in nbformat 4.5."""
SMALL = {'SEARCH_EPOCHS': 2, 'RETRAIN_EPOCHS': 1}
"""What the tests put in place of the notebook's parameters, as papermill would."""


def test_the_notebook_is_one_and_is_kept_without_outputs():
    assert set(NOTEBOOK) == {'cells', 'metadata', 'nbformat', 'nbformat_minor'}
    assert (NOTEBOOK['nbformat'], NOTEBOOK['nbformat_minor']) == (4, 5)
    assert all(set(cell) == CELLS[cell['cell_type']] for cell in NOTEBOOK['cells'])
    assert all(isinstance(line, str) for cell in NOTEBOOK['cells'] for line in cell['source'])
    assert len({cell['id'] for cell in NOTEBOOK['cells']}) == len(NOTEBOOK['cells'])
    code = [cell for cell in NOTEBOOK['cells'] if cell['cell_type'] == 'code']
    assert all(not cell['outputs'] and cell['execution_count'] is None for cell in code)


def test_the_notebook_goes_from_a_space_to_a_retrained_model_with_pictures(monkeypatch, tmp_path):
    for package in plot.PACKAGES:
        pytest.importorskip(package)
    monkeypatch.setenv('MPLBACKEND', 'Agg')
    monkeypatch.setattr(tempfile, 'tempdir', str(tmp_path))
    module = types.ModuleType('notebook')
    monkeypatch.setitem(sys.modules, 'notebook', module)
    results = {}
    for cell in NOTEBOOK['cells']:
        if cell['cell_type'] == 'code':
            results[cell['id']] = result_of(''.join(cell['source']), cell['id'], vars(module))
        if 'parameters' in cell['metadata'].get('tags', []):
            assert set(SMALL) <= set(vars(module))
            vars(module).update(SMALL)
    for shown in ('weights', 'progress', 'cell'):
        assert results[shown]._repr_png_().startswith(b'\x89PNG')
    assert {'cell_1_0', 'cell_3_2', 'cell_3_inputs'} <= set(results['architecture'])
    assert len(module.run.epochs) == len(module.trainer.history) == 2
    assert all(0.1 < accuracy <= 1 for accuracy in module.accuracies.values())


def result_of(code, name, namespace):
    """Run a cell; returns the value of its last line, which a notebook shows, or None where that is none."""
    tree = ast.parse(code)
    last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
    exec(compile(tree, name, 'exec'), namespace)
    return eval(compile(ast.Expression(last.value), name, 'eval'), namespace) if last else None
