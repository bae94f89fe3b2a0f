"""NNI 2.0 - 2.8: against NNI's own DartsMutator in the same process, inside NNI's own trainer, and where NNI's fails."""

import copy
import json
import math
import warnings

import nni
import optimizers
import pytest
import ten_steps
import torch
from conftest import OFFERED
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from nni.algorithms.nas.pytorch.darts import DartsMutator as NniDartsMutator
from nni.algorithms.nas.pytorch.darts import DartsTrainer
from nni.nas.pytorch.callbacks import ArchitectureCheckpoint, LRSchedulerCallback, ModelCheckpoint
from nni.nas.pytorch.fixed import apply_fixed_architecture
from nni.nas.pytorch.mutables import InputChoice, LayerChoice, MutableScope
from nni.nas.pytorch.mutator import Mutator
from nni.nas.pytorch.search_space_zoo import DartsCell
from nni.nas.pytorch.trainer import Trainer
from nni_classic import DoubleDartsMutator
from spaces import TWO_NODES, Cells, batches, candidates
from torch import nn

import nni_darts_ext
import nni_darts_ext.nn as dnn
from nni_darts_ext import DartsMutator, HostNotSupported, SearchSpaceError
from nni_darts_ext.methods import Eigenvalue, Shrinking

REDUCTIONS = ('sum', 'mean')


@st.composite
def nodes(draw):
    """For each node the sizes of its edges, how many of them are kept, and the reduction of its inputs."""
    def node(sizes):
        return st.tuples(st.just(sizes), st.one_of(st.none(), st.integers(1, len(sizes))), st.sampled_from(REDUCTIONS))
    return draw(st.lists(st.lists(st.integers(1, 5), min_size=1, max_size=3).flatmap(node), min_size=1, max_size=3))


def twins(*args, **kwargs):
    """The same model twice in float64, one with NNI's mutator and one with ours, with the same random logits."""
    torch.manual_seed(0)
    pairs = []
    for mutator_class in (DoubleDartsMutator, DartsMutator):
        model = Cells(*args, **kwargs).double()
        pairs.append((model, mutator_class(model).double()))
    (theirs, their_mutator), (ours, our_mutator) = pairs
    ours.load_state_dict(theirs.state_dict())
    for key in our_mutator.choices:
        our_mutator.choices[key].data = their_mutator.choices[key].data = torch.randn(len(our_mutator.choices[key]),
                                                                                     dtype=torch.float64)
    for key in our_mutator.choices:
        our_mutator.choices[key].data = our_mutator.choices[key].data.clone()
    return pairs


def assert_close(ours, theirs):
    for one, other in zip(ours, theirs):
        assert (one is None) == (other is None)
        if one is not None:
            torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-10)


# Against NNI's own -----------------------------------------------------------------------------------------------------

@settings(deadline=None, max_examples=40, suppress_health_check=list(HealthCheck))
@given(nodes=nodes(), cells=st.integers(1, 2), named=st.booleans())
def test_outputs_losses_gradients_training_and_export_are_nnis(nodes, cells, named):
    (theirs, their_mutator), (ours, our_mutator) = twins(nodes, cells, named=named)
    assert list(our_mutator.choices) == list(their_mutator.choices)
    both = ((theirs, their_mutator), (ours, our_mutator))
    optimizers = [(torch.optim.Adam(mutator.parameters(), 0.02, betas=(0.5, 0.999), weight_decay=1e-3),
                   torch.optim.SGD(model.parameters(), 0.05, momentum=0.9)) for model, mutator in both]
    for training, validation in batches(10):
        for batch, which in ((validation, 0), (training, 1)):
            outputs, losses = [], []
            for (model, mutator), pair in zip(both, optimizers):
                pair[which].zero_grad()
                mutator.reset()
                outputs.append(model(batch[0]))
                losses.append(nn.functional.cross_entropy(outputs[-1], batch[1]))
                losses[-1].backward()
            assert_close(outputs, reversed(outputs))
            assert_close(losses, reversed(losses))
            for of_ours, of_theirs in ((our_mutator, their_mutator), (ours, theirs)):
                assert_close([p.grad for p in of_ours.parameters()], [p.grad for p in of_theirs.parameters()])
            for pair in optimizers:
                pair[which].step()
    assert_close(our_mutator.parameters(), their_mutator.parameters())
    assert_close(ours.state_dict().values(), theirs.state_dict().values())
    assert our_mutator.export() == their_mutator.export()
    assert our_mutator.status() == {key: pytest.approx([float(weight) for weight in value], abs=1e-6)
                                    for key, value in their_mutator.status().items()}  # ones are True on some versions


