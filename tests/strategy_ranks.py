"""What holds of a strategy in several processes, whichever host runs it."""

import inspect
from pathlib import Path
from unittest import mock

import numpy
import pytorch_lightning
import torch
import two_processes
from pytorch_lightning.callbacks import ModelCheckpoint
from spaces import Cells, batches, write_weights

import nni_darts_ext.nn as dnn
from nni_darts_ext.loop import processes
from nni_darts_ext.run import Run

RUN = 'run'
"""The run's folder, for the strategies."""
OWN_BATCHES = {name: False for name in ('replace_sampler_ddp', 'use_distributed_sampler')
               if name in inspect.signature(pytorch_lightning.Trainer.__init__).parameters}
"""Lightning shall leave the loaders alone."""


def searched(strategy, run, logits):
    """One search, or the part that a rank has in it.

    ``run(model, strategy, data, optimizer, on_step, on_epoch, trainer)`` runs an experiment, with options of Lightning's
    Trainer, and returns what it exports. ``logits()`` gives those of the strategy while it runs.
    """
    torch.manual_seed(processes.rank())  # each draws logits of its own, which it has to give up for those of rank 0
    model = write_weights(Cells(two_processes.NODES, cells=2, named=True))
    for parameter in model.parameters():
        parameter.data += processes.rank()
    steps = []

    def on_step():
        steps.append(two_processes.flat(logits()))

    def on_epoch(epoch):
        if epoch == 1 and hasattr(strategy, 'cut'):
            strategy.cut('node1_edge0', int(strategy.search.probabilities()['node1_edge0'][:-1].argmin()))

    if hasattr(strategy, 'cut'):
        strategy.cut('node0_edge0', 'op2')
    data = [[two_processes.share_of(batch) for batch in step] for step in batches(4)]
    parallel = dict(strategy='ddp', devices=2, **OWN_BATCHES) if processes.size() > 1 else {}
    with mock.patch.object(numpy, 'Inf', numpy.inf, create=True):  # which NumPy 2 has no more and the oldest Lightning reads
        keep = ModelCheckpoint('checkpoints', '{epoch}', save_top_k=-1)
    architecture = run(model, strategy, data, lambda weights: torch.optim.SGD(weights, 0.05, momentum=0.9, weight_decay=3e-4),
                       on_step, on_epoch, dict(max_epochs=2, callbacks=[keep], enable_checkpointing=True, **parallel))
    processes.barrier()
    weights = [parameter for name, parameter in model.named_parameters() if '_darts' not in name and 'alpha' not in name]
    return {'steps': steps, 'weights': two_processes.flat(weights), 'architecture': architecture,
            'checkpoints': sorted(file.name for file in Path('checkpoints').glob('*')),
            'epochs': len(Run.read(RUN).epochs) if Path(RUN).exists() else None}


def check(function, *arguments):
    """Two ranks give what one process gives with batches of twice the size. ``function`` is a :func:`searched` of the host."""
    ranks = two_processes.results(function, *arguments)
    assert ranks[0] == ranks[1]  # bit for bit
    one, two = function(*arguments), ranks[0]
    assert two['architecture'] == one['architecture']
    assert two['epochs'] == 2 and two['checkpoints'] == ['epoch=0.ckpt', 'epoch=1.ckpt']
    for what in ('steps', 'weights'):
        torch.testing.assert_close(torch.tensor(two[what]), torch.tensor(one[what]), rtol=0, atol=1e-10)


class Unnamed(dnn.ModelSpace):
    """An InputChoice that names no sources."""

    def __init__(self):
        super().__init__()
        self.edges = torch.nn.ModuleList([
            dnn.LayerChoice({'linear': torch.nn.Linear(3, 3), 'skip': torch.nn.Identity()}, key=key) for key in 'abc'])
        self.pick = dnn.InputChoice(choose_from=['', ''], n_chosen=1, key='pick')
        self.classifier = torch.nn.Linear(3, 2)

    def forward(self, x):
        a, b, c = self.edges
        return self.classifier(self.pick([torch.relu(a(x)), c(b(x))]))


def forked_by_lightning(strategy, run):
    """What a strategy has to say in the process that started those that searched. ``run`` is that of :func:`searched`."""
    (x, y), _ = batches(1, batch=12)[0]
    data = [[(x.float(), y)] * 2] * 2
    exported = run(Unnamed(), strategy, data, lambda weights: torch.optim.SGD(weights, 0.05), lambda: None,
                   lambda epoch: None, dict(strategy='ddp_fork', devices=2, **OWN_BATCHES))
    strong = max('ac', key=lambda key: float(strategy.search.probabilities()[key][:-1].max()))
    return {'choose_from': {str(key): list(map(str, sources)) for key, sources in strategy.choose_from.items()},
            'kept': exported['pick'], 'strongest': ['ac'.index(strong)]}


def check_forked(function):
    found, = two_processes.results(function, ranks=1)
    assert found['choose_from'] == {'pick': ['a', 'c']}
    assert found['kept'] == found['strongest']
