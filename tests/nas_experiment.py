"""Searches with NNI 3.0's NasExperiment over batches that are there already; the evaluator remembers its losses."""

import torch
from nni.nas.evaluator.pytorch import DataLoader, Lightning, LightningModule, Trainer
from nni.nas.experiment import NasExperiment
from torch import nn


class Module(LightningModule):
    def __init__(self, optimizer=lambda weights: torch.optim.SGD(weights, 0.05), loss=nn.functional.cross_entropy):
        super().__init__()
        self.make_optimizer, self.loss, self.losses = optimizer, loss, []

    def forward(self, x):
        return self.model(x)

    def training_step(self, batch, batch_idx):
        x, y = batch
        loss = self.loss(self(x), y)
        self.losses.append(loss.item())
        return loss

    def validation_step(self, batch, batch_idx):
        pass

    def configure_optimizers(self):
        return self.make_optimizer(self.parameters())


def evaluator(module, training, validation, fit_kwargs=None, **trainer):
    options = dict(max_epochs=1, enable_progress_bar=False, enable_model_summary=False, enable_checkpointing=False,
                   logger=False, accelerator='cpu', num_sanity_val_steps=0)
    loaders = [DataLoader(batches, batch_size=None) for batches in (training, validation)]
    return Lightning(module, Trainer(**{**options, **trainer}), *loaders, fit_kwargs=fit_kwargs)


def search(model, darts, module, data, **trainer):
    """Run an experiment to its end; ``data`` holds for each step a training and a validation batch."""
    training, validation = zip(*data)
    experiment = NasExperiment(model, evaluator(module, list(training), list(validation), **trainer), darts)
    try:
        experiment.run()
    finally:
        experiment.stop()
    return experiment
