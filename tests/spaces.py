"""Search spaces for the tests, written for every NNI."""

import math

import torch
from torch import nn

import nni_darts_ext.nn as dnn

NO_KEY = dnn.InputChoice.NO_KEY


class Recorded(dnn.ModelSpace):
    """The space of a recorded answer; its candidates do nothing."""

    def __init__(self, record):
        super().__init__()
        self.edges = nn.ModuleList([
            dnn.LayerChoice({name: nn.Identity() for name in edge['names']} if edge['names']
                            else [nn.Identity() for _ in range(edge['n'])], key=edge['key'])
            for edge in record['layer_choices']])
        self.nodes = nn.ModuleList([
            dnn.InputChoice(choose_from=node['choose_from'], n_chosen=node['n_chosen'], key=node['key'])
            for node in record['input_choices']])


def write_logits(choices, record):
    for edge in record['layer_choices']:
        choices[edge['key']].data.copy_(torch.tensor(edge['logits']))


def candidates(width, n):
    """Up to five different operations on vectors, one of them with running statistics."""
    return [nn.Linear(width, width), nn.Identity(), nn.Sequential(nn.Linear(width, width), nn.Tanh()),
            nn.Sequential(nn.Linear(width, width), nn.BatchNorm1d(width)), nn.Tanh()][:n]


class Cells(dnn.ModelSpace):
    """A chain of cells that share their keys. ``nodes`` holds for each node its candidates per edge, n_chosen and reduction."""

    def __init__(self, nodes, cells=1, width=3, outputs=2, named=False):
        super().__init__()
        self.cells = nn.ModuleList([Cell(nodes, width, named) for _ in range(cells)])
        self.classifier = nn.Linear(width, outputs)

    def forward(self, x):
        for cell in self.cells:
            x = cell(x)
        return self.classifier(x)


class Cell(nn.Module):
    def __init__(self, nodes, width, named):
        super().__init__()
        self.edges, self.inputs = nn.ModuleList(), nn.ModuleList()
        for i, (sizes, n_chosen, reduction) in enumerate(nodes):
            keys = ['node{}_edge{}'.format(i, j) for j in range(len(sizes))]
            self.edges.append(nn.ModuleList([
                dnn.LayerChoice(_named(candidates(width, n)) if named else candidates(width, n), key=key)
                for key, n in zip(keys, sizes)]))
            self.inputs.append(dnn.InputChoice(choose_from=keys, n_chosen=n_chosen, reduction=reduction,
                                               key='node{}'.format(i)))

    def forward(self, x):
        states = [x, torch.sin(x)]
        for edges, inputs in zip(self.edges, self.inputs):
            states.append(inputs([edge(states[j % len(states)]) for j, edge in enumerate(edges)]))
        return states[-1]


def _named(modules):
    return {'op{}'.format(i): module for i, module in enumerate(modules)}


TWO_NODES = [((4, 3), 1, 'sum'), ((5, 2, 3), 2, 'sum')]


def smooth(shape, phase):
    """Numbers that are the same on every machine and every version."""
    n = math.prod(shape) if hasattr(math, 'prod') else int(torch.Size(shape).numel())
    return torch.sin(torch.arange(n, dtype=torch.float64) * 1.7 + phase).reshape(shape)


def write_weights(model):
    """Give each floating parameter of a model the same weights everywhere, by its place among the sorted names."""
    parameters = {name: parameter for name, parameter in model.named_parameters() if '_darts' not in name}
    for i, name in enumerate(sorted(parameters)):
        parameters[name].data = smooth(parameters[name].shape, i) * 0.6
    return model.double()


def batches(n, batch=6, width=3, outputs=2):
    """For each step a training and a validation batch of inputs and labels."""
    def one(phase):
        labels = (smooth((batch,), phase * 3.1) > 0).long()
        return smooth((batch, width), phase), labels % outputs
    return [(one(2 * i), one(2 * i + 1)) for i in range(n)]
