"""What searches that end early are made of, whichever host they run in."""

import torch
from torch import nn

import nni_darts_ext.nn as dnn
from nni_darts_ext.methods import Method


class Net(dnn.ModelSpace):
    """Dropout, statistics, an edge that is cut, and an InputChoice that names no sources."""

    def __init__(self, width=3, candidates=2):
        super().__init__()
        self.dropout = nn.Dropout(0.3)
        self.a = dnn.LayerChoice({'linear': nn.Linear(width, width), 'skip': nn.Identity()}, key='a')
        self.b = dnn.LayerChoice({'norm': nn.Sequential(nn.Linear(width, width), nn.BatchNorm1d(width)), 'skip': nn.Identity(),
                                  **{f'more{i}': nn.Tanh() for i in range(candidates - 1)}}, key='b')
        self.pick = dnn.InputChoice(2, n_chosen=1, key='pick')
        self.classifier = nn.Linear(width, 2)

    def forward(self, x):
        x = self.dropout(x)
        return self.classifier(self.pick([torch.relu(self.b(x)), self.a(x)]))


class Interrupted(Exception):
    pass


class Counting(Method):
    """A method with a state, which ends the search when it is told to."""

    def __init__(self, last=None):
        self._last, self.losses = last, []

    def after_epoch(self, at, end):
        self.losses.append(end.metrics['train'].get('loss', at.epoch))
        return f'{len(self.losses)} are enough' if len(self.losses) == self._last else None

    def state_dict(self):
        return {'losses': self.losses}

    def load_state_dict(self, state):
        self.losses = list(state['losses'])
