"""Searches on disks that are full, read-only or gone: they go on, or stop with all that was written before whole."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow
TESTS = Path(__file__).parent
SEARCHES = pytest.mark.parametrize('epoch, way', [(0, 'searched'), (2, 'searched'), (2, 'searched_by_strategy')])
IN_A_NAMESPACE = ['unshare', '--user', '--map-root-user', '--mount']


@pytest.fixture(scope='module')
def report(tmp_path_factory):
    try:
        subprocess.run([*IN_A_NAMESPACE, 'true'], check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f'this system does not let users mount file systems: {error}')
    paths = os.pathsep.join([str(TESTS), str(TESTS.parent), os.environ.get('PYTHONPATH', '')])
    ended = subprocess.run([*IN_A_NAMESPACE, sys.executable, '-W', 'ignore', str(TESTS / 'faulty_disks.py'),
                            str(tmp_path_factory.mktemp('disks'))], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                           universal_newlines=True, env={**os.environ, 'PYTHONPATH': paths})
    assert ended.returncode == 0, ended.stderr
    return json.loads(ended.stdout.splitlines()[-1])


@SEARCHES
@pytest.mark.parametrize('fault', ['fill', 'fill_almost', 'refuse'])
def test_a_search_whose_disk_cannot_be_written_stops_and_resumes_when_it_can(fault, epoch, way, report):
    found = report[f'{fault} {epoch} {way}']
    assert ('Read-only file system' if fault == 'refuse' else 'No space left on device') in found['error']
    if way == 'searched' or fault != 'fill_almost':  # where Lightning itself fails
        assert 'Free some space or make the folder writable' in found['error']
    assert set(range(epoch)) <= set(found['left']['epochs']) <= set(range(epoch + 1))
    assert found['left']['status'] in ('failed', 'dead') and found['left']['temporary'] == []
    if way == 'searched':
        assert found['left']['checkpoints'] == [f'epoch-{n}.ckpt' for n in range(1, epoch + 1)]
    assert found['differences'] == []


@SEARCHES
@pytest.mark.parametrize('fault', ['fill_for_a_moment', 'remove', 'unmount'])
def test_a_search_goes_on_where_that_is_possible(fault, epoch, way, report):
    found = report[f'{fault} {epoch} {way}']
    assert 'error' not in found and found['differences'] == []
    assert found['at the end']['temporary'] == []
    if way == 'searched':
        assert found['at the end']['checkpoints'] == ['epoch-4.ckpt', 'epoch-5.ckpt']
