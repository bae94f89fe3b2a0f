"""InputChoices that name no sources, on every host."""

import torch
from torch import nn

import nni_darts_ext.nn as dnn
from nni_darts_ext import DartsMutator
from nni_darts_ext.core.sources import SourceFinder


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


class Readers(dnn.ModelSpace):
    """Edge a is read by edge b, b by the InputChoice, c by it and by the output, and the InputChoice by d."""

    def __init__(self):
        super().__init__()
        for key in 'abcd':
            setattr(self, key, dnn.LayerChoice([nn.Linear(3, 3), nn.Identity()], key=key))
        self.norm = nn.BatchNorm1d(3)
        self.pick = dnn.InputChoice(2, n_chosen=1, key='pick')

    def forward(self, x):
        c = self.c(x)
        picked = self.pick([torch.relu(self.b(self.norm(self.a(x)))), c])
        return {'logits': self.d(picked), 'features': [c]}


def test_the_first_pass_with_gradients_shows_what_reads_each_edge():
    model = Readers()
    mutator = DartsMutator(model)
    mutator.reset()
    with torch.no_grad():
        model(torch.randn(4, 3))
    assert mutator.space.readers is None
    model(torch.randn(4, 3))
    assert mutator.space.readers == {'a': {'b'}, 'b': {('pick', 0)}, 'c': {('pick', 1), None}, 'd': {None}}
    hooks = [*model._forward_hooks.values(), *model._forward_pre_hooks.values()]
    assert not any(isinstance(hook.__self__, SourceFinder) for hook in hooks)  # it looks no longer


def test_what_a_search_has_found_out_outlives_it():
    model = Readers()
    mutator = DartsMutator(model)
    mutator.reset()
    model(torch.randn(4, 3))
    strengthen(mutator.choices, 'b')
    resumed = DartsMutator(Readers())  # makes no forward pass
    resumed.choices.load_state_dict(mutator.choices.state_dict())
    resumed.name_sources(mutator.sources_found())
    resumed.name_readers(mutator.readers_found())
    assert resumed.space.readers == mutator.space.readers
    assert resumed.export() == mutator.export()
    assert all(decision.any() for decision in resumed.sample_final().values())
    strengthen(mutator.choices, 'c', by=4.0)
    assert [key for key, chosen in mutator.export().items() if chosen == []] == ['a', 'b']  # what only a dropped edge reads


class Shared(dnn.ModelSpace):
    """One InputChoice for the outputs of other edges each time."""

    def __init__(self):
        super().__init__()
        self.edges = nn.ModuleList([dnn.LayerChoice([nn.Linear(3, 3), nn.Identity()], key=key) for key in 'abcd'])
        self.pick = dnn.InputChoice(2, n_chosen=1, key='pick')

    def forward(self, x):
        a, b, c, d = (edge(x) for edge in self.edges)
        return self.pick([a, b]) + self.pick([c, d])


def test_an_input_choice_with_other_sources_in_another_place_is_reported(caplog):
    model = Shared()
    mutator = DartsMutator(model)
    mutator.reset()
    model(torch.randn(4, 3))
    assert mutator.choose_from == {'pick': ('a', 'b')}
    assert "'pick' chooses from ['a', 'b'] in one place and from ['c', 'd'] in another" in caplog.text
