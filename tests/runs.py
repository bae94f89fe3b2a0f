"""Runs for reading and drawing, written without a search, with logits that drift in a reproducible way."""

import math
import random

from nni_darts_ext.run import Epoch, InputRecord, SpaceRecord, now
from nni_darts_ext.run.writer import Writer

NAMES = ('max_pool_3x3', 'avg_pool_3x3', 'skip_connect', 'sep_conv_3x3', 'sep_conv_5x5', 'dil_conv_3x3', 'dil_conv_5x5',
         'conv_7x1_1x7')


def cell(kind, nodes, names, n_inputs=2, n_chosen=2):
    """The edges and inputs of a cell, with keys as in the examples."""
    edges, inputs = {}, {}
    for node in range(n_inputs, n_inputs + nodes):
        keys = [f'{kind}_{node}_{source}' for source in range(node)]
        edges.update(dict.fromkeys(keys, tuple(names)))
        inputs[f'{kind}_{node}_inputs'] = InputRecord(tuple(keys), n_chosen)
    return SpaceRecord(edges, inputs)


def together(*spaces):
    return SpaceRecord({key: names for space in spaces for key, names in space.edges.items()},
                 {key: node for space in spaces for key, node in space.inputs.items()})


SPACES = {  # by what is special about each
    'two edges of two': cell('cell', 1, ('conv', 'skip'), n_chosen=1),
    'nine edges of six': cell('normal', 3, NAMES[:6]),
    'fourteen edges of eight': cell('normal', 4, NAMES),
    'two kinds of cells': together(cell('normal', 4, NAMES[:7]), cell('reduce', 4, NAMES[:7])),
    'no inputs': SpaceRecord({'blocks.0': ('mb_conv_3x3', 'mb_conv_5x5'), 'blocks.1': (0, 1, 2), 'head': ('linear', 'mlp')}, {}),
    'of all sorts': SpaceRecord({'stem': ('conv_3x3', 'conv_5x5'), 'a': ('linear', 'skip'), 'b': ('linear', 'tanh', 'skip')},
                          {'inputs': InputRecord(('a', 'b', ''), 1), 'unfed': InputRecord(('', ''), None)}),
}


def epoch(space, number, seed=0, n=12, seconds=2.5):
    """The record of an epoch."""
    weights, architecture = {}, {}
    for key, names in space.edges.items():
        drift = random.Random(f'{seed} {key}'.encode('utf-8', 'surrogatepass'))
        logits = [drift.gauss(0, 0.4) + drift.gauss(0, 2.5) * (number + 1) / n for _ in (*names, 'zero op')]
        masses = [math.exp(logit) for logit in logits]
        weights[key] = [mass / sum(masses) for mass in masses]
        architecture[key] = [max(range(len(names)), key=lambda i: weights[key][i])]
    for key, node in space.inputs.items():
        strengths = [max(weights[source][:-1]) if source else 0 for source in node.choose_from]
        order = sorted(range(len(strengths)), key=lambda i: -strengths[i])
        architecture[key] = sorted(order[:node.n_chosen])
        for i in order[len(architecture[key]):]:
            if node.choose_from[i]:
                architecture[node.choose_from[i]] = []
    noise = random.Random(f'{seed} {number}')
    progress = 1 - math.exp(-(number + 1) / 4)
    return Epoch(number, seconds, now(), {'acc': 0.97 * progress, 'loss': 2.3 - 2.1 * progress},
                 {'acc': 0.92 * progress + noise.uniform(-0.02, 0.02), 'loss': 2.3 - 1.9 * progress + noise.uniform(-0.05, 0.05)},
                 weights, {'skip_share': number / n / 2, 'entropy': 1 - 0.4 * progress, 'movement': 0.05 * (1 - progress)},
                 architecture)


def write(folder, space, epochs=12, seed=0, **options):
    """Write a finished run."""
    with Writer(folder, space, {'learning_rate': 0.05, 'seed': seed}, epochs, {'nni_darts_ext': '0.1.0'}, **options) as writer:
        for number in range(epochs):
            writer.epoch(epoch(space, number, seed, epochs))
    return folder
