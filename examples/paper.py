"""The convolutional search space of the DARTS paper (Liu et al., section 3.1), for images of three channels, on every NNI.

The paper's "none" is not among the candidates, because every LayerChoice already has a zero op.
"""

from collections import OrderedDict

import torch
from torch import nn

import nni_darts_ext.nn as dnn


def norm(channels):
    return nn.BatchNorm2d(channels, affine=False)


def relu_conv_norm(inputs, outputs):
    return nn.Sequential(nn.ReLU(), nn.Conv2d(inputs, outputs, 1, bias=False), norm(outputs))


class FactorizedReduce(nn.Module):
    """Halves the resolution by two 1x1 convolutions, one on even and one on odd pixels."""

    def __init__(self, inputs, outputs):
        super().__init__()
        self.even = nn.Conv2d(inputs, outputs // 2, 1, 2, bias=False)
        self.odd = nn.Conv2d(inputs, outputs - outputs // 2, 1, 2, bias=False)
        self.norm = norm(outputs)

    def forward(self, x):
        x = torch.relu(x)
        return self.norm(torch.cat([self.even(x), self.odd(x[:, :, 1:, 1:])], dim=1))


def pool(kind, channels, stride):
    options = {'count_include_pad': False} if kind is nn.AvgPool2d else {}
    return nn.Sequential(kind(3, stride, 1, **options), norm(channels))


def depthwise(channels, kernel, stride, dilation=1):
    padding = dilation * (kernel - 1) // 2
    return [nn.ReLU(), nn.Conv2d(channels, channels, kernel, stride, padding, dilation, groups=channels, bias=False),
            nn.Conv2d(channels, channels, 1, bias=False), norm(channels)]


def candidates(channels, stride):
    return OrderedDict([
        ('max_pool_3x3', pool(nn.MaxPool2d, channels, stride)),
        ('avg_pool_3x3', pool(nn.AvgPool2d, channels, stride)),
        ('skip_connect', nn.Identity() if stride == 1 else FactorizedReduce(channels, channels)),
        ('sep_conv_3x3', nn.Sequential(*depthwise(channels, 3, stride), *depthwise(channels, 3, 1))),
        ('sep_conv_5x5', nn.Sequential(*depthwise(channels, 5, stride), *depthwise(channels, 5, 1))),
        ('dil_conv_3x3', nn.Sequential(*depthwise(channels, 3, stride, 2))),
        ('dil_conv_5x5', nn.Sequential(*depthwise(channels, 5, stride, 2))),
    ])


class Cell(nn.Module):
    def __init__(self, before_last, last, channels, nodes, reduction, after_reduction, candidates):
        super().__init__()
        kind = 'reduce' if reduction else 'normal'  # cells of the same kind share their keys and so their architecture
        self.prepare = nn.ModuleList([
            (FactorizedReduce if after_reduction else relu_conv_norm)(before_last, channels), relu_conv_norm(last, channels)])
        self.edges, self.inputs = nn.ModuleList(), nn.ModuleList()
        for i in range(nodes):
            keys = ['{}_{}_{}'.format(kind, 2 + i, source) for source in range(2 + i)]
            self.edges.append(nn.ModuleList([
                dnn.LayerChoice(candidates(channels, 2 if reduction and source < 2 else 1), key=key)
                for source, key in enumerate(keys)]))
            self.inputs.append(dnn.InputChoice(choose_from=keys, n_chosen=2, key='{}_{}_inputs'.format(kind, 2 + i)))

    def forward(self, before_last, last):
        states = [self.prepare[0](before_last), self.prepare[1](last)]
        for edges, inputs in zip(self.edges, self.inputs):
            states.append(inputs([edge(state) for edge, state in zip(edges, states)]))
        return torch.cat(states[2:], dim=1)


class PaperSpace(dnn.ModelSpace):
    """The defaults are those of the paper's search on CIFAR-10: 16 channels, and 8 cells of 4 nodes."""

    def __init__(self, channels=16, cells=8, nodes=4, classes=10, candidates=candidates):
        super().__init__()
        before_last = last = 3 * channels
        self.stem = nn.Sequential(nn.Conv2d(3, last, 3, padding=1, bias=False), nn.BatchNorm2d(last))
        after_reduction = False
        self.cells = nn.ModuleList()
        for i in range(cells):
            reduction = i in (cells // 3, 2 * cells // 3)
            channels *= 2 if reduction else 1
            self.cells.append(Cell(before_last, last, channels, nodes, reduction, after_reduction, candidates))
            before_last, last, after_reduction = last, channels * nodes, reduction
        self.classifier = nn.Linear(last, classes)

    def forward(self, images):
        before_last = last = self.stem(images)
        for cell in self.cells:
            before_last, last = last, cell(before_last, last)
        return self.classifier(last.mean(dim=(2, 3)))
