"""What a search has used of the machine."""

import re

import pytest
import runs

from nni_darts_ext.loop import progress
from nni_darts_ext.run import Run, text, usage
from nni_darts_ext.run.show import render
from nni_darts_ext.run.usage import Usage


def test_memory_is_the_peak_of_this_process():
    used = Usage()
    before = used.read()['peak_memory']
    assert before > 10e6
    taken = bytearray(int(before) + 50_000_000)
    taken[::4096] = b'1' * len(taken[::4096])
    del taken
    assert used.read()['peak_memory'] >= before + 50e6


@pytest.fixture
def counters(tmp_path, monkeypatch):
    monkeypatch.setattr(usage, 'RAPL', str(tmp_path))

    def write(name, microjoules):
        (tmp_path / name).mkdir(exist_ok=True)
        (tmp_path / name / 'energy_uj').write_text(f'{microjoules}\n')
        (tmp_path / name / 'max_energy_range_uj').write_text('100000000\n')
    return write


def test_energy_is_that_of_all_processors_also_where_their_counters_start_again(counters):
    counters('intel-rapl:0', 1_000_000)
    counters('intel-rapl:1', 99_000_000)
    counters('intel-rapl:1:0', 5_000_000)  # a part of a processor
    used = Usage()
    for name, microjoules in (('intel-rapl:0', 3_000_000), ('intel-rapl:1', 500_000), ('intel-rapl:1:0', 9_000_000)):
        counters(name, microjoules)
    assert used.read()['energy'] == pytest.approx(2 + 1.5)
    assert used.read()['energy'] == 0


def test_what_the_machine_does_not_tell_is_left_out(tmp_path, monkeypatch):
    monkeypatch.setattr(usage, 'RAPL', str(tmp_path / 'none'))
    monkeypatch.setattr(usage, '_peak_memory', lambda: None)  # as on Windows
    assert Usage().read() == {}


def test_a_run_says_what_it_has_taken(tmp_path):
    runs.write(tmp_path / 'run', runs.cell('normal', 2, ('conv', 'pool')), 3)
    run = Run.read(tmp_path / 'run')
    told = [one._replace(seconds=61.0, usage={'peak_memory': 1e9 + i * 1e8, 'energy': 1.2e6})
            for i, one in enumerate(run.epochs)]
    price = '0:03:03 for 3 epochs, at most 1.20 GB of memory, 1 kWh'
    assert text.price(run._replace(epochs=told)) == price and f'price: {price}\n' in render(run._replace(epochs=told))
    assert text.price(run._replace(epochs=[run.epochs[0]._replace(seconds=2)])) == '0:00:02 for 1 epoch'  # of early versions


def test_the_bar_estimates_the_whole_search(monkeypatch, capfd):
    pytest.importorskip('tqdm')
    monkeypatch.setattr(progress, 'EVERY', 0)
    times = iter(float(10 * i) for i in range(100))
    monkeypatch.setattr(progress.time, 'monotonic', lambda: next(times))
    assert list(progress.bar(range(3), 3, 'Epoch 1/4', 'loss 1', True, 4)) == [0, 1, 2]
    left = re.findall(r'search: about ([\d:]+) left', capfd.readouterr().err)
    assert left[0] == '0:01:50' and left[-1] == '0:01:30'
