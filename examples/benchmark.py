"""The search step against NNI's own, side by side on the paper's space, by NNI's own trainer (2.0 - 2.8) or strategy (3.0).

Both sides take whole epochs of first-order steps on the same random images, in turns, so that what else the machine does
hits both.
"""

import argparse
import statistics
import time

import torch
from paper import PaperSpace
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import nni_darts_ext


def images(n):
    return TensorDataset(torch.randn(n, 3, 32, 32), torch.randint(10, (n,)))


def trainer_of(trainer_class, mutator_class, arguments, **options):
    torch.manual_seed(0)
    model = PaperSpace(arguments.channels, arguments.cells, arguments.nodes)
    data = images(2 * arguments.steps * arguments.batch_size)
    trainer = trainer_class(
        model, loss=nn.CrossEntropyLoss(), metrics=lambda output, labels: {}, num_epochs=1, dataset_train=data,
        dataset_valid=data, mutator=mutator_class(model), batch_size=arguments.batch_size, workers=0, device=torch.device('cpu'),
        optimizer=torch.optim.SGD(model.parameters(), 0.025, momentum=0.9, weight_decay=3e-4), **options)
    return lambda: trainer.train_one_epoch(-1)


def strategy_of(strategy, arguments, **options):
    import warnings

    from nni.nas.evaluator.pytorch import Lightning, LightningModule, Trainer
    from nni.nas.experiment import NasExperiment
    warnings.simplefilter('ignore')
    took = []

    class Module(LightningModule):
        def forward(self, x):
            return self.model(x)

        def training_step(self, batch, batch_idx):
            return nn.functional.cross_entropy(self.model(batch[0]), batch[1])

        def validation_step(self, batch, batch_idx):
            pass

        def configure_optimizers(self):
            return torch.optim.SGD(self.model.parameters(), 0.025, momentum=0.9, weight_decay=3e-4)

        def on_train_batch_start(self, *batch):
            self.began = time.perf_counter()

        def on_train_batch_end(self, *batch):
            took.append(time.perf_counter() - self.began)

    def run():
        torch.manual_seed(0)
        took.clear()
        data = images(arguments.steps * arguments.batch_size)
        trainer = Trainer(max_epochs=1, enable_progress_bar=False, enable_model_summary=False, enable_checkpointing=False,
                          logger=False, accelerator='cpu', num_sanity_val_steps=0)
        loaders = [DataLoader(data, arguments.batch_size) for _ in range(2)]
        model = PaperSpace(arguments.channels, arguments.cells, arguments.nodes)
        experiment = NasExperiment(model, Lightning(Module(), trainer, *loaders), strategy(**options))
        try:
            experiment.run()
        finally:
            experiment.stop()
        return statistics.median(took[1:])
    return run


def timed(epoch, steps):
    began = time.perf_counter()
    epoch()
    return (time.perf_counter() - began) / steps


def sides(arguments):
    """Two functions, NNI's and ours, that give the seconds of a step."""
    try:
        from nni.algorithms.nas.pytorch.darts import DartsMutator, DartsTrainer
    except ImportError:
        from nni.nas.strategy import DARTS
        return strategy_of(DARTS, arguments), strategy_of(nni_darts_ext.DARTS, arguments, channels_last=arguments.channels_last)
    theirs = trainer_of(DartsTrainer, DartsMutator, arguments)
    ours = trainer_of(nni_darts_ext.DartsTrainer, nni_darts_ext.DartsMutator, arguments, channels_last=arguments.channels_last)
    return (lambda: timed(theirs, arguments.steps)), (lambda: timed(ours, arguments.steps))


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--channels', type=int, default=8)
    parser.add_argument('--cells', type=int, default=5)
    parser.add_argument('--nodes', type=int, default=4)
    parser.add_argument('--batch-size', type=int, default=16)
    parser.add_argument('--steps', type=int, default=3, help='of each measurement')
    parser.add_argument('--channels-last', action='store_true')
    parser.add_argument('--rounds', type=int, default=5)
    arguments = parser.parse_args()
    theirs, ours = sides(arguments)
    theirs(), ours()
    ratios = []
    for _ in range(arguments.rounds):
        nnis, own = theirs(), ours()
        ratios.append(own / nnis)
        print('NNI {:.3f} s, nni_darts_ext {:.3f} s a step: {:.2f}'.format(nnis, own, ratios[-1]), flush=True)
    print('median {:.2f}, from {:.2f} to {:.2f}, of the time of NNI {}'.format(
        statistics.median(ratios), min(ratios), max(ratios), __import__('nni').__version__))


if __name__ == '__main__':
    main()
