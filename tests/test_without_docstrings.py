"""``python -OO``, which leaves neither docstrings nor assertions."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import OFFERED


def python(code):
    ran = subprocess.run([sys.executable, '-OO', '-W', 'ignore', '-c', code], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                         universal_newlines=True, timeout=300,
                         env={**os.environ, 'PYTHONPATH': os.pathsep.join([str(Path(__file__).parent), *sys.path])})
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


IMPORTS = '''
import nni_darts_ext, nni_darts_ext.cli, nni_darts_ext.methods, nni_darts_ext.run.recorder, nni_darts_ext.trial
nni_darts_ext.DartsTrainer, nni_darts_ext.apply_fixed_architecture, nni_darts_ext.nn.LayerChoice
'''


@pytest.mark.skipif(not all(OFFERED.values()), reason='where there is an NNI, the search imports all this')
def test_everything_can_be_imported():
    python(IMPORTS)


@pytest.mark.skipif(all(OFFERED.values()), reason='there is no NNI here')
def test_the_families_are_there_and_a_search_runs():
    offered = {family for family, reason in OFFERED.items() if reason is None}
    said = python(IMPORTS + f'''
import torch
from spaces import TWO_NODES, Cells, batches
from nni_darts_ext import DartsTrainer, apply_fixed_architecture, cli, hosts
print({{family for family, reason in hosts.available().items() if reason is None}} == {offered!r})
model = Cells(TWO_NODES).double()
trainer = DartsTrainer(model, torch.nn.functional.cross_entropy, lambda output, labels: {{}},
                       torch.optim.SGD(model.parameters(), 0.1), 1, tuple(zip(*batches(2))), device='cpu', run_dir='run')
trainer.mutator.double()
trainer.train()
apply_fixed_architecture(model, trainer.mutator.export())
print(cli.main(['show', 'run']))
''')
    assert 'True\n' in said and said.endswith('0\n') and 'done: 1 of 1 epochs' in said
