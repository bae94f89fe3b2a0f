"""Searches that are killed at random moments and started again, in processes that have imported everything already.

    python killed.py FOLDER KILLS

prints as JSON how often it killed, how often that hit the writing of a checkpoint, how many searches ended as those that ran
through, and what differed.
"""

import hashlib
import json
import os
import random
import signal
import sys
import time
from pathlib import Path

import torch
from spaces import TWO_NODES, Cells
from torch import nn
from torch.utils.data import TensorDataset

from nni_darts_ext import DartsTrainer

EPOCHS = 6


class Heavy(Cells):
    """With dropout, so that the random state counts, and a buffer, so that checkpoints take their time."""

    def __init__(self):
        super().__init__(TWO_NODES, named=True)
        self.dropout = nn.Dropout(0.2)
        self.register_buffer('ballast', torch.zeros(2 ** 19))

    def forward(self, x):
        return super().forward(self.dropout(x))


class Callback:
    """Notes the epochs that begin, and has a scheduler."""

    def __init__(self, log):
        self.log = log

    def build(self, model, mutator, trainer):
        self.scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(trainer.optimizer, EPOCHS)

    def on_epoch_begin(self, epoch):
        with open(self.log, 'a') as log:
            log.write(f'{epoch}\n')

    def on_epoch_end(self, epoch):
        self.scheduler.step()


def search(seed, folder):
    """A search from its beginning, or from where it was; what came of it, to the last bit."""
    torch.manual_seed(seed)
    random.seed(seed)
    model = Heavy()
    data = TensorDataset(torch.randn(48, 3), torch.randint(2, (48,)))
    trainer = DartsTrainer(
        model, nn.functional.cross_entropy, lambda output, labels: {'chance': random.random()},
        torch.optim.SGD(model.parameters(), 0.05, momentum=0.9), EPOCHS, data, batch_size=4, workers=0, device='cpu',
        callbacks=[Callback(folder / 'epochs')], checkpoint_dir=folder / 'checkpoints')
    trainer.train()
    weights = b''.join(value.detach().numpy().tobytes() for value in model.state_dict().values())
    return json.dumps({
        'logits': {key: [x.hex() for x in logits.tolist()] for key, logits in trainer.mutator.choices.items()},
        'architecture': trainer.export(), 'history': trainer.history, 'lr': trainer.optimizer.param_groups[0]['lr'],
        'weights': hashlib.sha256(weights).hexdigest(), 'random': [random.random(), torch.rand(1).item()]}, sort_keys=True)


def killed(seed, folder, seconds):
    """Search in a process that is killed after so many seconds, None for not at all. Whether it was."""
    pid = os.fork()
    if not pid:
        try:
            (folder / 'result').write_text(search(seed, folder))
        finally:
            os._exit(0)
    if seconds is not None:
        time.sleep(seconds)
        os.kill(pid, signal.SIGKILL)
    return os.WIFSIGNALED(os.waitpid(pid, 0)[1])


def epochs(folder):
    return [int(line) for line in (folder / 'epochs').read_text().split()] if (folder / 'epochs').exists() else []


def main(folder, kills):
    chance = random.Random(0)
    report = {'kills': 0, 'while_writing': 0, 'searches': 0, 'differences': []}
    while report['kills'] < kills:
        seed = report['searches']
        reference, interrupted = folder / f'reference{seed}', folder / f'interrupted{seed}'
        reference.mkdir()
        interrupted.mkdir()
        began = time.monotonic()
        killed(seed, reference, None)
        an_epoch = (time.monotonic() - began) / EPOCHS
        before = []
        while True:
            was_killed = killed(seed, interrupted, chance.uniform(0, 2 * an_epoch) if report['kills'] < kills else None)
            report['kills'] += was_killed
            report['while_writing'] += any(interrupted.glob('checkpoints/.*.tmp'))
            now = epochs(interrupted)
            if before and now[len(before):][:1] not in ([], [before[-1]], [before[-1] + 1]):
                report['differences'].append(f'{seed}: {before[-1]} was followed by {now[len(before)]}')
            before = now
            if not was_killed:
                break
        if (interrupted / 'result').read_text() != (reference / 'result').read_text():
            report['differences'].append(f'{interrupted / "result"} is not {reference / "result"}')
        report['searches'] += 1
    print(json.dumps(report))


if __name__ == '__main__':
    main(Path(sys.argv[1]), int(sys.argv[2]))
