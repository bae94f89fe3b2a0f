"""The blocks of each page of the documentation run in order, as a reader would run them."""

import shlex
import subprocess
import sys
import types
from pathlib import Path

import nni
import pytest
from conftest import OFFERED
from pages import PAGES, blocks

from nni_darts_ext import cli, hosts, trial

FAMILIES = [family for family, reason in OFFERED.items() if reason is None]
RUN = {page: [block for block in blocks(page)
              if block.file or (block.is_code and block.runs_with(FAMILIES, nni.__version__))] for page in PAGES}


@pytest.mark.usefixtures('nnis_configuration', 'one_experiment')
@pytest.mark.parametrize('page', [page for page, found in RUN.items() if any(block.is_code for block in found)])
def test_the_blocks_of_a_page_run(page, tmp_path, monkeypatch):
    monkeypatch.setenv(hosts.PREFERENCE, '')  # pages may set it
    monkeypatch.syspath_prepend(str(tmp_path))
    module = types.ModuleType('page')
    monkeypatch.setitem(sys.modules, 'page', module)
    for block in RUN[page]:
        if block.file:
            Path(block.file).write_text(block.code)
        elif block.language == 'python':
            exec(compile('\n' * (block.line - 1) + block.code, page, 'exec'), vars(module))
        else:
            for line in block.code.splitlines():
                run(line)


def run(line):
    """Run a shell command; our own commands run in this process, to save the time of importing PyTorch and NNI."""
    words = shlex.split(line)
    try:
        if words[0] == 'nni-darts-ext':
            assert cli.main(words[1:]) == 0, line
        elif words[:3] == ['python', '-m', 'nni_darts_ext.trial']:
            trial.main(words[3:])
        else:
            subprocess.run(line, shell=True, check=True, stdin=subprocess.DEVNULL, timeout=300)
    except SystemExit as end:  # --help
        assert not end.code, line
