"""Candidates that are cut, in the families that the installed NNI offers: no gradient, no optimiser state, no work, never NaN."""

import copy
import math
import pickle

import optimizers
import pytest
import torch
from conftest import OFFERED
from spaces import Cells, batches, write_weights
from torch import nn

from nni_darts_ext import DartsTrainer, LogitsError, SearchSpaceError, hosts

WITH_CHOICES = [family for family in ('classic', 'retiarii', 'nas') if OFFERED[family] is None]
EDGES = [((3, 4), 1, 'sum'), ((3, 2, 3), 2, 'sum')]


def space(cells=2):
    return write_weights(Cells(EDGES, cells=cells, named=True))


def of(model, edge, candidate):
    """The modules of a candidate, one in each cell."""
    node, place = int(edge[4]), int(edge[-1])
    return [getattr(cell.edges[node][place], candidate) for cell in model.cells]


class Change:
    """A callback that changes the mutator in the middle of a search, and remembers what stands still from then on."""

    def __init__(self, change):
        self.change = change

    def build(self, model, mutator, trainer):
        self.mutator = mutator

    def on_epoch_begin(self, epoch):
        if epoch == 1:
            self.kept = self.change(self.mutator)

    def on_epoch_end(self, epoch):
        pass


def count(modules):
    calls = []
    for module in modules:
        module.register_forward_hook(lambda *args: calls.append(1))
    return calls


def parameters(modules):
    return [parameter for module in modules for parameter in module.parameters()]


def search(model, mutator, name, callbacks=(), epochs=2, steps=5, **options):
    weights = optimizers.make(name, model.parameters())
    trainer = DartsTrainer(model, nn.functional.cross_entropy, lambda output, labels: {}, weights, epochs,
                           tuple(zip(*batches(steps))), mutator=mutator, device='cpu', callbacks=list(callbacks), **options)
    trainer.ctrl_optim = optimizers.make(name, mutator.parameters())
    trainer.train(validate=False)
    return trainer


def states(optimizer):
    return [value for state in optimizer.state.values() for value in state.values() if torch.is_tensor(value)]


@pytest.mark.parametrize('name, unrolled, steps', [*((name, False, 100) for name in optimizers.OFFERED),
                                                   ('SGD', 'exact', 10), ('Adam', 'finite_difference', 10)])
def test_cuts_hold_for_hundreds_of_steps_under_every_optimizer(name, unrolled, steps):
    model = space(cells=1)
    mutator = hosts.of_model(model).DartsMutator(model).double()
    early, late = of(model, 'node0_edge0', 'op0'), of(model, 'node1_edge2', 'op2')
    mutator.cut('node0_edge0', 'op0')
    mutator.choices['node0_edge1'].data[:-1] = -math.inf  # as NNI documents it: only the zero op is left
    mutator.choices.cut('node1_edge0', 3)  # the zero op
    start = [parameter.detach().clone() for parameter in parameters(early)]
    calls = count(early)

    def during(mutator):
        mutator.cut('node1_edge2', 2)
        mutator.choices['node1_edge1'].data[0] = -math.inf
        calls.extend(count(late))
        return [parameter.detach().clone() for parameter in parameters(late)]
    change = Change(during)
    trainer = search(model, mutator, name, [change], steps=steps, unrolled=unrolled)

    assert not calls
    assert all(torch.isfinite(value).all() for value in (*model.parameters(), *mutator.parameters()))
    assert all(torch.isfinite(value).all() for value in states(trainer.optimizer) + states(trainer.ctrl_optim))
    assert all(parameter.grad is None for parameter in parameters([*early, *late]))
    assert not any(parameter in trainer.optimizer.state for parameter in parameters(early))
    assert all(torch.equal(one, other) for one, other in zip([*start, *change.kept], parameters([*early, *late])))
    for key, entry in (('node0_edge0', 0), ('node0_edge1', 1), ('node1_edge0', 3), ('node1_edge2', 2), ('node1_edge1', 0)):
        logits = mutator.choices[key]
        assert entry in mutator.choices.cuts(key) and mutator.choices.probabilities(key)[entry] == 0
        assert logits[entry] == 0 and (logits.grad is None or logits.grad[entry] == 0)
        assert all(value[entry] == 0 for value in trainer.ctrl_optim.state.get(logits, {}).values()
                   if torch.is_tensor(value) and value.shape == logits.shape)


def each_edge(change):
    def of_mutator(mutator):
        for key in mutator.choices:
            change(mutator, key)
    return of_mutator


PATTERNS = {
    'one of an edge': lambda mutator: mutator.cut('node0_edge0', 0),
    'the last of each edge': each_edge(lambda mutator, key: mutator.cut(key, len(mutator.choices[key]) - 2)),
    'all but one of each edge': each_edge(lambda mutator, key: [
        mutator.cut(key, i) for i in range(1, len(mutator.choices[key]) - 1)]),
    'all of an edge': lambda mutator: [mutator.cut('node1_edge0', i) for i in range(3)],
    'the zero op of each edge': each_edge(lambda mutator, key: mutator.choices.cut(key, len(mutator.choices[key]) - 1)),
    'all but the first, zero op too': each_edge(lambda mutator, key: mutator.choices[key].data[1:].fill_(-math.inf)),
    'as NNI documents it': each_edge(lambda mutator, key: mutator.choices[key].data[:1].fill_(-math.inf)),
    'again and again': each_edge(lambda mutator, key: [change(key, 0) for change in (mutator.cut, mutator.restore) * 3]),
}


