"""A search, and the commands that read it, where the system refuses what Windows does.

    python as_on_windows.py FOLDER
"""

import contextlib
import importlib
import os
import sys
import threading
from pathlib import Path

import torch
from torch import nn

for name in ('nni.algorithms.nas.pytorch.darts', 'nni.retiarii.nn.pytorch', 'nni.retiarii.experiment.pytorch',
             'nni.retiarii.oneshot.pytorch', 'nni.nas.nn.pytorch', 'nni.nas.oneshot.pytorch.strategy'):
    with contextlib.suppress(ImportError):
        importlib.import_module(name)  # before the functions are missing, which NNI may need

POSIX = ('register_at_fork', 'fork', 'killpg', 'getpgid', 'setsid', 'getuid', 'geteuid', 'getloadavg', 'fchmod', 'chown',
         'mkfifo', 'sched_getaffinity', 'uname', 'statvfs')
for name in POSIX:
    if hasattr(os, name):
        delattr(os, name)
sys.modules.update(dict.fromkeys(['fcntl', 'resource', 'pwd', 'grp']))  # importing them raises ImportError


def is_open(path):
    return any(os.path.realpath(f'/proc/self/fd/{fd}') == os.path.realpath(path) for fd in os.listdir('/proc/self/fd'))


def refusing(call):
    """``call``, which refuses names of files that are open."""
    def refused(*paths, **options):
        for path in paths:
            if isinstance(path, (str, os.PathLike)) and is_open(path):
                raise PermissionError(13, 'The process cannot access the file because it is being used by another process', path)
        return call(*paths, **options)
    return refused


def opened(path, flags, *mode, call=os.open, **options):
    if os.path.isdir(path):
        raise PermissionError(13, 'Permission denied', path)
    return call(path, flags, *mode, **options)


os.replace, os.unlink, os.remove, os.rename, os.open = *map(refusing, (os.replace, os.unlink, os.remove, os.rename)), opened


def main(folder):
    from spaces import TWO_NODES, Cells, batches

    from nni_darts_ext import DartsTrainer, cli
    from nni_darts_ext.core import files
    from nni_darts_ext.run import DONE, Run, storage
    assert not storage.LOCKS
    files.OPEN_FILES_ARE_HELD, files.DISK_PATIENCE = True, 0

    class Copying:
        """Has all files of the run open for a moment after each epoch, as a program that copies them."""

        def build(self, model, mutator, trainer):
            pass

        def on_epoch_begin(self, epoch):
            pass

        def on_epoch_end(self, epoch):
            opened = [open(file, 'rb') for file in (folder / 'run').rglob('*.*')]  # noqa: SIM115
            threading.Timer(0.2, lambda: [file.close() for file in opened]).start()

    def search(epochs):
        torch.manual_seed(0)
        model = Cells(TWO_NODES).double()
        found = DartsTrainer(model, nn.functional.cross_entropy, None, torch.optim.SGD(model.parameters(), 0.05), epochs,
                             tuple(zip(*batches(2))), device='cpu', run_dir=folder / 'run', callbacks=[Copying()])
        found.mutator.double()
        found.train()
    search(2)
    search(5)
    run = Run.read(folder / 'run')
    assert run.state.status == DONE and [epoch.epoch for epoch in run.epochs] == [0, 1, 2, 3, 4]
    assert (folder / 'run' / 'checkpoints' / 'epoch-5.ckpt').exists()
    assert cli.main(['show', str(folder / 'run')]) == 0
    print('done')


if __name__ == '__main__':
    main(Path(sys.argv[1]))
