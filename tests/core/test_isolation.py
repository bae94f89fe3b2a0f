import pkgutil
import subprocess
import sys

import pytest

from nni_darts_ext import core, loop, methods

MODULES = ', '.join(module.name for package in (core, methods, loop)
                    for module in pkgutil.walk_packages(package.__path__, package.__name__ + '.'))

HEAVY = {
    'nni_darts_ext': ('torch', 'nni', 'pytorch_lightning', 'numpy'),
    'nni_darts_ext.errors': ('torch', 'nni', 'pytorch_lightning', 'numpy'),
    MODULES: ('nni', 'pytorch_lightning'),
    'nni_darts_ext; nni_darts_ext.Run, nni_darts_ext.RunError, dir(nni_darts_ext)':
        ('torch', 'nni', 'pytorch_lightning', 'numpy', 'matplotlib', 'networkx'),
    'nni_darts_ext.cli, nni_darts_ext.protocol': ('torch', 'nni', 'pytorch_lightning', 'numpy', 'matplotlib', 'networkx'),
    'nni_darts_ext.run.writer, nni_darts_ext.run.cells, nni_darts_ext.plot, nni_darts_ext.page':
        ('torch', 'nni', 'pytorch_lightning', 'numpy', 'matplotlib', 'networkx'),
}


@pytest.mark.parametrize('modules', HEAVY, ids=['package', 'errors', 'core, methods and loop', 'names', 'commands', 'runs'])
def test_importing_brings_no_host_along(modules):
    code = f'import sys, {modules}; print(sorted({{name.split(".")[0] for name in sys.modules}}))'
    loaded = subprocess.run([sys.executable, '-c', code], stdout=subprocess.PIPE, check=True, universal_newlines=True).stdout
    for heavy in HEAVY[modules]:
        assert repr(heavy) not in loaded
