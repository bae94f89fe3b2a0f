"""What holds of cut candidates in a strategy, whichever host runs it."""

import math

import pytest
import torch
from spaces import TWO_NODES, Cells, batches, write_weights

from nni_darts_ext import LogitsError, SearchSpaceError

EARLY, LATE = ('node0_edge0', 'op0'), ('node1_edge0', 'op2')


def check(strategy, run, optimizer, steps=20):
    """``run(model, strategy, data, optimizer, epochs, on_epoch)`` runs an experiment and returns its Lightning trainer."""
    model = write_weights(Cells(TWO_NODES, named=True))
    early, late = ([p for module in modules(model, *candidate) for p in module.parameters()] for candidate in (EARLY, LATE))
    calls = []
    for module in modules(model, *EARLY):
        module.register_forward_hook(lambda *args: calls.append(1))
    start = [p.detach().clone() for p in early]
    frozen = []

    def on_epoch(epoch):
        if epoch == 1:
            strategy.cut(*LATE)
            strategy.choices['node1_edge1'].data[:-1] = -math.inf
            strategy.restore('node0_edge1', 'op1')
            frozen.extend(p.detach().clone() for p in late)

    strategy.cut('node0_edge0', 0)
    strategy.cut('node0_edge1', 'op1')
    trainer = run(model, strategy, batches(steps), optimizer, 2, on_epoch)

    assert not calls
    choices = strategy.choices
    assert [choices.cuts(key) for key in ('node0_edge0', 'node0_edge1', 'node1_edge0', 'node1_edge1')] == [(0,), (), (2,), (0, 1)]
    assert all(p.grad is None for p in (*early, *late))
    assert all(torch.equal(one, other) for one, other in zip((*start, *frozen), (*early, *late)))
    assert all(torch.isfinite(p).all() for p in (*model.parameters(), *choices.parameters()))
    for optimizer in trainer.optimizers:
        assert not set(early) & set(optimizer.state)
        for state in optimizer.state.values():
            assert all(torch.isfinite(value).all() for value in state.values() if torch.is_tensor(value))
        for key, entry in (('node0_edge0', 0), ('node1_edge0', 2), ('node1_edge1', 0)):
            state = optimizer.state.get(choices[key], {})
            assert all(value[entry] == 0 for name, value in state.items() if name.startswith('exp_avg'))
    assert abs(choices['node0_edge1'][1]) > 0
    assert strategy.search.architecture()['node0_edge0'] != 'op0'


def modules(model, key, candidate):
    return [getattr(cell.edges[int(key[4])][int(key[-1])], candidate) for cell in model.cells]


def check_errors(make_strategy, take_up):
    """``take_up(strategy, model)`` lets a strategy have a model. What is wrong is said then, and not before."""
    for cut, error, message in [(('nothing', 0), SearchSpaceError, "key 'nothing'.*node0_edge0"),
                                (('node0_edge0', 'conv'), SearchSpaceError, "'node0_edge0' has no candidate 'conv'.*op0")]:
        strategy = make_strategy()
        strategy.cut(*cut)
        with pytest.raises(error, match=message):
            take_up(strategy, Cells(TWO_NODES, named=True))
    strategy = make_strategy()
    take_up(strategy, Cells(TWO_NODES, named=True))
    with pytest.raises(SearchSpaceError, match="'node0_edge0' has no candidate 'conv'"):
        strategy.cut('node0_edge0', 'conv')
    strategy.choices.cut('node1_edge1', 2)  # the zero op
    strategy.cut('node1_edge1', 0)
    with pytest.raises(LogitsError, match="'node1_edge1'.*all be cut"):
        strategy.cut('node1_edge1', 1)
