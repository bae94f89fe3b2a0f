"""InputChoices that name no sources, on every host."""

import torch
from torch import nn

import nni_darts_ext.nn as dnn
from nni_darts_ext import DartsMutator


class Unnamed(dnn.ModelSpace):
    """Two edges, of which the second is the stronger; the first candidate is the second edge, through a norm."""

    def __init__(self, n_chosen=1):
        super().__init__()
        self.a = dnn.LayerChoice([nn.Linear(3, 3), nn.Identity()], key='a')
        self.b = dnn.LayerChoice([nn.Linear(3, 3), nn.Identity()], key='b')
        self.norm = nn.BatchNorm1d(3)
        self.pick = dnn.InputChoice(3, n_chosen=n_chosen, key='pick')

    def forward(self, x):
        return self.pick([torch.relu(self.norm(self.b(x))), self.a(x), x])


def strengthen(choices, key, by=3.0):
    choices[key].data[:] = torch.tensor([0.0, by, 0.0])


def test_the_mutator_finds_them_out_and_derives_by_them():
    model = Unnamed()
    mutator = DartsMutator(model)
    strengthen(mutator.choices, 'b')
    mutator.reset()
    model(torch.randn(4, 3))
    assert mutator.choose_from == {'pick': ('b', 'a', '')}
    assert mutator.export() == {'a': [], 'b': 1, 'pick': 0}  # by index, for the model's InputChoice has no names
    strengthen(mutator.choices, 'a')
    strengthen(mutator.choices, 'b', by=1.0)
    names = mutator.space.edges['a'].names  # numbers on some hosts, strings on others
    assert mutator.export('sample') == {'a': names[1], 'b': names[1], 'pick': [1]}


def test_naming_them_goes_first():
    mutator = DartsMutator(Unnamed(), choose_from={'pick': ['a', 'b', 'a']})
    assert mutator.choose_from == {'pick': ('a', 'b', 'a')}
    strengthen(mutator.choices, 'a', by=1.0)
    strengthen(mutator.choices, 'b')
    assert mutator.export()['pick'] == 1
