"""One search, and what it has found after each epoch."""

import json
import math
import resource
import sys
import time

import images
import torch
from cells import Table, written
from networks import Network
from torch import nn

import nni_darts_ext.nn as dnn
from nni_darts_ext import DartsTrainer
from nni_darts_ext.methods import all_named

LEARNING_RATE, LEAST_LEARNING_RATE = 0.025, 1e-3


class Watching:
    """A callback: the cosine schedule of the learning rate, and a record of each epoch."""

    def __init__(self, record):
        self._record = record

    def build(self, model, mutator, trainer):
        self._mutator, self._trainer = mutator, trainer

    def on_epoch_begin(self, epoch):
        share = (1 + math.cos(math.pi * epoch / self._trainer.num_epochs)) / 2
        for group in self._trainer.optimizer.param_groups:
            group['lr'] = LEAST_LEARNING_RATE + (LEARNING_RATE - LEAST_LEARNING_RATE) * share
        self._began = time.perf_counter(), time.process_time()

    def on_epoch_end(self, epoch):
        seconds, cpu_seconds = (now - began for now, began in zip((time.perf_counter(), time.process_time()), self._began))
        history = self._trainer.history[-1]
        self._record({
            'epoch': epoch + 1, 'cell': cell_of(self._mutator), 'seconds': seconds, 'cpu_seconds': cpu_seconds,
            'train': history['train'], 'valid': history.get('valid', {}), 'collapse': history.get('collapse', {}),
            'weights': {key: [round(float(weight), 5) for weight in weights]
                        for key, weights in self._mutator.probabilities().items()}})

    def on_batch_begin(self, epoch):
        pass

    def on_batch_end(self, epoch):
        pass


def cell_of(mutator):
    """The derived cell, as the benchmark writes it."""
    return written({key: next((i for i, kept in enumerate(kept_or_not) if kept), None)
                    for key, kept_or_not in mutator.sample_final().items()})


def search(setting, record, made=all_named):
    """Search once; ``record`` is called with a dict after each epoch. Returns what is known at the end, a dict."""
    torch.set_num_threads(1)
    torch.manual_seed(setting['seed'])
    pictures, labels = images.load(setting['images'], setting['limit'])
    half = len(pictures) // 2
    halves = [images.Batches(pictures[part], labels[part], setting['batch_size']) for part in (slice(half), slice(half, None))]
    unmoved = images.Batches(pictures[half:], labels[half:], 4 * setting['batch_size'], augmented=False)
    edge = dnn.LayerChoice
    network = Network(setting['channels'], setting['cells'], edge=edge)
    trainer = DartsTrainer(
        network, nn.CrossEntropyLoss(), lambda output, labels: {'acc': (output.argmax(1) == labels).float().mean().item()},
        torch.optim.SGD(network.parameters(), LEARNING_RATE, momentum=0.9, weight_decay=3e-4, nesterov=True),
        setting['epochs'], dataset_train=halves, dataset_valid=unmoved, workers=0, progress=False, callbacks=[Watching(record)],
        unrolled=setting['unrolled'], methods=made(setting['methods']))
    trainer.train()
    return {'cell': cell_of(trainer.mutator), 'stopped': trainer.stopped,
            'peak': resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}


def run(job):
    table = Table(job['table'])
    with open(job['file'], 'w') as file:
        def record(what):
            what['accuracy'] = table.accuracies[what['cell']]
            what['better'] = table.rank(what['cell'])
            file.write(json.dumps(what) + '\n')
            file.flush()
            if 'epoch' in what:
                print(job['name'], job['seed'], what['epoch'], what['accuracy'], round(what['better'], 2), what['cell'], round(what['seconds'], 1),
                  file=sys.stderr, flush=True)
        record(search(job, record))
