"""The requests to an experiment's manager, received by a test server."""

import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from nni_darts_ext.nnictl import experiments


@pytest.fixture
def manager(tmp_path):
    """A manager of one experiment that records the requests to it."""
    told = []

    class Handler(BaseHTTPRequestHandler):
        def answer(self):
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b'{"params": {"maxTrialNumber": 99999}}')

        def do_GET(self):
            self.answer()

        def do_PUT(self):
            told.append((self.path, json.loads(self.rfile.read(int(self.headers['Content-Length'])).decode())))
            self.answer()

        def log_message(self, *args):
            pass
    with HTTPServer(('127.0.0.1', 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        (tmp_path / 'nni-experiments').mkdir()
        (tmp_path / 'nni-experiments' / '.experiment').write_text(json.dumps({'abc': {'port': server.server_address[1]}}))
        yield told
        server.shutdown()


@pytest.mark.parametrize('proxy', ['http_proxy', 'HTTP_PROXY', 'all_proxy'])
def test_a_manager_is_told_the_number_of_trials_whatever_proxy_the_environment_names(proxy, manager, monkeypatch):
    for name in ('no_proxy', 'NO_PROXY', 'REQUEST_METHOD'):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(proxy, 'http://127.0.0.1:9')
    experiments.end('abc', 12)
    assert manager == [('/api/v1/nni/experiment?update_type=MAX_TRIAL_NUM', {'params': {'maxTrialNumber': 12}})]
