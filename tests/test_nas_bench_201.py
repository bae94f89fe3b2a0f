"""The benchmark on NAS-Bench-201's space, on a hundred images of noise and a table in which convolutions are good."""

import importlib.util
import itertools
import json
import runpy
import sys
from pathlib import Path

import nni
import numpy
import pytest

from nni_darts_ext import plot

pytestmark = [
    pytest.mark.skipif(nni.__version__ not in ('2.8', '3.0'), reason='hangs on no NNI but for the strategy of 3.0'),
    pytest.mark.skipif(not all(importlib.util.find_spec(package) for package in plot.PACKAGES), reason='it draws')]
FOLDER = Path(__file__).parent / 'bench' / 'nas_bench_201'
NAMES = ('none', 'skip_connect', 'nor_conv_1x1', 'nor_conv_3x3', 'avg_pool_3x3')


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp('data')
    draw = numpy.random.RandomState(0)
    numpy.savez(str(folder / 'images.npz'), images=draw.randint(256, size=(100, 3, 16, 16)).astype(numpy.uint8),
                labels=draw.randint(10, size=100))
    lines = ['architecture,accuracy']
    for names in itertools.product(NAMES, repeat=6):
        lines.append('|{}~0|+|{}~0|{}~1|+|{}~0|{}~1|{}~2|,{}'.format(
            *names, 40 + 10 * sum(name.startswith('nor_conv') for name in names)))
    (folder / 'table.csv').write_text('\n'.join(lines) + '\n')
    return folder


@pytest.fixture
def searched(data, monkeypatch, capsys):
    """Runs the program; returns what it prints."""
    def searched(output, *arguments):
        monkeypatch.setattr(sys, 'argv', [
            'nas_bench_201', '--images', str(data / 'images.npz'), '--table', str(data / 'table.csv'), '--output', str(output),
            '--epochs', '2', '--channels', '2', '--batch-size', '10', '--processes', '1', *arguments])
        capsys.readouterr()
        runpy.run_path(str(FOLDER), run_name='__main__')
        return capsys.readouterr().out
    monkeypatch.syspath_prepend(str(FOLDER))
    return searched


def records(output, name):
    return [json.loads(line) for line in (output / f'{name}.jsonl').read_text().splitlines()]


def test_it_records_each_epoch_and_sums_them_up(searched, tmp_path):
    printed = searched(tmp_path, 'plain', 'BetaDecay', '--seeds', '0', '1')
    assert (tmp_path / 'accuracy.png').is_file() and (tmp_path / 'table.md').read_text() in printed
    rows = {row.split('|')[1].strip(): row for row in printed.splitlines()[2:]}
    assert set(rows) == {'plain', 'BetaDecay'}
    for name in rows:
        last = []
        for seed in (0, 1):
            *epochs, end = records(tmp_path, f'{name}-{seed}')
            assert [epoch['epoch'] for epoch in epochs] == [1, 2] and end['cell'] == epochs[-1]['cell']
            assert end['accuracy'] == 40 + 10 * end['cell'].count('nor_conv')
            assert 0 <= epochs[0]['metrics']['valid']['acc'] <= 1 and len(epochs[0]['weights']) == 6
            last.append(end['accuracy'])
        assert f'| {sum(last) / 2:.2f} ± ' in rows[name]
    before = (tmp_path / 'plain-0.jsonl').read_text()
    assert searched(tmp_path, 'plain', '--seeds', '0') == printed
    assert (tmp_path / 'plain-0.jsonl').read_text() == before  # is not searched anew


@pytest.mark.family('nas')
def test_the_strategy_finds_the_same_cells(searched, tmp_path):
    searched(tmp_path, 'BetaDecay', '--seeds', '0')
    searched(tmp_path, 'BetaDecay', '--seeds', '0', '--strategy')
    of_trainer, of_strategy = (records(tmp_path, name) for name in ('BetaDecay-0', 'BetaDecay-strategy-0'))
    for one, other in zip(of_trainer[:-1], of_strategy[:-1]):
        assert one['cell'] == other['cell']
        for key, weights in one['weights'].items():
            assert other['weights'][key] == pytest.approx(weights, abs=1e-5)
