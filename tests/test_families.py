"""All families that the installed NNI offers, against each other and against the core, on the same weights and data."""

import itertools
import sys

import pytest
import repeated_batch
import ten_steps
import torch
from conftest import OFFERED
from spaces import TWO_NODES, Cells, batches, write_weights
from torch import nn

import nni_darts_ext
import nni_darts_ext.nn as dnn
from nni_darts_ext import DartsTrainer, HostNotSupported, SearchSpaceError, apply_fixed_architecture, hosts
from nni_darts_ext.core.edge.mixture import mix, reduce
from nni_darts_ext.core.logits import Logits

WITH_CHOICES = [family for family in ('classic', 'retiarii', 'nas') if OFFERED[family] is None]


def built(family, monkeypatch, build=lambda: write_weights(Cells(TWO_NODES, cells=2, named=True))):
    """A search space of the family's choices, and its mutator."""
    monkeypatch.setenv(hosts.PREFERENCE, family)
    model = build()
    mutator = hosts.of_model(model).DartsMutator(model).double()
    for i, logits in enumerate(mutator.choices.values()):
        logits.data = torch.sin(torch.arange(len(logits), dtype=torch.float64) * (i + 2))
    return model, mutator


@pytest.mark.parametrize('family', WITH_CHOICES)
def test_mutator_and_trainer_take_the_recorded_ten_steps(family, monkeypatch):
    monkeypatch.setenv(hosts.PREFERENCE, family)
    model, data = ten_steps.model_and_data()
    mutator = hosts.of_model(model).DartsMutator(model).double()
    ten_steps.assert_same(ten_steps.run(model, mutator, data), ten_steps.recorded(), 1e-9)

    model, data = ten_steps.model_and_data()
    trainer = DartsTrainer(model, nn.CrossEntropyLoss(), lambda output, labels: {}, ten_steps.optimizers(
        model.parameters(), [torch.zeros(1)])[0], 1, tuple(zip(*data)), device='cpu', arc_learning_rate=ten_steps.ARC_LR)
    assert type(trainer.mutator) is type(mutator)
    trainer.mutator.double()
    ten_steps.start_logits(trainer.mutator.choices)
    trainer.fit()
    ten_steps.assert_same({'logits': {key: logits.tolist() for key, logits in trainer.mutator.choices.items()}},
                          ten_steps.recorded(), 1e-9)


@pytest.mark.parametrize('family', WITH_CHOICES)
def test_under_autocast_a_loop_of_ones_own_learns_as_it_does_in_32_bits(family, monkeypatch):
    monkeypatch.setenv(hosts.PREFERENCE, family)

    def losses():
        model = repeated_batch.model()
        mutator = hosts.of_model(model).DartsMutator(model)
        optimizer, found = repeated_batch.optimizer(model.parameters()), []
        for (x, y), _ in repeated_batch.data():
            mutator.reset()
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(x), y)
            loss.backward()
            optimizer.step()
            found.append(loss.item())
        return found
    repeated_batch.check(losses)


@pytest.mark.parametrize('unrolled', [True, 'exact', 'finite_difference'])
@pytest.mark.parametrize('family', WITH_CHOICES)
def test_the_second_order_of_the_trainer_is_the_cores(family, unrolled, monkeypatch):
    expected = ten_steps.unrolled_by_the_core(unrolled)
    monkeypatch.setenv(hosts.PREFERENCE, family)
    model, data = ten_steps.model_and_data()
    for_weights, _ = ten_steps.optimizers(model.parameters(), [torch.zeros(1)])
    trainer = DartsTrainer(model, nn.CrossEntropyLoss(), lambda output, labels: {}, for_weights, 1, tuple(zip(*data[:4])),
                           device='cpu', arc_learning_rate=ten_steps.ARC_LR, unrolled=unrolled)
    trainer.mutator.double()
    ten_steps.start_logits(trainer.mutator.choices)
    trainer.fit()
    found = {key: logits.tolist() for key, logits in trainer.mutator.choices.items()}
    ten_steps.assert_same({'logits': found}, {'logits': expected}, 1e-9)
    assert max(abs(one - other) for key in found  # and it is another than the first
               for one, other in zip(found[key], first_order()[key])) > 1e-6


def first_order():
    from nni_darts_ext import DartsMutator
    model, data = ten_steps.model_and_data()
    return ten_steps.run(model, DartsMutator(model).double(), data[:4])['logits']