def test_the_recorded_ten_steps_are_what_nni_takes_here():
    model, data = ten_steps.model_and_data()
    ten_steps.assert_same(ten_steps.run(model, DoubleDartsMutator(model).double(), data), ten_steps.recorded(), 1e-9)


@pytest.mark.parametrize('reduction', ['sum', 'mean', 'concat', 'none'])
def test_reductions_and_masks_of_a_layer_choice_are_nnis(reduction):
    x = torch.randn(2, 3)
    ops = [nn.Linear(3, 3), nn.Identity(), nn.Tanh()]
    answers = []
    for mutator_class in (NniDartsMutator, DartsMutator):
        choice = LayerChoice(ops, reduction=reduction, return_mask=True, key='edge')
        mutator = mutator_class(nn.Sequential(choice))
        mutator.choices['edge'].data = torch.tensor([0.5, -math.inf, 1.0, 0.1])
        mutator.reset()
        answers.append(choice(x))
    (their_output, their_mask), (our_output, our_mask) = answers
    assert torch.equal(our_mask, their_mask)
    assert_close(our_output if reduction == 'none' else [our_output], their_output if reduction == 'none' else [their_output])


def test_a_seed_gives_the_logits_that_it_gives_to_nni():
    torch.manual_seed(1)
    theirs = NniDartsMutator(Cells(TWO_NODES))
    torch.manual_seed(1)
    ours = DartsMutator(Cells(TWO_NODES))
    assert all(torch.equal(ours.choices[key], theirs.choices[key]) for key in ours.choices)
    assert ours.state_dict().keys() == theirs.state_dict().keys()


# Inside NNI ------------------------------------------------------------------------------------------------------------

def train(model, mutator, epochs=1, trainer_class=DartsTrainer, **options):
    (x, y), (test_x, test_y) = batches(1, batch=24)[0]
    trainer = trainer_class(
        model, loss=nn.CrossEntropyLoss(), metrics=lambda output, target: {'acc': 0.0}, num_epochs=epochs, batch_size=6,
        optimizer=torch.optim.SGD(model.parameters(), 0.05, momentum=0.9), workers=0, device=torch.device('cpu'),
        dataset_train=torch.utils.data.TensorDataset(x, y), dataset_valid=torch.utils.data.TensorDataset(test_x, test_y),
        mutator=mutator, **options)
    trainer.train()
    return trainer


def test_nnis_trainer_searches_with_it_and_nni_applies_what_it_exports(tmp_path):
    model = Cells(TWO_NODES, cells=2, named=True).double()
    mutator = DartsMutator(model).double()
    assert isinstance(mutator, Mutator)
    before = copy.deepcopy([model.classifier.weight, *mutator.parameters()])
    trainer = train(model, mutator, arc_learning_rate=0.1)
    assert not any(torch.equal(old, new) for old, new in zip(before, [model.classifier.weight, *mutator.parameters()]))

    trainer.export(str(tmp_path / 'architecture.json'))
    assert json.loads((tmp_path / 'architecture.json').read_text()) == mutator.export()
    found = Cells(TWO_NODES, cells=2, named=True).double()
    apply_fixed_architecture(found, str(tmp_path / 'architecture.json'))
    found(batches(1)[0][0][0]).sum().backward()
    assert sum(p.numel() for p in found.parameters()) < sum(p.numel() for p in model.parameters())


