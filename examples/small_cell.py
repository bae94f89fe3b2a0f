"""A search space of one small cell, in which the architecture matters more than in ``space.py``, for every NNI.

The candidates of an edge are the operations of NAS-Bench-201 (X. Dong, Y. Yang, "NAS-Bench-201: Extending the Scope of
Reproducible Neural Architecture Search", ICLR 2020, arXiv 2001.00326).
"""

from collections import OrderedDict

from space import conv_norm
from torch import nn

import nni_darts_ext.nn as dnn


def candidates(channels):
    return OrderedDict([
        ('skip_connect', nn.Identity()),
        ('avg_pool_3x3', nn.AvgPool2d(3, 1, 1, count_include_pad=False)),
        ('conv_1x1', conv_norm(channels, channels)),
        ('conv_3x3', conv_norm(channels, channels, 3)),
    ])


class SmallCell(nn.Module):
    """Node 0 is the input. Each node after it adds up its two strongest edges, and the last one is the output."""

    def __init__(self, channels, nodes):
        super().__init__()
        self.edges, self.inputs = nn.ModuleList(), nn.ModuleList()
        for node in range(1, nodes + 1):
            keys = ['normal_{}_{}'.format(node, source) for source in range(node)]
            self.edges.append(nn.ModuleList([dnn.LayerChoice(candidates(channels), key=key) for key in keys]))
            self.inputs.append(dnn.InputChoice(choose_from=keys, n_chosen=min(2, node), key='normal_{}_inputs'.format(node)))

    def forward(self, image):
        states = [image]
        for edges, inputs in zip(self.edges, self.inputs):
            states.append(inputs([edge(state) for edge, state in zip(edges, states)]))
        return states[-1]


class SmallSpace(dnn.ModelSpace):
    """Stem, a cell, half the resolution and twice the channels, the same cell again, classifier."""

    def __init__(self, classes=10, channels=8, nodes=3):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(1, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels),
            SmallCell(channels, nodes),
            nn.AvgPool2d(2), nn.Conv2d(channels, 2 * channels, 1, bias=False), nn.BatchNorm2d(2 * channels),
            SmallCell(2 * channels, nodes),
            nn.BatchNorm2d(2 * channels), nn.ReLU())
        self.classifier = nn.Linear(2 * channels, classes)

    def forward(self, images):
        return self.classifier(self.layers(images).mean(dim=(2, 3)))
