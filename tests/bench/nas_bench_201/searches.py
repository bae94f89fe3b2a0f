"""One search, by DartsTrainer or by the strategy DARTS, and what it has found after each epoch."""

import json
import math
import resource
import sys
import tempfile
import time
import warnings

import images
import torch
from cells import Table, written
from networks import Network
from torch import nn

from nni_darts_ext.methods import Method, all_named

RATE, LEAST_RATE, WEIGHT_DECAY, CLIP = 0.025, 1e-3, 3e-4, 5.0


class Following(Method):
    """Starts from logits that depend on the seed alone, anneals the learning rate of the weights (a cosine), and records."""

    def __init__(self, seed, record):
        self._seed, self._record = seed, record
        self.optimizer = None

    def attach(self, search):
        draw = torch.Generator().manual_seed(self._seed)
        for key in sorted(search.choices):
            search.choices[key].data = 1e-3 * torch.randn(len(search.choices[key]), generator=draw)

    def before_epoch(self, at):
        for group in self.optimizer.param_groups:
            group['lr'] = LEAST_RATE + (RATE - LEAST_RATE) * (1 + math.cos(math.pi * at.epoch / at.epochs)) / 2
        self._began = time.perf_counter(), time.process_time()

    def record(self, at, end):
        seconds, cpu_seconds = (now - began for now, began in zip((time.perf_counter(), time.process_time()), self._began))
        self._record({'epoch': at.epoch + 1, 'cell': cell_of(at.search), 'seconds': seconds, 'cpu_seconds': cpu_seconds,
                      'metrics': {part: dict(of_part) for part, of_part in end.metrics.items() if part in ('train', 'valid')},
                      'indicators': end.indicators, 'weights': {
                          key: [round(weight, 5) for weight in weights.tolist()]
                          for key, weights in at.search.probabilities().items()}})

    def settings(self):
        return None


def cell_of(search):
    """The derived cell, as the benchmark writes it."""
    return written({key: next((i for i, is_kept in enumerate(kept) if is_kept), None)
                    for key, kept in search.sample_final().items()})


def accuracy(output, labels):
    return {'acc': (output.argmax(dim=1) == labels).float().mean().item()}


def search(setting, record):
    """Search once; ``record`` is called with a dict after each epoch. Returns what is known at the end, a dict."""
    torch.set_num_threads(1)
    torch.manual_seed(setting['seed'])
    pictures, labels = images.load(setting['images'], setting['limit'])
    half, size = len(pictures) // 2, setting['batch_size']
    halves = [images.Batches(pictures[part], labels[part], size, 2 * setting['seed'] + i)
              for i, part in enumerate((slice(half), slice(half, None)))]
    held_out = images.Batches(pictures[half:], labels[half:], 4 * size)
    following = Following(setting['seed'], record)
    methods = all_named(setting['methods'])
    host = in_strategy if setting['strategy'] else in_trainer
    network = Network(setting['channels'], setting['cells'], partial_channels=setting['partial_channels'])
    found, stopped = host(setting, network, halves, held_out, following, [*methods, following])
    return {'cell': cell_of(found), 'stopped': stopped, 'peak': resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}


def in_trainer(setting, network, halves, held_out, following, methods):
    from nni_darts_ext import DartsTrainer
    following.optimizer = optimizer_of(network)
    trainer = DartsTrainer(
        network, nn.CrossEntropyLoss(), accuracy, following.optimizer, setting['epochs'], dataset_train=halves,
        dataset_valid=held_out, workers=0, progress=False, channels_last=True, unrolled=setting['unrolled'], grad_clip=CLIP,
        methods=methods)
    trainer.train()
    return trainer.mutator, trainer.stopped


def in_strategy(setting, network, halves, held_out, following, methods):
    """NNI 3.0's experiment."""
    from nni.nas.evaluator.pytorch import Lightning, LightningModule, Trainer
    from nni.nas.experiment import NasExperiment

    from nni_darts_ext import DARTS

    class Classifier(LightningModule):
        def training_step(self, batch, batch_idx):
            return nn.functional.cross_entropy(self.model(batch[0]), batch[1])

        def validation_step(self, batch, batch_idx):
            pass

        def configure_optimizers(self):
            following.optimizer = optimizer_of(self)
            return following.optimizer

    strategy = DARTS(unrolled=setting['unrolled'], channels_last=True, gradient_clip_val=CLIP, methods=methods)
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')  # of Lightning's, about few workers and the like
        evaluator = Lightning(Classifier(), Trainer(
            max_epochs=setting['epochs'], enable_progress_bar=False, enable_model_summary=False, logger=False, accelerator='cpu',
            num_sanity_val_steps=0, enable_checkpointing=False), *halves)
        experiment = NasExperiment(network, evaluator, strategy)
        experiment.config.experiment_working_directory = tempfile.mkdtemp()
        try:
            experiment.run()
        finally:
            experiment.stop()
    return strategy.search, None


def optimizer_of(module):
    return torch.optim.SGD(module.parameters(), RATE, momentum=0.9, weight_decay=WEIGHT_DECAY, nesterov=True)


def run(setting):
    """Search as ``setting`` says and write a line of JSON for each epoch, and one for the end, into its file."""
    table = Table(setting['table'])
    with open(setting['file'], 'w') as file:
        def record(found):
            found = {**found, 'accuracy': table.accuracies[found['cell']], 'better': table.better(found['cell'])}
            file.write(json.dumps(found) + '\n')
            file.flush()
            if 'epoch' in found:
                print('{name}, seed {seed}, epoch {epoch}: {accuracy:.2f} %, {better:.1f} % of all cells are better, {cell}, '
                      '{cpu_seconds:.0f} s'.format(name=setting['name'], seed=setting['seed'], **found),
                      file=sys.stderr, flush=True)
        record(search(setting, record))