def test_nnis_apply_fixed_architecture_gives_the_same_network():
    torch.manual_seed(0)
    mutator = DartsMutator(Cells(TWO_NODES, cells=2))
    ours, theirs = Cells(TWO_NODES, cells=2), Cells(TWO_NODES, cells=2)
    ours.load_state_dict(theirs.state_dict())
    nni_darts_ext.apply_fixed_architecture(ours, mutator.export())
    apply_fixed_architecture(theirs, mutator.export())
    x = torch.randn(4, 3)
    assert torch.equal(ours(x), theirs(x))
    assert len(list(ours.parameters())) == len(list(theirs.parameters()))


@pytest.mark.parametrize('as_dict', [True, False])
def test_masks_and_dicts_of_inputs_work_in_the_applied_network(as_dict):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.edge = LayerChoice([nn.Identity(), nn.Tanh()], return_mask=True, key='edge')
            self.pick = InputChoice(choose_from=['edge', ''], n_chosen=1, return_mask=True, key='pick')

        def forward(self, x):
            y, mask = self.edge(x)
            return (*self.pick({'edge': y, '': x} if as_dict else [y, x]), mask)
    output, inputs, mask = nni_darts_ext.apply_fixed_architecture(Net(), {'edge': 1, 'pick': 'edge'})(torch.ones(1))
    assert output == torch.tanh(torch.ones(1)) and list(inputs) == [True, False] and list(mask) == [False, True]


def test_our_trainer_takes_the_steps_of_nnis():
    def search(trainer_class):
        torch.manual_seed(0)
        model = Cells(TWO_NODES).double()
        mutator = DartsMutator(model).double()
        torch.manual_seed(1)
        train(model, mutator, epochs=3, arc_learning_rate=0.05, trainer_class=trainer_class)
        return [*model.parameters(), *mutator.parameters()]
    assert_close(search(nni_darts_ext.DartsTrainer), search(DartsTrainer))


def test_nnis_callbacks_take_our_trainer(tmp_path):
    model = Cells(TWO_NODES).double()
    optimizer = torch.optim.SGD(model.parameters(), 1.0)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.1)
    (x, y), _ = batches(1, batch=24)[0]
    trainer = nni_darts_ext.DartsTrainer(
        model, nn.functional.cross_entropy, lambda output, labels: {}, optimizer, 2, torch.utils.data.TensorDataset(x, y),
        mutator=DartsMutator(model).double(), workers=0, batch_size=6,
        callbacks=[LRSchedulerCallback(scheduler), ArchitectureCheckpoint(str(tmp_path / 'architectures')),
                   ModelCheckpoint(str(tmp_path / 'models'))])
    assert isinstance(trainer, Trainer)
    trainer.train()
    assert optimizer.param_groups[0]['lr'] == pytest.approx(0.01)
    assert json.loads((tmp_path / 'architectures' / 'epoch_1.json').read_text()) == trainer.export()
    saved = torch.load(str(tmp_path / 'models' / 'epoch_1.pth.tar'))
    assert all(torch.equal(value, saved[name]) for name, value in model.state_dict().items())


def test_the_choices_are_nnis_own():
    layer, inputs = dnn.LayerChoice([nn.Identity()], key='a'), dnn.InputChoice(choose_from=['a', dnn.InputChoice.NO_KEY], key='i')
    assert type(layer) is LayerChoice and type(inputs) is InputChoice
    assert inputs.choose_from == ['a', ''] and inputs.n_chosen is None
    assert InputChoice.NO_KEY == dnn.InputChoice.NO_KEY


def test_scopes_are_kept_and_may_be_sources():
    class Scoped(MutableScope):
        def __init__(self):
            super().__init__('scope')
            self.op = LayerChoice([nn.Identity()], key='inside')

        def forward(self, x):
            return self.op(x)

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.scope = Scoped()
            self.pick = InputChoice(choose_from=['inside', 'scope'], n_chosen=1, key='pick')

        def forward(self, x):
            return self.pick([self.scope(x), x])

    mutator = DartsMutator(Net())
    mutator.reset()
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')  # NNI on its own scopes
        mutator.model(torch.ones(1))
    assert mutator.export() == {'inside': 0, 'pick': 'inside'}