@pytest.mark.slow  # as many as there are
@pytest.mark.parametrize('when', ['before', 'during'])
@pytest.mark.parametrize('pattern', PATTERNS)
@pytest.mark.parametrize('name', optimizers.OFFERED)
def test_no_pattern_of_cuts_gives_a_nan_in_200_steps_under_any_optimizer(name, pattern, when):
    model = space(cells=1)
    mutator = hosts.of_model(model).DartsMutator(model).double()
    cuts = {}

    def cut(mutator):
        PATTERNS[pattern](mutator)
        cuts.update((key, mutator.choices.cuts(key)) for key in mutator.choices)
    if when == 'before':
        cut(mutator)
    trainer = search(model, mutator, name, [Change(cut)] if when == 'during' else [], steps=100)
    assert all(torch.isfinite(value).all() for value in (*model.parameters(), *mutator.parameters()))
    assert all(torch.isfinite(value).all() for value in states(trainer.optimizer) + states(trainer.ctrl_optim))
    assert {key: mutator.choices.cuts(key) for key in mutator.choices} == cuts
    assert any(cuts.values()) == (pattern != 'again and again')


@pytest.mark.parametrize('family', WITH_CHOICES)
def test_the_same_cuts_by_name_index_and_nnis_way_give_the_same_search_in_every_family(family, monkeypatch):
    def found(cut):
        monkeypatch.setenv(hosts.PREFERENCE, family)
        torch.manual_seed(0)
        model = space()
        mutator = hosts.of_model(model).DartsMutator(model).double()
        cut(mutator)
        search(model, mutator, 'Adam', epochs=1)
        assert mutator.choices.cuts('node0_edge1') == (2,)
        assert mutator.architecture()['node0_edge1'] != 'op2'
        return {key: logits.tolist() for key, logits in mutator.choices.items()}
    by_name = found(lambda mutator: mutator.cut('node0_edge1', 'op2'))
    assert by_name == found(lambda mutator: mutator.cut('node0_edge1', 2))
    assert by_name == found(lambda mutator: mutator.choices['node0_edge1'].data[2:3].fill_(-math.inf))
    restored = found(lambda mutator: (mutator.cut('node0_edge0', 0), mutator.restore('node0_edge0', 'op0'),
                                      mutator.restore('node1_edge0', 1), mutator.cut('node0_edge1', 2)))
    assert restored['node1_edge0'] != [0.0] and all(math.isfinite(x) for logits in restored.values() for x in logits)


@pytest.mark.parametrize('family', WITH_CHOICES)
@pytest.mark.parametrize('through', ['state_dict', 'deepcopy', 'pickle'])
def test_a_cut_stays_through_checkpoints_and_copies_in_every_family(family, through, monkeypatch):
    monkeypatch.setenv(hosts.PREFERENCE, family)
    model = space()
    mutator = hosts.of_model(model).DartsMutator(model).double()
    mutator.cut('node0_edge0', 'op0')
    mutator.choices['node1_edge0'].data[:-1] = -math.inf
    if through == 'state_dict':
        again = space()
        other = hosts.of_model(again).DartsMutator(again).double()
        again.load_state_dict(model.state_dict())
        other.load_state_dict(mutator.state_dict())
    else:
        copied = copy.deepcopy if through == 'deepcopy' else lambda one: pickle.loads(pickle.dumps(one))
        assert copied(mutator.choices).cuts('node0_edge0') == (0,)
        try:
            copied(space())
        except (NotImplementedError, TypeError):  # classic NNI's choices refuse deepcopy, Retiarii's before 2.6 both
            return
        again, other = copied((model, mutator))
    assert other.choices.cuts('node0_edge0') == (0,) and other.choices.cuts('node1_edge0') == (0, 1, 2)
    calls = count(of(again, 'node0_edge0', 'op0'))
    x = batches(1)[0][0][0]
    for one in (mutator, other):
        one.reset()
    assert torch.equal(model.eval()(x), again.eval()(x)) and not calls
    other.restore('node0_edge0', 0)
    assert mutator.choices.cuts('node0_edge0') == (0,)
    search(again, other, 'SGD', epochs=1)
    assert calls and other.choices.cuts('node1_edge0') == (0, 1, 2)


def test_a_candidate_that_is_restored_learns_again_from_nothing():
    model = space()
    mutator = hosts.of_model(model).DartsMutator(model).double()
    edge, late = 'node1_edge2', of(model, 'node1_edge2', 'op2')
    trainer = search(model, mutator, 'Adam', [Change(lambda mutator: mutator.cut(edge, 'op2'))])
    mutator.restore(edge, 'op2')
    before = [parameter.detach().clone() for parameter in parameters(late)]
    assert mutator.choices[edge][2] == 0
    trainer.train_one_epoch(0)
    assert abs(trainer.ctrl_optim.state[mutator.choices[edge]]['exp_avg'][2]) > 0
    assert not any(torch.equal(one, other) for one, other in zip(before, parameters(late)))


def test_what_cannot_be_cut_is_named():
    model = space()
    mutator = hosts.of_model(model).DartsMutator(model)
    for change in (mutator.cut, mutator.restore):
        with pytest.raises(SearchSpaceError, match="key 'nothing'.*node0_edge0"):
            change('nothing', 0)
        with pytest.raises(SearchSpaceError, match="'node0_edge0' has no candidate 'conv'.*op0.*from 0 to 2"):
            change('node0_edge0', 'conv')
    mutator.choices.cut('node0_edge0', 3)
    mutator.cut('node0_edge0', 0)
    mutator.cut('node0_edge0', 1)
    with pytest.raises(LogitsError, match="'node0_edge0'.*all be cut"):
        mutator.cut('node0_edge0', 2)