def by_the_core(model, choices, x):
    """The supernet's output from the core alone; only the candidates are the model's."""
    for cell in model.cells:
        states = [x, torch.sin(x)]
        for i, edges in enumerate(cell.edges):
            outputs = []
            for j, edge in enumerate(edges):
                key = 'node{}_edge{}'.format(i, j)
                relaxed = choices.relax(key)
                outputs.append(mix(list(edge.children())[:len(relaxed.weights)], relaxed, (states[j % len(states)],), {}))
            states.append(reduce(outputs, 'sum'))
        x = states[-1]
    return model.classifier(x)


@pytest.mark.parametrize('family', WITH_CHOICES)
def test_the_supernet_computes_what_the_core_says(family, monkeypatch):
    model, mutator = built(family, monkeypatch)
    choices = Logits()
    for key, logits in mutator.choices.items():
        choices[key] = nn.Parameter(logits.detach().clone())
    x = batches(1)[0][0][0]
    mutator.reset()
    assert torch.equal(model.eval()(x), by_the_core(model, choices, x))


@pytest.mark.parametrize('form', ['classic', 'sample'])
@pytest.mark.parametrize('searched, applied', list(itertools.product(WITH_CHOICES, repeat=2)))
def test_what_one_family_exports_is_the_same_network_in_the_other(searched, applied, form, monkeypatch):
    model, mutator = built(searched, monkeypatch)
    fresh, _ = built(applied, monkeypatch)
    architecture = mutator.export(form)
    x = batches(1)[0][0][0]
    one, other = (apply_fixed_architecture(each, architecture).eval()(x) for each in (model, fresh))
    assert torch.equal(one, other)


@pytest.mark.parametrize('family', WITH_CHOICES)
def test_the_weight_optimizer_never_gets_the_logits(family, monkeypatch):
    model, mutator = built(family, monkeypatch)
    assert not {id(p) for p in model.parameters()} & {id(p) for p in mutator.choices.values()}
    weights = torch.optim.SGD(model.parameters(), 0.1)  # made after the mutator, as a user may
    before = [logits.detach().clone() for logits in mutator.choices.values()]
    mutator.reset()
    model(batches(1)[0][0][0]).sum().backward()
    nn.utils.clip_grad_norm_(model.parameters(), 1e-9)
    assert any(logits.grad.abs().max() > 1e-6 for logits in mutator.choices.values())
    weights.step()
    assert all(torch.equal(old, new) for old, new in zip(before, mutator.choices.values()))


class SharedEdge(dnn.ModelSpace):
    """Two nodes read the edge b, which is strong enough for the second one only."""

    def __init__(self):
        super().__init__()
        self.edges = nn.ModuleDict({key: dnn.LayerChoice([nn.Linear(3, 3), nn.Tanh()], key=key) for key in 'abc'})
        self.first = dnn.InputChoice(choose_from=['a', 'b'], n_chosen=1, key='first')
        self.second = dnn.InputChoice(choose_from=['b', 'c'], n_chosen=1, key='second')

    def forward(self, x):
        a, b, c = (self.edges[key](x) for key in 'abc')
        return self.first([a, b]) + self.second([b, c])


@pytest.mark.parametrize('form', ['classic', 'sample'])
def test_an_edge_shared_by_two_input_choices_survives_search_export_application_and_training(form):
    model = SharedEdge().double()
    trainer = DartsTrainer(model, nn.CrossEntropyLoss(), lambda output, labels: {}, torch.optim.SGD(model.parameters(), 0.1), 1,
                           tuple(zip(*batches(2))), device='cpu')
    trainer.mutator.double()
    trainer.fit()
    for key, strength in (('a', 3.0), ('b', 2.0), ('c', 1.0)):
        trainer.mutator.choices[key].data = torch.tensor([strength, 0.0, 0.0], dtype=torch.float64)
    found = apply_fixed_architecture(SharedEdge().double(), trainer.mutator.export(form))
    x = batches(1)[0][0][0]
    assert torch.equal(found(x), found.edges['a'](x) + found.edges['b'](x))
    found(x).sum().backward()
    assert sum(parameter.numel() for parameter in found.parameters()) == 2 * 12  # of c nothing is left


class Unlike(dnn.ModelSpace):
    """One candidate returns a shape that broadcasts in silence."""

    def __init__(self, width):
        super().__init__()
        self.edge = dnn.LayerChoice({'linear': nn.Linear(3, 2), 'narrow': nn.Linear(3, width), 'late': nn.Linear(3, 2)},
                                    key='edge')

    def forward(self, x):
        return self.edge(x)