def test_nni_can_draw_the_whole_supernet():
    mutator = DartsMutator(nn.Sequential(LayerChoice([nn.Identity(), nn.Identity()], key='a')))
    mutator._connect_all = True
    assert mutator.model(torch.ones(1)) == 2


class ZooNet(nn.Module):
    """Cells of NNI's own search_space_zoo, which have drop path between edges and inputs."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(1, 4, 1)
        self.normal = DartsCell(2, 4, 4, 4, False, False)
        self.reduce = DartsCell(2, 4, 8, 4, False, True)
        self.classifier = nn.Linear(8, 2)

    def forward(self, x):
        x = self.stem(x)
        y = self.normal(x, x)
        return self.classifier(self.reduce(x, y).mean((2, 3)))


def test_nnis_own_darts_cells_are_searched_exported_applied_and_trained():
    torch.manual_seed(0)
    images = torch.utils.data.TensorDataset(torch.randn(16, 1, 8, 8), torch.randint(2, (16,)))
    model = ZooNet()
    search = nni_darts_ext.DartsTrainer(model, nn.CrossEntropyLoss(), lambda output, labels: {},
                                        torch.optim.SGD(model.parameters(), 0.05), 1, images, batch_size=4, workers=0,
                                        arc_learning_rate=0.1)
    before = [logits.detach().clone() for logits in search.mutator.parameters()]
    search.train()
    assert not any(torch.equal(old, new) for old, new in zip(before, search.mutator.parameters()))
    architecture = search.export()
    assert all(len(architecture[f'{kind}_n{i}_switch']) == 2 for kind in ('normal', 'reduce') for i in (2, 3))
    found, theirs = nni_darts_ext.apply_fixed_architecture(ZooNet(), architecture), ZooNet()
    apply_fixed_architecture(theirs, architecture)
    found.load_state_dict(theirs.state_dict())
    x = images[:4][0]
    assert torch.equal(found(x), theirs(x))
    found(x).sum().backward()
    assert all(parameter.grad is not None for parameter in found.parameters())


# Where NNI's own fails ---------------------------------------------------------------------------------------------------

class SharedEdge(nn.Module):
    """Two nodes read the edge b, which is strong enough for the second one only."""

    def __init__(self):
        super().__init__()
        self.edges = nn.ModuleDict({key: dnn.LayerChoice([nn.Linear(2, 2), nn.Tanh()], key=key) for key in 'abc'})
        self.first = dnn.InputChoice(choose_from=['a', 'b'], n_chosen=1, key='first')
        self.second = dnn.InputChoice(choose_from=['b', 'c'], n_chosen=1, key='second')

    def forward(self, x):
        a, b, c = (self.edges[key](x) for key in 'abc')
        return self.first([a, b]) + self.second([b, c])


def found_in_shared_edge(mutator_class):
    mutator = mutator_class(SharedEdge())
    for key, strength in (('a', 3.0), ('b', 2.0), ('c', 1.0)):
        mutator.choices[key].data = torch.tensor([strength, 0.0, 0.0])
    found = SharedEdge()
    apply_fixed_architecture(found, mutator.export())
    return mutator.export(), found


def test_an_edge_shared_by_two_input_choices_survives_where_nni_drops_it():
    export, found = found_in_shared_edge(NniDartsMutator)
    assert export['second'] == 'b' and export['b'] == []
    with pytest.raises(TypeError, match='NoneType'):
        found(torch.ones(1, 2))

    export, found = found_in_shared_edge(DartsMutator)
    assert export == {'a': 0, 'b': 0, 'c': [], 'first': 'a', 'second': 'b'}
    assert found(torch.ones(1, 2)).shape == (1, 2)


@pytest.mark.parametrize('optimizer, nnis_holds', [('Adam', False), ('SGD', False), ('AdamW', True)])
def test_a_branch_cut_as_nni_documents_stays_finite_where_nnis_turns_nan(optimizer, nnis_holds):
    def logits_after_200_steps(mutator_class):
        torch.manual_seed(0)
        model = nn.Sequential(LayerChoice([nn.Linear(3, 3), nn.Tanh(), nn.Identity()], key='edge'), nn.Linear(3, 2))
        mutator = mutator_class(model)
        mutator.choices['edge'].data[1] = -math.inf
        steps = optimizers.make(optimizer, mutator.parameters())
        for (x, y), _ in batches(200):
            steps.zero_grad()
            mutator.reset()
            nn.functional.cross_entropy(model(x.float()), y).backward()
            nn.utils.clip_grad_norm_(mutator.parameters(), 5.0)
            steps.step()
            if torch.isnan(mutator.choices['edge']).any():
                break
        return mutator, mutator.choices['edge']

    assert torch.isnan(logits_after_200_steps(NniDartsMutator)[1]).any() != nnis_holds  # decoupled decay of -inf stays -inf
    mutator, logits = logits_after_200_steps(DartsMutator)
    assert torch.isfinite(logits).all()
    weights = mutator.sample_search()['edge']
    assert weights[1] == 0 and torch.isfinite(weights).all() and (weights[[0, 2]] > 0).all()


@pytest.mark.parametrize('mutator_class, holds', [(DoubleDartsMutator, False), (DartsMutator, True)])
def test_so_it_does_in_nnis_trainer(mutator_class, holds):
    model = Cells(TWO_NODES).double()
    mutator = mutator_class(model).double()
    mutator.choices['node0_edge0'].data[2] = -math.inf
    train(model, mutator, epochs=2)
    assert torch.isfinite(mutator.choices['node0_edge0']).all() == holds


def test_a_cut_holds_in_nnis_trainer():
    model = Cells(TWO_NODES).double()
    mutator = DartsMutator(model).double()
    mutator.cut('node0_edge0', 2)
    mutator.choices['node1_edge0'].data[:-1] = -math.inf
    train(model, mutator, epochs=3, arc_learning_rate=0.1)
    assert all(torch.isfinite(p).all() for p in (*model.parameters(), *mutator.parameters()))
    assert mutator.sample_search()['node0_edge0'][2] == 0
    assert not mutator.sample_search()['node1_edge0'].any()


@pytest.mark.parametrize('key', ['cell.0.op', '', 'keys'])
def test_any_key_works_where_nni_raises(key):
    def model():
        return nn.Sequential(LayerChoice([nn.Identity(), nn.Tanh()], key=key))
    with pytest.raises((KeyError, AssertionError, AttributeError, RuntimeError)):
        mutator = NniDartsMutator(model())
        mutator.load_state_dict(mutator.state_dict())
        assert list(mutator.choices.keys()) == [key]
    mutator = DartsMutator(model())
    mutator.load_state_dict(mutator.state_dict())
    mutator.reset()
    mutator.model(torch.ones(1)).backward()
    assert list(mutator.choices.keys()) == [key]
    assert mutator.choices[key].grad.shape == (3,)
    assert list(mutator.export()) == [key]


def test_logits_in_float64_work_where_nni_refuses_them():
    def run(mutator_class):
        model = nn.Sequential(LayerChoice([nn.Identity()], key='edge'))
        mutator = mutator_class(model).double()
        mutator.reset()
        return model(torch.ones(1, dtype=torch.float64))
    with pytest.raises(ValueError, match='Unrecognized mask'):
        run(NniDartsMutator)
    assert run(DartsMutator).dtype is torch.float64


def test_the_zero_op_can_win_as_nni_documents_and_does_not_do():
    def made():
        return nn.ModuleList([LayerChoice([nn.Identity()], key='edge'), LayerChoice([nn.Identity()], key='other'),
                              InputChoice(choose_from=['edge', 'other'], n_chosen=2, key='node')])
    for mutator, edge, node in ((NniDartsMutator(made()), 0, ['edge', 'other']), (DartsMutator(made()), 0, ['edge', 'other']),
                                (DartsMutator(made(), zero_op_wins=True), [], 'other')):
        mutator.choices['edge'].data = torch.tensor([0.0, 5.0])
        mutator.choices['other'].data = torch.tensor([5.0, 0.0])
        assert mutator.export() == {'edge': edge, 'other': 0, 'node': node}


def test_a_model_of_another_family_is_refused_where_nni_finds_nothing_to_search():
    retiarii = pytest.importorskip('nni.retiarii.nn.pytorch')
    model = nn.Sequential(retiarii.LayerChoice([nn.Identity(), nn.Tanh()]))
    assert len(NniDartsMutator(model).choices) == 0
    with pytest.raises(SearchSpaceError, match=r"LayerChoice at '0' comes from nni\.retiarii.*the retiarii family.*"
                                               r'NNI_DARTS_EXT_FAMILY=classic.*DartsTrainer or nni_darts_ext\.hosts\.retiarii'):
        DartsMutator(model)


class Quadratic(nn.Module):
    """One weight w and one probability p = softmax(logits)[0]."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))
        self.edge = LayerChoice([nn.Identity()], key='edge')

    def forward(self, x):
        return self.weight, self.edge(torch.ones(1))


