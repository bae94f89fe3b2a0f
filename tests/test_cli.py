"""The output of the executable when something outside of it fails."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import runs

COMMAND = str(Path(sys.executable).with_name('nni-darts-ext'))
SPACE = runs.SPACES['no inputs']


def command(*arguments, **environment):
    ran = subprocess.run([COMMAND, *map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=120,
                         env={**os.environ, **environment})
    return ran.returncode, ran.stdout.decode('utf-8', 'surrogateescape'), ran.stderr.decode('utf-8', 'replace')


@pytest.mark.skipif(os.name == 'nt', reason='pipes end otherwise there')
def test_a_reader_that_has_seen_enough_is_no_error(tmp_path):
    runs.write(tmp_path / 'run', runs.SPACES['two kinds of cells'], 2)
    reading, writing = os.pipe()
    os.close(reading)  # as head does after its last line
    process = subprocess.Popen([COMMAND, 'show', str(tmp_path / 'run')], stdout=writing, stderr=subprocess.PIPE)
    os.close(writing)
    said = process.communicate(timeout=120)[1]
    assert (process.returncode, said) == (1, b'')


def test_what_the_system_refuses_is_one_line(tmp_path):
    status, out, error = command('show', tmp_path / ('x' * 300))
    assert (status, out) == (1, '') and error.startswith('nni-darts-ext: ') and len(error.splitlines()) == 1


def test_an_interruption_is_one_line():
    code = 'import os, signal, sys; from nni_darts_ext import cli; from nni_darts_ext.nnictl import registration\n' \
           'signal.signal(signal.SIGINT, signal.default_int_handler)  # which a job in the background does not have\n' \
           'registration.register = lambda: os.kill(os.getpid(), signal.SIGINT)\nsys.exit(cli.main(["register"]))'
    ran = subprocess.run([sys.executable, '-c', code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, universal_newlines=True,
                         env={**os.environ, 'PYTHONPATH': os.pathsep.join(sys.path)}, timeout=120)
    assert (ran.returncode, ran.stdout, ran.stderr) == (1, '', 'nni-darts-ext: interrupted\n')


def test_any_name_can_be_shown_in_any_terminal(tmp_path):
    runs.write(tmp_path / 'größe', SPACE._replace(edges={**SPACE.edges, 'größe': ('klein', 'groß\ud800')}), 1)
    for encoding in ('ascii', 'utf-8'):
        status, out, error = command('show', tmp_path / 'größe', PYTHONIOENCODING=encoding)
        assert (status, error) == (0, '')
        assert ('gr\\xf6\\xdfe' if encoding == 'ascii' else 'größe') in out


@pytest.mark.skipif(sys.platform != 'linux', reason='other systems have no such names')
def test_a_path_that_is_no_text_is_no_error(tmp_path):
    runs.write(tmp_path / 'run', SPACE, 1)
    os.rename(os.fsencode(tmp_path / 'run'), os.fsencode(tmp_path) + b'/\xff')
    status, out, _ = command('show', os.fsdecode(os.fsencode(tmp_path) + b'/\xff'))
    assert status == 0 and 'done: 1 of 1 epochs' in out
