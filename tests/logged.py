"""What a LightningModule logs in a search, on whichever host: the training batches alone."""

import pytest
import torch
import torchmetrics

from nni_darts_ext.run import Run


class Mean(torchmetrics.Metric):
    """Of all losses that it has seen."""

    def __init__(self):
        super().__init__()
        self.add_state('total', torch.zeros((), dtype=torch.float64), dist_reduce_fx='sum')
        self.add_state('seen', [], dist_reduce_fx='cat')

    def update(self, loss):
        self.total += loss.detach()
        self.seen.append(loss.detach())

    def compute(self):
        return self.total / len(self.seen)


def logging(module):
    """A module of this class that logs in every way there is; ``training`` are the losses of the training batches, by parity."""
    class Logging(module):
        def __init__(self, *args):
            super().__init__(*args)
            self.mean, self.several, self.calls = Mean(), torchmetrics.MetricCollection([Mean()]), []

        def training_step(self, batch, batch_idx):
            loss = super().training_step(batch, batch_idx)
            self.log('loss', loss, on_epoch=True, on_step=False, batch_size=1)
            self.log_dict({'twice': 2 * loss}, on_epoch=True, on_step=False, batch_size=1)
            self.mean.update(loss)
            self.several.update(loss)
            self.log('mean', self.mean, on_epoch=True, on_step=False, batch_size=1)
            self.log_dict(self.several, on_epoch=True, on_step=False, batch_size=1)
            return loss

        def on_fit_start(self):
            log = self.log
            self.log = lambda name, *args, **kwargs: (self.calls.append(name), log(name, *args, **kwargs))
    return Logging


def check(module, folder, steps, epochs):
    """After a search of so many epochs and steps, whose losses ``module.losses`` has: those of a step end with the weights'."""
    each = len(module.losses) // (steps * epochs)
    training = module.losses[each - 1::each]
    recorded = Run.read(folder).epochs
    assert len(recorded) == epochs and len(module.calls) == 4 * steps * epochs
    for i, epoch in enumerate(recorded):
        mean = sum(training[i * steps:(i + 1) * steps]) / steps
        assert epoch.train == pytest.approx({'loss': mean, 'twice': 2 * mean, 'mean': mean, 'Mean': mean}, rel=1e-6)