class Loss(nn.Module):
    """T = (w - p)**2 / 2 where the label is 0, V = (w - 0.9)**2 / 2 where it is 1."""

    def forward(self, output, labels):
        w, p = output
        return ((w - p) ** 2 / 2 if labels[0] == 0 else (w - 0.9) ** 2 / 2 + 0 * p).sum()


class Watching(torch.optim.SGD):
    """Remembers the gradient that it was given."""

    def step(self):
        self.seen = self.param_groups[0]['params'][0].grad.clone()


def unrolled_gradient(trainer_class, mutator_class):
    """At w = 1 and p = 0.5 with learning rate 0.5, so that w' = 0.75 lies on the other side of what V wants."""
    model = Quadratic()
    mutator = mutator_class(model)
    mutator.choices['edge'].data.zero_()
    data = torch.utils.data.TensorDataset(torch.zeros(2, 1), torch.tensor([0, 1]))
    trainer = trainer_class(model, loss=Loss(), metrics=lambda output, target: {}, num_epochs=1, batch_size=1, workers=0,
                            optimizer=torch.optim.SGD(model.parameters(), 0.5, momentum=0.9), device=torch.device('cpu'),
                            dataset_train=data, dataset_valid=data, mutator=mutator, unrolled=True)
    trainer.ctrl_optim = Watching(mutator.parameters(), 0.0)
    trainer.train_one_epoch(-1)
    return model, trainer, trainer.ctrl_optim.seen


