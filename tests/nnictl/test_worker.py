"""The doctor on a worker: in the environment of the tests, and where something is missing. test_remote.py runs it over SSH."""

import contextlib
import json
import os
import socket
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from nni_darts_ext.cli import main
from nni_darts_ext.nnictl import doctor
from nni_darts_ext.nnictl.doctor import worker

NNI = doctor.installed('nni')


@pytest.mark.ends
@pytest.mark.skipif(NNI is None, reason='there is no NNI here')
def test_an_environment_of_the_matrix_is_a_worker(capsys):
    status = main(['doctor', '--worker', '--json'])
    said = json.loads(capsys.readouterr().out)
    assert set(said) == {'python', 'executable', 'nni', 'checks', 'status'} and said['nni'] == NNI
    checks = {check['name']: check for check in said['checks']}
    assert checks['Python']['found'] == f'pythonPath: {os.path.dirname(sys.executable)}'
    assert {'bash', 'PyTorch', 'nni_darts_ext', 'trial keeper', 'folder'} <= set(checks)
    missing = {name for name, check in checks.items() if not check['ok']}
    has_pip = doctor.installed('pip') is not None  # tox with uv installs none; find_spec('pip') would break setuptools here
    assert missing == ({'pip'} if NNI == '3.0' and not has_pip else set())
    assert status == said['status'] == bool(missing)


def test_what_does_not_import_is_named(tmp_path, monkeypatch):
    (tmp_path / 'torch.py').write_text('raise ImportError("libtorch.so: no such file")')
    monkeypatch.setenv('PYTHONPATH', os.pathsep.join([str(tmp_path), os.environ.get('PYTHONPATH', '')]))
    nni, torch, package = worker._imports(None)
    assert torch == ('PyTorch', False, 'ImportError: libtorch.so: no such file', 'Install PyTorch.')
    assert not nni.ok and package.ok


def test_python_needs_both_names(tmp_path, monkeypatch):
    python = tmp_path / 'python3'
    python.write_text('')
    python.chmod(0o755)
    monkeypatch.setattr(sys, 'executable', str(python))
    assert worker._python()[:3] == ('Python', False, f'{tmp_path} has no python')


@pytest.mark.parametrize('nni, names', [('2.8', ['bash', 'ps', 'tar']), ('3.0', ['bash'])])
def test_programs_that_nni_runs(nni, names, monkeypatch, tmp_path):
    monkeypatch.setenv('PATH', str(tmp_path))
    missing = list(worker._programs(nni))
    assert [check.name for check in missing if not check.ok] == names and 'not on the PATH' in missing[0].found


def test_the_folder_of_the_trials_must_be_writable(tmp_path, monkeypatch):
    assert worker._folder('3.0').found.startswith(f'{tmp_path}/nni-experiments: ') and worker._folder('3.0').ok
    assert worker._folder('2.10.1').found.startswith('/tmp/nni-experiments: ')
    monkeypatch.setenv('HOME', __file__)
    assert not worker._folder('3.0').ok and f'{__file__} is not writable' in worker._folder('3.0').found


@pytest.mark.skipif(not Path('/dev/shm').exists(), reason='there is no /dev/shm')
def test_little_shared_memory_is_no_fault(monkeypatch):
    assert worker._shared_memory().needed == ''
    monkeypatch.setattr(worker, 'SMALL', 2 ** 30)
    assert worker._shared_memory().ok and '--shm-size' in worker._shared_memory().needed


class Manager(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b'3.0.0' if self.path == '/api/v1/nni/version' else b'')

    def log_message(self, *args):
        pass


@contextlib.contextmanager
def manager():
    with HTTPServer(('127.0.0.1', 0), Manager) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_address
        server.shutdown()


def test_the_manager_must_have_the_same_nni():
    with manager() as (host, port):
        assert list(worker._manager('3.0', host, port)) == [('manager', True, f'NNI 3.0.0 on {host}', '')]
        assert next(worker._manager('2.9', host, port))[1:] == (
            False, f'NNI 3.0.0 on {host}', 'Both need the same NNI; here it is '
                                                                '2.9.')


def test_a_manager_that_cannot_be_reached():
    with socket.socket() as bound:  # without listening
        bound.bind(('127.0.0.1', 0))
        port = bound.getsockname()[1]
        check, = worker._manager('3.0', '127.0.0.1', port)
    assert not check.ok and 'refused' in check.found and f'ports {port} and {port + 1}' in check.needed


def test_before_3_0_trials_need_the_next_port_and_no_proxy(monkeypatch):
    monkeypatch.setenv('http_proxy', 'http://127.0.0.1:9')
    monkeypatch.delenv('no_proxy', raising=False)
    monkeypatch.delenv('NO_PROXY', raising=False)
    with manager() as (host, port):
        missing = {check.name: check for check in worker._manager('2.8', host, port)}
        assert f'{host}:{port + 1}: ' in missing['port'].found and missing['proxy'].needed.endswith(f'no_proxy={host}')
        monkeypatch.setenv('no_proxy', host)
        assert 'proxy' not in {check.name for check in worker._manager('2.8', host, port)}


def test_the_address_of_a_manager(capsys):
    assert worker.address('10.0.0.1') == ('10.0.0.1', 8080) and worker.address('host:81') == ('host', 81)
    with pytest.raises(SystemExit):
        main(['doctor', '--worker', '--manager', 'host:web'])
    assert 'Expected HOST or HOST:PORT' in capsys.readouterr().err


def test_without_nni_it_is_no_worker():
    said = worker.render(worker.Worker('3.8.0', '/env/bin/python', None, [next(worker._imports(None))]))
    assert said.splitlines() == ['A worker with NNI missing, Python 3.8.0 (/env/bin/python)', '', 'NNI  MISSING: not installed',
                                 '     Install the version that the manager has.']
