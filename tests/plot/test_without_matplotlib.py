"""The error if matplotlib or networkx is missing."""

import subprocess
import sys

import pytest
import runs


@pytest.mark.parametrize('command', ['plot', 'report'])
@pytest.mark.parametrize('package', ['matplotlib', 'networkx'])
def test_it_says_how_to_install_what_is_missing(tmp_path, package, command):
    runs.write(tmp_path / 'run', runs.SPACES['no inputs'], 1)
    code = ('import sys; sys.modules[sys.argv[1]] = None;'
            'from nni_darts_ext.cli import main; sys.exit(main([sys.argv[2], "run"]))')
    ran = subprocess.run([sys.executable, '-c', code, package, command], cwd=str(tmp_path), stderr=subprocess.PIPE,
                         universal_newlines=True)
    assert ran.returncode == 1
    assert ran.stderr.startswith('nni-darts-ext: Pictures need matplotlib and networkx: ')
    assert ran.stderr.endswith('Install them with\n  python -m pip install matplotlib networkx\n')
