"""A small cell space like that of the DARTS paper, for every NNI.

Each cell has two input nodes and a few intermediate nodes; every edge is a choice among convolutions, poolings and a skip
connection, and every intermediate node keeps its two strongest edges.
"""

from collections import OrderedDict

import torch
from torch import nn

import nni_darts_ext.nn as dnn


def conv_norm(inputs, outputs, kernel=1, stride=1):
    return nn.Sequential(nn.ReLU(), nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False),
                         nn.BatchNorm2d(outputs, affine=False))


class SeparableConv(nn.Sequential):
    """A depthwise convolution followed by a pointwise one."""

    def __init__(self, channels, kernel, stride, dilation=1):
        super().__init__(
            nn.ReLU(),
            nn.Conv2d(channels, channels, kernel, stride, dilation * (kernel // 2), dilation, groups=channels, bias=False),
            nn.Conv2d(channels, channels, 1, bias=False),
            nn.BatchNorm2d(channels, affine=False))


def pool(kind, channels, stride):
    return nn.Sequential(kind(3, stride, 1), nn.BatchNorm2d(channels, affine=False))


def candidates(channels, stride):
    return OrderedDict([
        ('max_pool_3x3', pool(nn.MaxPool2d, channels, stride)),
        ('avg_pool_3x3', pool(nn.AvgPool2d, channels, stride)),
        ('skip_connect', nn.Identity() if stride == 1 else conv_norm(channels, channels, stride=stride)),
        ('sep_conv_3x3', SeparableConv(channels, 3, stride)),
        ('sep_conv_5x5', SeparableConv(channels, 5, stride)),
        ('dil_conv_3x3', SeparableConv(channels, 3, stride, dilation=2)),
    ])


class Node(nn.Module):
    """An intermediate node with one edge from each earlier node; the two strongest edges are kept."""

    def __init__(self, name, sources, channels, reduction):
        super().__init__()
        keys = ['{}_{}'.format(name, source) for source in range(sources)]
        self.edges = nn.ModuleList([
            dnn.LayerChoice(candidates(channels, 2 if reduction and source < 2 else 1), key=key)
            for source, key in enumerate(keys)])
        self.inputs = dnn.InputChoice(choose_from=keys, n_chosen=2, key=name + '_inputs')

    def forward(self, states):
        return self.inputs([edge(state) for edge, state in zip(self.edges, states)])


class Cell(nn.Module):
    def __init__(self, before_last, last, channels, nodes, reduction, after_reduction):
        super().__init__()
        kind = 'reduce' if reduction else 'normal'  # cells of the same kind share their keys and so their architecture
        self.prepare = nn.ModuleList([conv_norm(before_last, channels, stride=2 if after_reduction else 1),
                                      conv_norm(last, channels)])
        self.nodes = nn.ModuleList([Node('{}_{}'.format(kind, 2 + i), 2 + i, channels, reduction) for i in range(nodes)])

    def forward(self, before_last, last):
        states = [self.prepare[0](before_last), self.prepare[1](last)]
        for node in self.nodes:
            states.append(node(states))
        return torch.cat(states[2:], dim=1)


class CellSpace(dnn.ModelSpace):
    """Stem, cells, classifier. ``reductions`` are the cells that halve the resolution and double the channels."""

    def __init__(self, classes=10, channels=8, cells=3, nodes=3, reductions=(1,)):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels))
        before_last = last = channels
        after_reduction = False
        self.cells = nn.ModuleList()
        for i in range(cells):
            reduction = i in reductions
            channels *= 2 if reduction else 1
            self.cells.append(Cell(before_last, last, channels, nodes, reduction, after_reduction))
            before_last, last, after_reduction = last, channels * nodes, reduction
        self.classifier = nn.Linear(last, classes)

    def forward(self, images):
        before_last = last = self.stem(images)
        for cell in self.cells:
            before_last, last = last, cell(before_last, last)
        return self.classifier(last.mean(dim=(2, 3)))
