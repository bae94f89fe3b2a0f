"""Searches on disks with faults, which a mount namespace of this process has.

    unshare --user --map-root-user --mount python faulty_disks.py FOLDER

prints what each search said, and how what came of it differs from a search without a fault, as JSON.
"""

import contextlib
import itertools
import json
import os
import random
import shutil
import subprocess
import sys
import threading
import zipfile
from pathlib import Path

import nas_experiment
import torch
from pytorch_lightning.callbacks import ModelCheckpoint
from resumed import Net
from torch import nn
from torch.utils.data import TensorDataset

from nni_darts_ext import DARTS, DartsTrainer
from nni_darts_ext.core import files
from nni_darts_ext.run import Run

EPOCHS = 5
files.DISK_PATIENCE = 0.4


class Disk:
    """A file system of one megabyte in memory, and what may happen to it."""

    def __init__(self, place):
        self.place, self.run = place, place / 'runs' / 'run'
        place.mkdir()
        self.mount('-t', 'tmpfs', '-o', 'size=1m', 'tmpfs')

    def mount(self, *options):
        subprocess.run(['mount', *options, str(self.place)], check=True)

    def fill(self, leave=0):
        with open(self.place / 'filler', 'wb', buffering=0) as filler:
            with contextlib.suppress(OSError):
                while filler.write(bytes(4096)):
                    pass
            filler.truncate(filler.tell() - leave)

    def fill_almost(self):
        """There is space for a record, but not for a checkpoint."""
        self.fill(3 * 4096)

    def fill_for_a_moment(self):
        self.fill()
        threading.Timer(0.1, os.unlink, [self.place / 'filler']).start()

    def refuse(self):
        self.mount('--bind', str(self.place))
        self.mount('-o', 'remount,bind,ro')

    def remove(self):
        shutil.rmtree(self.place / 'runs')

    def unmount(self):
        subprocess.run(['umount', '--lazy', str(self.place)], check=True)

    def mend(self):
        if (self.place / 'filler').exists():
            (self.place / 'filler').unlink()
        else:
            self.unmount()  # what is read-only


class Fault:
    """A callback in which something happens at the end of an epoch, before it is recorded."""

    def __init__(self, happens=None, epoch=None):
        self.happens, self.epoch = happens, epoch

    def build(self, model, mutator, trainer):
        self.scheduler = torch.optim.lr_scheduler.ExponentialLR(trainer.optimizer, 0.9)

    def on_epoch_begin(self, epoch):
        pass

    def on_epoch_end(self, epoch):
        self.scheduler.step()
        if epoch == self.epoch:
            self.happens()


def searched(run_dir, fault):
    torch.manual_seed(0)
    random.seed(0)
    model = Net()
    data = TensorDataset(torch.randn(16, 3), torch.arange(16) % 2)
    search = DartsTrainer(model, nn.functional.cross_entropy, lambda output, labels: {'chance': random.random()},
                          torch.optim.SGD(model.parameters(), 0.1, momentum=0.9), EPOCHS, data, batch_size=4, workers=0,
                          device='cpu', callbacks=[fault], run_dir=run_dir)
    search.train()
    run = Run.read(run_dir)
    return {'weights': {name: value.tolist() for name, value in model.state_dict().items()}, 'history': search.history,
            'architecture': search.export(), 'status': run.state.status, 'random': random.random(),
            'recorded': [(epoch.epoch, epoch.train, epoch.weights, epoch.architecture) for epoch in run.epochs]}


def searched_by_strategy(run_dir, fault):
    """The same with a strategy of NNI 3.0. On a full disk Lightning leaves an incomplete checkpoint, which must not be passed."""
    kept = sorted(file for file in run_dir.parent.glob('*.ckpt') if zipfile.is_zipfile(file))
    torch.manual_seed(0)
    strategy = DARTS(run_dir=run_dir)
    data = [((torch.randn(4, 3), torch.arange(4) % 2), (torch.randn(4, 3), torch.arange(4) % 2)) for _ in range(3)]
    keep = ModelCheckpoint(str(run_dir.parent), '{epoch}', save_top_k=-1, every_n_epochs=1)
    nas_experiment.search(Net(), strategy, Module(fault), data, max_epochs=EPOCHS, callbacks=[keep], enable_checkpointing=True,
                          fit_kwargs={'ckpt_path': str(kept[-1])} if kept else {})
    run = Run.read(run_dir)
    return {'weights': {name: value.tolist() for name, value in strategy.supernet.state_dict().items()
                        if isinstance(value, torch.Tensor)},
            'architecture': strategy.search.architecture(), 'status': run.state.status, 'random': torch.rand(1).item(),
            'recorded': [(epoch.epoch, epoch.train, epoch.weights, epoch.architecture) for epoch in run.epochs]}


class Module(nas_experiment.Module):
    def __init__(self, fault):
        super().__init__()
        self.fault = fault

    def training_step(self, batch, batch_idx):
        if (self.trainer.current_epoch, batch_idx) == (self.fault.epoch, 5):
            self.fault.happens()
        return super().training_step(batch, batch_idx)


def left(run_dir):
    """What readers find after the search has stopped: the epochs of the run, and the files."""
    return {'epochs': [epoch.epoch for epoch in Run.read(run_dir).epochs], 'status': Run.read(run_dir).state.status,
            'checkpoints': sorted(file.name for file in (run_dir / 'checkpoints').glob('*')),
            'temporary': [file.name for file in run_dir.rglob('.*')]}


def main(folder):
    report, ways = {}, (searched, searched_by_strategy)
    through = {way: way(folder / way.__name__ / 'run', Fault()) for way in ways}
    faults = itertools.product(('fill', 'fill_almost', 'fill_for_a_moment', 'refuse', 'remove', 'unmount'),
                               [(0, searched), (2, searched), (2, searched_by_strategy)])
    for name, (epoch, way) in faults:
        disk = Disk(folder / str(len(report)))
        found = report[f'{name} {epoch} {way.__name__}'] = {}
        try:
            came = way(disk.run, Fault(getattr(disk, name), epoch))
        except Exception as error:
            found.update(error=f'{type(error).__name__}: {error}', left=left(disk.run))
            disk.mend()
            came = way(disk.run, Fault())
        found['differences'] = [part for part in came if came[part] != through[way][part]]
        found['at the end'] = left(disk.run)
    print(json.dumps(report))


if __name__ == '__main__':
    main(Path(sys.argv[1]))
