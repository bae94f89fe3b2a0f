"""The selection by perturbation, against plain tensors, in the trainer and in the strategy that is here."""

import papers
import pytest
import recorded_search
import torch
import two_processes
from recorded_search import searched
from resumed import Interrupted
from spaces import Cells, batches, write_weights
from torch import nn

import nni_darts_ext.nn as dnn
from nni_darts_ext import CheckpointError, DartsMutator, MethodError
from nni_darts_ext.methods import EarlyStopping, GumbelSoftmax, Method, PerturbationSelection, StopAtSkips

pytestmark = pytest.mark.family('classic', 'retiarii', 'nas')
strategies = pytest.mark.family('nas', 'lightning')
SIZES = {'a': 2, 'b': 3}
DATA = batches(3, batch=8)


class Snapshots(Method):
    """Keeps the weights and the logits after each epoch."""

    def __init__(self):
        self._kept = []

    def after_epoch(self, at, end):
        linears = [module for module in end.network.modules() if isinstance(module, nn.Linear)]
        weights = [one.detach().clone() for linear in linears for one in (linear.weight, linear.bias)]
        self._kept.append((weights, {key: of_edge.detach().clone() for key, of_edge in at.search.choices.items()}))
        self._search = at.search


def selected(kept, epochs, selection):
    """By brute force on plain tensors: the last weights of the edges, and the input."""
    draw = papers.At(None, epochs=epochs, seed=torch.initial_seed()).generator('PerturbationSelection')
    order = ['ab'[i] for i in torch.randperm(2, generator=draw).tolist()]
    weights = {}

    def loss(parameters, **without):
        tried = {key: of_edge.clone() for key, of_edge in weights.items()}
        for key, i in without.items():
            tried[key][i] = 0
        return sum(papers.loss_of(tried, parameters, validation) for _, validation in DATA).item()
    for i, key in enumerate([*order, 'pick']):
        parameters, logits = kept[epochs - selection - 1 + i * (selection + 1) // 3]
        weights = {edge: weights[edge] if edge in order[:i] else torch.softmax(logits[edge], 0) for edge in SIZES}
        if key == 'pick':
            edges = list(SIZES)
            return weights, max(range(2), key=lambda i: loss(parameters, **{edges[i]: slice(None)}))
        needed = max(range(SIZES[key]), key=lambda i: loss(parameters, **{key: i}))
        weights[key] = torch.eye(SIZES[key] + 1, dtype=torch.float64)[needed]


def check_selection(snapshots, epochs, selection):
    search = snapshots._search
    weights, kept = selected(snapshots._kept, epochs, selection)
    for key, of_edge in weights.items():
        left = [i for i in range(len(of_edge)) if i not in search.choices.cuts(key)]
        assert left == of_edge.nonzero().flatten().tolist()
    assert search.selected == {'pick': [i == kept for i in range(2)]}
    last = search.sample_final()
    assert {key: last[key].tolist() for key in SIZES} == {
        key: [key == 'ab'[kept] and bool(weight) for weight in weights[key][:-1]] for key in SIZES}
    logits = [of_all for _, of_all in snapshots._kept[epochs - selection - 1:]]
    assert all(torch.equal(of_all[key][~cut], logits[0][key][~cut]) for of_all in logits for key in SIZES
               for cut in [torch.isin(torch.arange(len(of_all[key])), torch.tensor(search.choices.cuts(key)))])


@pytest.mark.parametrize('selection', [1, 2, 4])
def test_a_trainer_keeps_what_plain_tensors_need_most(selection):
    snapshots = Snapshots()
    papers.trainer([snapshots, PerturbationSelection(selection)], 5, DATA).train()
    check_selection(snapshots, 5, selection)


@strategies
@pytest.mark.parametrize('selection', [1, 2])
def test_a_strategy_keeps_what_plain_tensors_need_most(selection):
    torch.manual_seed(0)
    snapshots = Snapshots()
    searched('first order', data=DATA, epochs=5, space=lambda: write_weights(papers.Space()),
             changes={0: lambda strategy: papers.start(strategy.choices)},
             arguments={'methods': [snapshots, PerturbationSelection(selection)]})
    check_selection(snapshots, 5, selection)


# A candidate that is needed although its logit is the smallest ------------------------------------------------------------------

class Function(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


class Planted(dnn.ModelSpace):
    """The class is the sign of the sum of the inputs, of which only one candidate of the edge knows, and by the statistics of the
    batch alone: its running ones make nothing of it."""

    def __init__(self):
        super().__init__()
        needed = nn.BatchNorm1d(3, affine=False, momentum=0.0)
        needed.running_var.fill_(1e12)
        self.edge = dnn.LayerChoice({'nothing': Function(torch.zeros_like), 'needed': needed, 'even': Function(torch.cos)},
                                    key='edge')
        self.bias = nn.Linear(1, 2)

    def forward(self, x):
        total = self.edge(x).sum(dim=1, keepdim=True)
        return torch.cat([100 * total, -100 * total], dim=1) + self.bias(torch.zeros_like(total))


def against_it(search):
    getattr(search, 'mutator', search).choices['edge'].data = torch.tensor([4.0, 0.0, -2.0, 0.0], dtype=torch.float64)


def of_signs():
    for (x, _), (other, _) in batches(2, batch=8):
        yield tuple((inputs, (inputs.sum(dim=1) < 0).long()) for inputs in (x, other))


PLANTED = dict(space=Planted, data=list(of_signs()), epochs=3, changes={0: against_it})


def test_a_needed_candidate_is_kept_although_the_logits_say_otherwise_by_loss_and_by_accuracy():
    assert recorded_search.trained('first order', **PLANTED)['architecture']['sample'] == {'edge': 'nothing'}
    for metric in ('loss', 'acc'):
        found = recorded_search.trained('first order', methods=[PerturbationSelection(metric=metric)], **PLANTED)
        assert found['architecture']['sample'] == {'edge': 'needed'} and found['cuts'] == {'edge': [0, 2, 3]}


@strategies
def test_a_strategy_compares_what_the_training_step_logs():
    def search(**options):
        return searched('first order', arguments={'methods': [PerturbationSelection(metric='train_acc')]}, **PLANTED, **options)
    assert search(logs=True)['architecture']['sample'] == {'edge': 'needed'}
    with pytest.raises(MethodError, match=r"compares 'train_acc', but a validation of this search gives \['loss'\]"):
        search()


# Resuming and processes ------------------------------------------------------------------------------------------------------

NODES = [((3, 2), 1, 'sum'), ((2, 2, 2), 2, 'mean')]
"""Five edges and two InputChoices: two are decided after each of the epochs 1 to 3, the last one after epoch 4."""


def by_trainer(changes=None, epochs=5, **options):
    return recorded_search.trainer('first order', space=lambda: Cells(NODES, named=True), data=batches(2), epochs=epochs,
                                   methods=[PerturbationSelection(3)], changes=changes, **options)


@pytest.mark.parametrize('interrupted', [3, 4])
def test_a_trainer_resumes_amid_the_selection(interrupted, tmp_path):
    def fail(search):
        raise Interrupted
    through = recorded_search.ended(by_trainer())
    with pytest.raises(Interrupted):
        by_trainer({interrupted: fail}, checkpoint_dir=tmp_path).train()
    search = by_trainer(checkpoint_dir=tmp_path)
    assert recorded_search.ended(search) == through
    assert sorted(search.mutator.selected) == ['node0', 'node1']
    with pytest.raises(CheckpointError, match='the selection began in a search of 5 epochs, which has 9 now'):
        by_trainer(checkpoint_dir=tmp_path, epochs=9).train()


@strategies
def test_a_strategy_resumes_amid_the_selection(tmp_path):
    def search(**options):
        found = searched('first order', space=lambda: Cells(NODES, named=True), data=batches(2), epochs=5,
                         arguments={'methods': [PerturbationSelection(3)]}, **options)
        return {name: value for name, value in found.items() if name != 'losses'}
    through = search(keep=[recorded_search.checkpoints_in(tmp_path)])
    assert search(checkpoint=tmp_path / 'epoch=3.ckpt') == through  # after an epoch without architecture steps


def of_rank(by_strategy):
    """The part of this process in the search of all."""
    torch.manual_seed(0)
    data = [tuple(two_processes.share_of(batch) for batch in step) for step in batches(4)]
    options = dict(space=lambda: Cells(two_processes.NODES, named=True), data=data, epochs=3)
    if by_strategy:
        return searched('first order', arguments={'methods': [PerturbationSelection(1)]},
                        devices=torch.distributed.get_world_size() if torch.distributed.is_initialized() else 1, **options)
    return recorded_search.trained('first order', methods=[PerturbationSelection(1)], **options)


@pytest.mark.parametrize('by_strategy', [False, pytest.param(True, marks=strategies)])
def test_two_processes_decide_alike_and_as_one_with_all_data(by_strategy):
    first, second = two_processes.results(of_rank, by_strategy)
    alone, = two_processes.results(of_rank, by_strategy, ranks=1)
    for name in ('cuts', 'logits', 'weights', 'architecture'):
        assert first[name] == second[name]
    assert (first['cuts'], first['architecture']) == (alone['cuts'], alone['architecture'])
    assert all(len(cuts) == len(first['logits'][key]) - 1 for key, cuts in first['cuts'].items())


# What goes with it, and what is refused -------------------------------------------------------------------------------

RAN = set()


class Counted(nn.Linear):
    def forward(self, x):
        if self.training:
            RAN.add(self)
        return super().forward(x)


class Pair(dnn.ModelSpace):
    def __init__(self):
        super().__init__()
        self.x, self.y = (dnn.LayerChoice({'one': Counted(3, 3), 'other': Counted(3, 3)}, key=key) for key in 'xy')
        self.pick = dnn.InputChoice(choose_from=['x', 'y'], n_chosen=1, key='pick')
        self.classifier = nn.Linear(3, 2)

    def forward(self, x):
        return self.classifier(self.pick([self.x(x), self.y(x)]))


def test_only_what_is_kept_is_trained_in_the_end():
    def forget(search):
        RAN.clear()
    search = recorded_search.trainer(
        'first order', space=Pair, data=batches(2), epochs=6, changes=dict.fromkeys(range(6), forget),
        methods=[PerturbationSelection(4)])  # the input is decided after epoch 4
    search.train()
    kept = search.mutator.selected['pick'].index(True)
    edge, names = [(search.model.x, 'x'), (search.model.y, 'y')][kept], ('one', 'other')
    name, = (name for i, name in enumerate(names) if i not in search.mutator.choices.cuts(edge[1]))
    assert list(RAN) == [edge[0][name]]


class Normalised(Pair):
    def __init__(self):
        super().__init__()
        self.classifier = nn.Sequential(nn.BatchNorm1d(3), nn.Linear(3, 2))


def test_a_validation_batch_of_one_sample_is_refused_after_the_first_epoch_where_batches_are_normalised():
    one = [tuple(part[:1] for part in batches(1)[0][1])]
    for space in (Pair, Normalised):
        search = recorded_search.trainer('first order', space=space, data=batches(2), epochs=2, methods=[PerturbationSelection()])
        search.test_loader = one
        if space is Pair:
            search.train()
        else:
            with pytest.raises(MethodError, match='cannot normalise a validation batch of one sample .* drop_last=True'):
                search.train()
    assert len(search.history) == 1


def test_what_cannot_select_is_refused():
    with pytest.raises(MethodError, match='epochs=0.: expected a number of at least 1'):
        PerturbationSelection(0)
    with pytest.raises(MethodError, match='needs 3 of the last epochs and at least one before, but the search has 3'):
        papers.trainer([PerturbationSelection(3)], 3).train()
    with pytest.raises(MethodError, match='needs 1 of the last epochs'):
        papers.trainer([PerturbationSelection()], 1).train()
    for other in (EarlyStopping(), StopAtSkips(), GumbelSoftmax()):
        with pytest.raises(MethodError, match='cannot be combined'):
            papers.trainer([PerturbationSelection(), other])
    with pytest.raises(MethodError, match="compares 'accuracy', but a validation of this search gives"):
        search = papers.trainer([PerturbationSelection(metric='accuracy')], 10)
        search.train()
    assert len(search.history) == 1
    with pytest.raises(MethodError, match='unknown to DartsMutator'):
        DartsMutator(papers.Space(), methods=[PerturbationSelection()])
