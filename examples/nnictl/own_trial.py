"""Your own trial script for DartsTuner, on scikit-learn's digits: three calls of nni_darts_ext.protocol.

In config.yml: trialCommand: python nnictl/own_trial.py. Outside an experiment it is a search with seed 0.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import digits
import torch
from space import CellSpace
from torch import nn

from nni_darts_ext import DartsTrainer, apply_fixed_architecture, protocol


class ReportEpochs:
    """A callback that reports each epoch to NNI."""

    def __init__(self, trial):
        self.trial = trial

    def build(self, model, mutator, trainer):
        self.trainer = trainer

    def on_epoch_begin(self, epoch):
        pass

    def on_epoch_end(self, epoch):
        self.trial.epoch(self.trainer.history[-1]['valid']['acc'], self.trainer.mutator)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--epochs', type=int, default=10)
    epochs = parser.parse_args().epochs
    trial = protocol.start()
    torch.manual_seed(trial.seed)
    train_set, test_set = digits.load()
    if trial.phase == protocol.SEARCH:
        supernet = CellSpace()
        trainer = DartsTrainer(
            supernet, nn.CrossEntropyLoss(),
            metrics=lambda output, labels: {'acc': (output.argmax(dim=1) == labels).float().mean().item()},
            optimizer=torch.optim.SGD(supernet.parameters(), 0.05, momentum=0.9, weight_decay=3e-4),
            num_epochs=epochs, dataset_train=train_set, dataset_valid=test_set, workers=0,
            callbacks=[ReportEpochs(trial)], arc_learning_rate=trial.hyperparameters.get('arc_learning_rate', 3e-3))
        trainer.train()
        trial.result(trainer.history[-1]['valid']['acc'], trainer.mutator)
    else:
        model = CellSpace()
        model = apply_fixed_architecture(model, trial.architecture_for(model))
        digits.train(model, train_set, epochs * (2 if trial.phase == protocol.FINAL else 1))
        trial.result(digits.accuracy(model, test_set))


if __name__ == '__main__':
    main()
