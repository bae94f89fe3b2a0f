"""The most probable architectures of a search, their losses and the weights that they inherit, in every family."""

import copy

import pytest
import torch
from conftest import OFFERED
from recorded_search import Changes, preferring_strategies, searched
from spaces import TWO_NODES, Cells, batches, smooth, write_weights
from torch import nn

import nni_darts_ext.nn as dnn
from nni_darts_ext import ArchitectureError, CheckpointError, DartsTrainer, apply_fixed_architecture, hosts
from nni_darts_ext.errors import TrainingError
from nni_darts_ext.methods import READING, AuxiliarySkip, EdgeNormalization, GumbelSoftmax, Method, SkipLimit

FAMILIES = [family for family in ('classic', 'retiarii', 'nas') if OFFERED[family] is None]


@pytest.fixture(params=FAMILIES, autouse=True)
def family(request, monkeypatch):
    monkeypatch.setenv(hosts.PREFERENCE, request.param)
    return request.param


class Sorts(dnn.ModelSpace):
    """Edges that are shared, that read another one, and that are read besides; all reductions; BatchNorm and work in place."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.c, self.d, self.e = map(self.edge, 'abcde')
        self.total = dnn.InputChoice(choose_from=['a', 'b'], n_chosen=1, key='total')
        self.mean = dnn.InputChoice(choose_from=['a', 'c', ''], n_chosen=2, reduction='mean', key='mean')
        self.concat = dnn.InputChoice(choose_from=['c', 'd', 'e'], n_chosen=2, reduction='concat', key='concat')
        self.classifier = nn.Linear(4, 2)

    @staticmethod
    def edge(key):
        conv = nn.Sequential(nn.ReLU(inplace=True), nn.Conv2d(4, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4, affine=False))
        return dnn.LayerChoice({'conv': conv, 'pool': nn.AvgPool2d(3, 1, 1), 'skip': nn.Identity()}, key=key)

    def forward(self, x):
        x = torch.cat([x, torch.sin(x[:, :1])], dim=1)
        a = self.a(x)
        b, c = self.b(x), self.c(a)
        total = self.total([a, torch.tanh(b)])
        mean = self.mean([a, c, total])
        joined = self.concat([c, self.d(total), self.e(mean)])
        return self.classifier(torch.stack(joined.split(4, dim=1)).mean(dim=(0, 3, 4)))


def images(n):
    return [(smooth((6, 3, 5, 5), i), torch.tensor([0, 1, 1, 0, 1, 0])) for i in range(n)]


def made(**options):
    torch.manual_seed(0)
    model = write_weights(Sorts())
    mutator = hosts.of_model(model).DartsMutator(model, **options).double()
    for i, logits in enumerate(mutator.choices.values()):
        logits.data = 2 * smooth(logits.shape, i)
    mutator.reset()
    model(images(1)[0][0]).sum().backward()  # finds what reads the edges, and moves the running statistics
    return model, mutator


def trainer(space=Sorts, data=None, epochs=2, seed=0, **options):
    torch.manual_seed(seed)
    model = write_weights(space())

    def metrics(output, labels):
        return {'acc': (output.argmax(dim=1) == labels).double().mean(), 'most': output.max()}
    search = DartsTrainer(model, nn.functional.cross_entropy, metrics, torch.optim.SGD(model.parameters(), 0.05, momentum=0.9),
                          epochs, data or (images(3), images(4)[1:]), images(2), device='cpu', arc_learning_rate=0.05, **options)
    search.mutator.double()
    return search


@pytest.mark.parametrize('form', ['classic', 'sample'])
def test_the_ranking_begins_with_what_is_exported(form):
    _, mutator = made()
    found = mutator.ranked(30, form)
    assert len(found) == 30 and found[0].architecture == mutator.export(form) and found[0].differences == {}
    for one in found[1:]:
        assert one.probability <= found[0].probability
        changed = {key: value for key, value in one.architecture.items() if value != found[0].architecture[key]}
        assert changed and one.differences == {key: (found[0].architecture[key], value) for key, value in changed.items()}
    assert any('concat' in one.differences for one in found) and any(set(one.differences) == {'a'} for one in found)
    assert len({str(one.architecture) for one in mutator.ranked(10 ** 6)}) == len(mutator.ranked(10 ** 6)) < 10 ** 6
    with pytest.raises(ValueError, match='n=0'):
        mutator.ranked(0)
    with pytest.raises(ValueError, match="form='json'"):
        mutator.ranked(1, 'json')


@pytest.mark.parametrize('change', [
    lambda mutator: mutator.cut('a', mutator.export()['a']),
    lambda mutator: (setattr(mutator, 'zero_op_wins', True), mutator.choices['b'].data[-1:].fill_(9)),
    lambda mutator: setattr(mutator, 'selected', {'concat': [True, False, True]})])
def test_what_is_decided_otherwise_holds_in_all_of_them(change):
    _, mutator = made()
    before = mutator.ranked(10 ** 6)
    change(mutator)
    found = mutator.ranked(10 ** 6)
    assert found[0].architecture == mutator.export() and len(found) < len(before)
    assert sum(one.probability for one in found) == pytest.approx(1)
    if mutator.selected:
        assert {str(one.architecture['concat']) for one in found} == {"['c', 'e']"}


def test_methods_decide_what_comes_first():
    for methods in ([SkipLimit(0)], [EdgeNormalization()]):
        _, mutator = made(methods=methods)
        for i, parameter in enumerate(mutator.methods.parameters()):
            parameter.data = 3 * smooth(parameter.shape, i)
        found = mutator.ranked(5)
        assert found[0].architecture == mutator.export() and len(found) == 5


def test_the_supernet_with_an_architecture_is_the_network_that_inherits_its_weights():
    model, mutator = made(methods=[EdgeNormalization()])
    model.eval()
    for form in ('classic', 'sample'):
        for one in mutator.ranked(6, form):
            fresh = apply_fixed_architecture(Sorts().double(), one.architecture, False, weights=model.state_dict())
            with mutator.fixed(one.architecture):
                assert torch.equal(fresh.eval()(images(2)[1][0]), model(images(2)[1][0]))


class Noisy(Method):
    """Other weights in each pass."""

    samples = True

    def relax(self, logits, at):
        return {key: torch.softmax(of_edge + (0 if at.phase == READING else torch.randn(
            of_edge.shape, generator=at.generator(key), dtype=of_edge.dtype)), 0) for key, of_edge in logits.items()}


def test_passes_with_an_architecture_leave_the_search_as_it_was():
    found = []
    for runs_one in (False, True):
        (model, mutator), x = made(methods=[Noisy(), EdgeNormalization()]), images(2)[1][0]
        model.eval()
        mutator.reset()
        if runs_one:
            with mutator.fixed(mutator.ranked(10 ** 6)[-1].architecture):
                fixed = model(x)
                mutator.reset()
                assert not fixed.requires_grad and torch.equal(model(x), fixed)
            with pytest.raises(ArchitectureError, match='missing'), mutator.fixed({}):
                pass
            with pytest.raises(ZeroDivisionError), mutator.fixed(mutator.export()):
                raise ZeroDivisionError
        found.append([])
        for _ in range(2):
            output = model(x)
            assert output.requires_grad
            found[-1].append((output.tolist(), mutator.status(), mutator.export()))
            mutator.reset()
    assert found[0] == found[1]


# The trainer -------------------------------------------------------------------------------------------------------------

def by_hand(search, architecture):
    """The mean loss of the network that the architecture describes, normalised by the statistics of the batches."""
    network = apply_fixed_architecture(Sorts().double(), architecture, False, weights=search.model).eval()
    for module in network.modules():
        module.training = isinstance(module, nn.BatchNorm2d)
    return sum(nn.functional.cross_entropy(network(x), y).item() for x, y in images(2)) / 2


@pytest.mark.parametrize('form', ['classic', 'sample'])
def test_the_trainer_evaluates_an_architecture_by_the_weights_of_the_supernet(form, tmp_path):
    search = trainer()
    search.train()
    for one in search.mutator.ranked(5, form):
        found = search.evaluate(one.architecture)
        assert set(found) == {'loss', 'acc', 'most'}
        assert found['loss'] == pytest.approx(by_hand(search, one.architecture), rel=1e-12)
    search.export(str(tmp_path / 'architecture.json'))
    assert search.evaluate() == search.evaluate(tmp_path / 'architecture.json') == search.evaluate(search.export())
    with pytest.raises(ArchitectureError, match='cannot be'):
        search.evaluate({**search.export(), 'a': 'conv_9x9'})


@pytest.mark.parametrize('methods', [lambda: [], lambda: [GumbelSoftmax()], lambda: [AuxiliarySkip(), EdgeNormalization()]])
def test_an_evaluation_changes_nothing_of_the_search(methods):
    outcomes = []
    for evaluates in (False, True):
        shuffled = torch.utils.data.DataLoader(images(3), None, shuffle=True)
        search = trainer(data=(shuffled, images(4)[1:]), methods=methods(),
                         callbacks=[Changes({1: lambda search: search.ranked(4, 'acc')} if evaluates else {})])
        if evaluates:
            search.evaluate()
        search.train()
        modes = [module.training for module in (*search.model.modules(), *search.mutator.modules())]
        if evaluates:
            before = len(search.history)
            search.evaluate()
            assert len(search.history) == before
            assert modes == [module.training for module in (*search.model.modules(), *search.mutator.modules())]
        outcomes.append((search.history, search.export(), torch.get_rng_state().tolist(),
                         {name: value.tolist() for name, value in search.model.state_dict().items()},
                         {name: value.tolist() for name, value in search.mutator.state_dict().items()}))
    assert outcomes[0] == outcomes[1]


def test_the_trainer_ranks_by_probability_loss_or_metric():
    search = trainer()
    search.train()
    probable = search.ranked(8)
    assert probable[0].architecture == search.export() and probable[0].metrics is None
    for by, sign in (('loss', 1), ('most', -1)):
        found = search.ranked(8, by)
        assert sorted(map(str, (one.architecture for one in found))) == sorted(map(str, (one.architecture for one in probable)))
        values = [sign * one.metrics[by] for one in found]
        assert values == sorted(values) and len(set(values)) > 1
        assert [one.metrics for one in found] == [search.evaluate(one.architecture) for one in found]
    with pytest.raises(TrainingError, match=r"by 'f1'.*\['acc', 'loss', 'most'\]"):
        search.ranked(8, 'f1')


class Theirs(nn.Module):
    """A mutator from elsewhere."""

    def __init__(self):
        super().__init__()
        self.logits = nn.Parameter(torch.zeros(1))

    def reset(self):
        pass


def test_a_mutator_from_elsewhere_is_refused_by_name():
    search = trainer(mutator=Theirs())
    for use in (search.evaluate, search.ranked):
        with pytest.raises(TrainingError, match='of a Theirs cannot be evaluated or ranked'):
            use()


# Inherited weights -------------------------------------------------------------------------------------------------------

def test_weights_are_inherited_from_what_a_search_leaves(tmp_path):
    search = trainer(checkpoint_dir=tmp_path / 'checkpoints')
    search.train()
    x = images(1)[0][0]
    with search.mutator.fixed(search.export()):
        expected = search.model.eval()(x)
    last, = (tmp_path / 'checkpoints').glob('epoch-2.ckpt')
    for weights in (search.model, search.model.state_dict(), last, str(tmp_path / 'checkpoints')):
        network = apply_fixed_architecture(Sorts().double(), search.export(), weights=weights)
        assert torch.equal(network.eval()(x), expected)
    trainer(run_dir=tmp_path / 'run').train()
    network = apply_fixed_architecture(Sorts().double(), search.export(), weights=tmp_path / 'run')
    assert torch.equal(network.eval()(x), expected)
    assert torch.equal(apply_fixed_architecture(search.model, search.export(), weights=search.model)(x), expected)
    (tmp_path / 'empty').mkdir()
    with pytest.raises(CheckpointError, match='empty.*cannot be read'):
        apply_fixed_architecture(Sorts(), search.export(), weights=tmp_path / 'empty')


def test_weights_of_another_model_are_refused_by_name_and_change_nothing():
    model, mutator = made()
    weights = dict(model.state_dict())
    weights['classifier.weights'] = weights.pop('classifier.weight')
    weights['classifier.bias'] = torch.zeros(3)
    fresh = Sorts().double()
    before = copy.deepcopy(fresh.state_dict())
    with pytest.raises(ArchitectureError, match=r"\['classifier.weight'\] are missing, \['classifier.weights'\] are unexpected, "
                                                r"and these have another shape: \['classifier.bias \(3,\) instead of \(2,\)'\]"):
        apply_fixed_architecture(fresh, mutator.export(), weights=weights)
    assert all(torch.equal(value, before[name]) for name, value in fresh.state_dict().items())


# Strategies --------------------------------------------------------------------------------------------------------------

@pytest.mark.family('lightning', 'nas')
def test_a_strategy_ranks_and_runs_and_leaves_weights():
    models, seen = [], []

    def space():
        models.append(write_weights(Cells(TWO_NODES, named=True)))
        return models[-1]
    searched('first order', data=batches(2), epochs=2, space=space, changes={1: seen.append})
    strategy, x = seen[0], batches(1)[0][0][0]
    found = strategy.ranked(5)
    assert found[0].architecture == strategy.search.architecture() and len(found) == 5
    model = models[-1].eval()
    with preferring_strategies():
        for one in found:
            with strategy.search.fixed(one.architecture):
                expected = model(x)
            fresh = apply_fixed_architecture(Cells(TWO_NODES, named=True).double(), one.architecture, False, weights=model)
            assert torch.equal(fresh.eval()(x), expected)
