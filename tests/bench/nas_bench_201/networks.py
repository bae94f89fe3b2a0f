"""The search space of NAS-Bench-201 (X. Dong, Y. Yang, "NAS-Bench-201: Extending the Scope of Reproducible Neural Architecture
Search", ICLR 2020, section 2), on every NNI.

A cell of four nodes, whose node j is the sum over all i < j of the edge j<-i. The benchmark's operation "none" is the zero op,
which every LayerChoice has, and so is no candidate.
"""

from collections import OrderedDict

import torch
from torch import nn

import nni_darts_ext.nn as dnn

NODES = 4
EDGES = [(j, i) for j in range(1, NODES) for i in range(j)]
OPERATIONS = ('skip_connect', 'nor_conv_1x1', 'nor_conv_3x3', 'avg_pool_3x3')


def relu_conv_norm(inputs, outputs, kernel, stride=1):
    return nn.Sequential(nn.ReLU(), nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False),
                         nn.BatchNorm2d(outputs, affine=False))


def candidates(channels):
    return OrderedDict([('skip_connect', nn.Identity()), ('nor_conv_1x1', relu_conv_norm(channels, channels, 1)),
                        ('nor_conv_3x3', relu_conv_norm(channels, channels, 3)),
                        ('avg_pool_3x3', nn.AvgPool2d(3, 1, 1, count_include_pad=False))])


def key(j, i):
    return '{}<-{}'.format(j, i)


class Cell(nn.Module):
    def __init__(self, channels, partial_channels):
        super().__init__()
        self.edges = nn.ModuleList([
            dnn.PartialChannels(lambda channels, j=j, i=i: dnn.LayerChoice(candidates(channels), key(j, i)), channels,
                                partial_channels) for j, i in EDGES])

    def forward(self, x):
        states = [x]
        for j in range(1, NODES):
            states.append(sum(self.edges[EDGES.index((j, i))](states[i]) for i in range(j)))
        return states[-1]


class Reduction(nn.Module):
    """A residual block that halves the image and doubles the channels."""

    def __init__(self, channels):
        super().__init__()
        self.block = nn.Sequential(relu_conv_norm(channels, 2 * channels, 3, 2), relu_conv_norm(2 * channels, 2 * channels, 3))
        self.shortcut = nn.Sequential(nn.AvgPool2d(2), nn.Conv2d(channels, 2 * channels, 1, bias=False))

    def forward(self, x):
        return self.block(x) + self.shortcut(x)


class Network(dnn.ModelSpace):
    """Three stages of cells, which share their architecture, with reductions between them.

    One part of ``partial_channels`` of the channels runs through each edge; default 1, all of them.
    """

    def __init__(self, channels=16, cells=5, classes=10, partial_channels=1):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels))
        layers = []
        for stage in range(3):
            if stage:
                layers.append(Reduction(channels))
                channels *= 2
            layers += [Cell(channels, partial_channels) for _ in range(cells)]
        self.layers = nn.Sequential(*layers)
        self.norm = nn.Sequential(nn.BatchNorm2d(channels), nn.ReLU())
        self.classifier = nn.Linear(channels, classes)

    def forward(self, images):
        features = self.norm(self.layers(self.stem(images)))
        return self.classifier(torch.mean(features, dim=(2, 3)))