def test_the_second_order_goes_where_the_closed_form_says_where_nnis_goes_the_other_way():
    expected = 0.5 * (0.75 - 0.9) * 0.25  # learning rate, dV/dw', dp/dlogit
    assert unrolled_gradient(nni_darts_ext.DartsTrainer, DartsMutator)[2].tolist() == pytest.approx([expected, -expected])

    model, trainer, gradient = unrolled_gradient(DartsTrainer, NniDartsMutator)
    assert gradient[0] == pytest.approx(0.5 * (1.0 - 0.9) * 0.25, rel=1e-2)  # dV/dw at w, not at w'
    before = model.weight.detach().clone()
    trainer._compute_virtual_model(torch.zeros(1, 1), torch.tensor([0]), 0.5, 0.9, 0.0)
    assert torch.equal(model.weight, before)  # its virtual step does not move the weights


def test_the_second_order_takes_what_nnis_fails_on():
    def search(trainer_class, mutator_class):
        model = Quadratic()
        model.unused = nn.Linear(1, 1)
        data = torch.utils.data.TensorDataset(torch.zeros(2, 1), torch.tensor([0, 1]))
        return trainer_class(model, loss=Loss(), metrics=lambda output, target: {}, num_epochs=1, batch_size=1, workers=0,
                             optimizer=torch.optim.Adam(model.parameters()), device=torch.device('cpu'), dataset_train=data,
                             dataset_valid=data, mutator=mutator_class(model), unrolled=True)
    with pytest.raises((KeyError, RuntimeError)):  # Adam has no momentum, and nothing reaches the unused layer
        search(DartsTrainer, NniDartsMutator).train()
    search(nni_darts_ext.DartsTrainer, DartsMutator).train()