@pytest.mark.parametrize('family', WITH_CHOICES)
@pytest.mark.parametrize('options', [{}, {'recompute': True}, pytest.param({'compile': True}, marks=pytest.mark.once)])
def test_a_candidate_that_returns_another_shape_is_named_with_its_edge_and_both_shapes(family, options, monkeypatch):
    def first_step(cut=(), width=1):
        monkeypatch.setenv(hosts.PREFERENCE, family)
        model = Unlike(width).double()
        optimizer = torch.optim.SGD(model.parameters(), 0.1)
        trainer = DartsTrainer(model, nn.CrossEntropyLoss(), lambda output, labels: {}, optimizer, 1, tuple(zip(*batches(2))),
                               device='cpu', **options)
        trainer.mutator.double()
        for candidate in cut:
            trainer.mutator.cut('edge', candidate)
        trainer.fit()
    with pytest.raises(SearchSpaceError, match=r"'narrow' of LayerChoice 'edge' returns the shape \(6, 1\), but 'linear' returns "
                                               r'\(6, 2\)'):
        first_step()
    with pytest.raises(SearchSpaceError, match=r"'late' of LayerChoice 'edge' returns the shape \(6, 2\), but 'narrow' "):
        first_step(['linear'])
    first_step(['narrow'])  # what does not run is not asked
    first_step(width=2)


@pytest.fixture
def of_two_families(monkeypatch):
    """What builds a model of edges of the families that it is given."""
    if len(WITH_CHOICES) < 2:
        pytest.skip('this NNI has one family of choices')

    def build(*families):
        edges = []
        for i, family in enumerate(families):
            monkeypatch.setenv(hosts.PREFERENCE, family)
            edges.append(dnn.LayerChoice([nn.Linear(3, 3), nn.Tanh()], key=f'edge{i}'))
        return nn.Sequential(*edges)
    return build


def test_a_model_of_another_family_is_refused_wherever_it_gets_to_and_the_message_says_what_to_do(of_two_families):
    from nni_darts_ext.hosts import classic, retiarii
    for host, family, theirs in ((classic, 'classic', 'retiarii'), (retiarii, 'retiarii', 'classic')):
        said = rf'LayerChoice at .0. comes from nni.*the {theirs}.*NNI_DARTS_EXT_FAMILY={family}.*hosts\.{theirs}\.DartsMutator'
        with pytest.raises(SearchSpaceError, match=said):
            host.DartsMutator(of_two_families(theirs))


def test_a_model_of_two_families_is_searched_by_none_of_them(of_two_families):
    for families in (('classic', 'retiarii'), ('retiarii', 'classic')):
        model = of_two_families(*families)
        with pytest.raises(SearchSpaceError, match=r"LayerChoice at '[01]' comes from nni.*Build the whole model"):
            DartsTrainer(model, nn.CrossEntropyLoss(), lambda output, labels: {}, torch.optim.SGD(model.parameters(), 0.1), 1,
                         tuple(zip(*batches(2))), device='cpu')
        with pytest.raises(SearchSpaceError, match=r"LayerChoice at '[01]' comes from nni.*Build the whole model"):
            apply_fixed_architecture(model, {'edge0': '0', 'edge1': '0'})


@pytest.mark.parametrize('use', [lambda: Cells([((2,), None, 'sum')]), lambda: nni_darts_ext.DartsMutator,
                                 lambda: hosts.every('Trainer'), lambda: apply_fixed_architecture(nn.Identity(), {})])
def test_a_preference_for_no_family_is_refused(use, monkeypatch):
    monkeypatch.setenv(hosts.PREFERENCE, 'retiari')
    with pytest.raises(HostNotSupported, match="NNI_DARTS_EXT_FAMILY='retiari' does not name a family of NNI. Set it to one of "
                                               'classic, retiarii, lightning, nas'):
        use()


def test_a_preference_for_a_family_that_builds_on_anothers_choices_is_one_for_these(monkeypatch):
    monkeypatch.setenv(hosts.PREFERENCE, 'lightning')
    edge = Cells([((2,), None, 'sum')]).cells[0].edges[0][0]
    assert not type(edge).__module__.startswith('nni.nas.pytorch')
    assert isinstance(edge, hosts.of_model(edge).LayerChoice)


def test_building_a_choice_imports_nothing_anew(monkeypatch):
    Cells([((2, 2), None, 'sum')])
    imported = []
    importing = hosts.importlib.import_module
    monkeypatch.setattr(hosts.importlib, 'import_module', lambda name: imported.append(name in sys.modules) or importing(name))
    Cells([((2, 2), None, 'sum')])
    assert imported and all(imported)


def test_without_n_chosen_every_input_is_exported():
    model = Cells([((2, 3), None, 'sum')])
    assert hosts.of_model(model).DartsMutator(model).export('sample')['node0'] == [0, 1]