# Bad input ---------------------------------------------------------------------------------------------------------------

def test_a_model_without_choices():
    with pytest.raises(SearchSpaceError, match='no LayerChoice'):
        DartsMutator(nn.Linear(2, 2))


def test_an_unknown_source():
    model = nn.ModuleList([LayerChoice([nn.Identity()], key='a'), InputChoice(choose_from=['a', 'b'], key='i')])
    with pytest.raises(SearchSpaceError, match=r"'i' names \['b'\]"):
        DartsMutator(model)


def test_a_shared_key_with_different_sizes():
    model = nn.ModuleList([LayerChoice(candidates(2, n), key='a') for n in (2, 3)])
    with pytest.raises(SearchSpaceError, match=r"'a'.*different candidates: \['0', '1'\] at '0', \['0', '1', '2'\] at '1'"):
        DartsMutator(model)


def test_a_nested_choice():
    model = nn.Sequential(LayerChoice([nn.Sequential(LayerChoice([nn.Identity()], key='in')), nn.Tanh()], key='out'))
    with pytest.raises(SearchSpaceError, match="at '0.0.0' lies inside the choice at '0'"):
        DartsMutator(model)


def test_too_many_inputs_to_choose():
    inputs = InputChoice(n_candidates=2, n_chosen=1, key='i')
    inputs.n_chosen = 3
    with pytest.raises(SearchSpaceError, match="'i'.*n_chosen=3 of 2"):
        DartsMutator(nn.ModuleList([LayerChoice([nn.Identity()], key='a'), inputs]))


def test_cutting_what_is_not_there():
    mutator = DartsMutator(nn.Sequential(LayerChoice([nn.Identity(), nn.Tanh()], key='a')))
    with pytest.raises(SearchSpaceError, match="key 'b'.*'a'"):
        mutator.cut('b', 0)
    with pytest.raises(SearchSpaceError, match="'a' has no candidate 'conv'.*from 0 to 1"):
        mutator.cut('a', 'conv')


@pytest.mark.skipif(OFFERED['lightning'] is None, reason='this NNI has one-shot strategies')
def test_the_strategy_says_what_it_needs():
    with pytest.raises(HostNotSupported, match=rf'DARTS needs.*NNI 2\.8 - 3\.0.*DartsTrainer.*Found NNI {nni.__version__} '):
        nni_darts_ext.DARTS  # noqa: B018
    with pytest.raises(ImportError):
        from nni_darts_ext import DARTS  # noqa: F401


@pytest.mark.parametrize('unrolled', [False, 'exact'])
def test_nnis_own_mutator_is_searched_with_and_refused_what_it_does_not_go_with(unrolled, tmp_path):
    def trainer(**options):
        model = Cells(TWO_NODES)
        data = [tuple((x.float(), y) for x, y in step) for step in batches(2)]
        return nni_darts_ext.DartsTrainer(model, nn.functional.cross_entropy, lambda output, labels: {},
                                          torch.optim.SGD(model.parameters(), 0.05), 2, tuple(zip(*data)), device='cpu',
                                          mutator=NniDartsMutator(model), unrolled=unrolled, **options)
    search = trainer(checkpoint_dir=tmp_path / 'checkpoints', methods=[Eigenvalue()])
    start = [logits.detach().clone() for logits in search.mutator.parameters()]
    search.train()
    assert not any(torch.equal(one, other) for one, other in zip(start, search.mutator.parameters()))
    search.export(str(tmp_path / 'architecture.json'))
    apply_fixed_architecture(Cells(TWO_NODES), str(tmp_path / 'architecture.json'))
    again = trainer(checkpoint_dir=tmp_path / 'checkpoints', methods=[Eigenvalue()])
    again.train()
    assert again.history == search.history
    with pytest.raises(nni_darts_ext.TrainingError, match='run_dir, Shrinking.*: does not work with a nni.*DartsMutator'):
        trainer(methods=[Shrinking({1: 2})], run_dir=tmp_path / 'run')
