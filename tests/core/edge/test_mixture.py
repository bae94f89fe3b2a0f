import copy
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any, NamedTuple, Optional

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from nni_darts_ext import SearchSpaceError
from nni_darts_ext.core.edge import saved_tensors
from nni_darts_ext.core.edge.mixture import mix, reduce
from nni_darts_ext.core.edge.recomputation import recomputed
from nni_darts_ext.core.edge.shapes import form_of
from nni_darts_ext.core.edge.sharing import SharedWork
from nni_darts_ext.core.logits import Logits, Relaxed
from nni_darts_ext.core.nested import map_tensors, tensors_of
from nni_darts_ext.core.relaxation import Relaxation
from nni_darts_ext.core.space import Edge, InputNode, SearchSpace


class Times(nn.Module):
    def __init__(self, factor):
        super().__init__()
        self.factor = factor
        self.calls = 0

    def forward(self, x, bias=0):
        self.calls += 1
        return x * self.factor + bias


def weights(*values):
    return Relaxed.of(torch.tensor(values))


def test_the_mixture_is_the_weighted_sum():
    x = torch.tensor([[1.0, 2.0]])
    mixed = mix([Times(10), Times(100)], weights(0.5, 0.25), (x,), {'bias': 1})
    assert torch.equal(mixed, 0.5 * (x * 10 + 1) + 0.25 * (x * 100 + 1))


@pytest.mark.parametrize('reduction, expected', [
    ('sum', [[40.0]]), ('mean', [[20.0]]), ('concat', [[10.0, 30.0]]), ('none', [[[10.0]], [[30.0]]])])
def test_reductions_are_over_the_live_candidates(reduction, expected):
    mixed = mix([Times(10), Times(1), Times(30)], weights(1.0, 0.0, 1.0), (torch.ones(1, 1),), {}, reduction)
    assert (mixed if reduction != 'none' else torch.stack(mixed)).tolist() == expected


def test_a_candidate_of_weight_0_does_not_run():
    ops = [Times(2), Times(3)]
    mix(ops, weights(0.0, 0.1), (torch.ones(1),), {})
    assert [op.calls for op in ops] == [0, 1]


def test_with_everything_cut_an_edge_gives_zeros_of_the_right_shape_and_runs_nothing():
    norm = nn.BatchNorm2d(5)
    ops = [nn.Sequential(nn.Conv2d(3, 5, 3, stride=2), norm, nn.Dropout()), Times(1)]
    x, state = torch.randn(2, 3, 9, 9), torch.get_rng_state()
    zeros = mix(ops, weights(0.0, 0.0), (x,), {})
    assert zeros.shape == (2, 5, 4, 4) and not zeros.any()
    assert norm.num_batches_tracked == 0 and not norm.running_mean.any()
    assert torch.equal(torch.get_rng_state(), state)
    assert ops[0].training and ops[1].calls == 0
    assert mix(ops, weights(0.0, 0.0), (x,), {}, 'none') == []
    assert mix(ops, weights(0.0, 0.0), (x,), {}, 'concat').shape == (2, 0, 4, 4)


class Structured(nn.Module):
    def forward(self, x):
        return {'out': x, 'states': (x * 2, [x * 3])}


def test_candidates_may_return_structures_of_tensors():
    x = torch.ones(2)
    mixed = mix([Structured(), Structured()], weights(0.5, 0.25), (x,), {})
    assert torch.equal(mixed['out'], x * 0.75)
    assert isinstance(mixed['states'], tuple) and torch.equal(mixed['states'][1][0], x * 2.25)


def plain_sum(ops, relaxed, x):
    return sum(relaxed.weights[i] * ops[i](x) for i in relaxed.live)


def hooked(module):
    module.register_forward_hook(lambda module, inputs, output: output * 3)
    return module


class Doubling(nn.Sequential):
    def forward(self, x):
        return 2 * super().forward(x)


TWICE = nn.ReLU()
OPS = {
    'paper': lambda: [nn.Sequential(nn.MaxPool2d(3, 1, 1), nn.BatchNorm2d(3, affine=False)), nn.Identity(),
                      *(nn.Sequential(nn.ReLU(), nn.Conv2d(3, 3, k, padding=k // 2), nn.BatchNorm2d(3, affine=False), nn.ReLU(),
                                      nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3, affine=False)) for k in (1, 3, 5))],
    'reduction': lambda: [nn.Sequential(nn.ReLU(), nn.Conv2d(3, 3, k, 2, k - 1, 2, groups=3), nn.Conv2d(3, 3, 1),
                                        nn.BatchNorm2d(3, affine=False)) for k in (3, 5)],
    'affine': lambda: [nn.Sequential(nn.ReLU(), nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)) for _ in range(3)],
    'short': lambda: [nn.Sequential(nn.ReLU()), nn.Sequential(), nn.Sequential(nn.BatchNorm2d(3, affine=False))],
    'without statistics': lambda: [nn.Sequential(nn.ReLU(), nn.Conv2d(3, 3, 1),
                                                 nn.BatchNorm2d(3, affine=False, track_running_stats=False))] * 2,
    'hooks': lambda: [nn.Sequential(nn.ReLU(), nn.Conv2d(3, 3, 1)), hooked(nn.Sequential(nn.ReLU(), nn.Conv2d(3, 3, 1))),
                      nn.Sequential(hooked(nn.ReLU()), nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3, affine=False)),
                      nn.Sequential(nn.ReLU(), nn.Conv2d(3, 3, 1), hooked(nn.BatchNorm2d(3, affine=False)))],
    'subclasses': lambda: [nn.Sequential(nn.ReLU6(), nn.Conv2d(3, 3, 1)), nn.Sequential(nn.ReLU(), nn.Conv2d(3, 3, 1)),
                           Doubling(nn.ReLU(), nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3, affine=False))],
    'a layer twice': lambda: [nn.Sequential(TWICE, nn.Conv2d(3, 3, 1), TWICE, nn.Conv2d(3, 3, 1)) for _ in range(2)],
    'nested': lambda: [nn.Sequential(nn.Sequential(nn.ReLU(), nn.Conv2d(3, 3, 1)), nn.Sequential(nn.BatchNorm2d(3, affine=False)))
                       for _ in range(2)],
    'other layers behind the ReLU': lambda: [nn.Sequential(nn.ReLU(), nn.Dropout(0.0, inplace=True), nn.Conv2d(3, 3, 1)),
                                             nn.Sequential(nn.ReLU(), nn.Conv2d(3, 3, 1))],
}


@pytest.mark.parametrize('small', [0, saved_tensors.SMALL])
@pytest.mark.parametrize('training', [True, False])
@pytest.mark.parametrize('ops', OPS)
def test_what_is_shared_fused_and_not_kept_is_the_plain_sum_with_its_gradients_and_statistics(ops, training, small, monkeypatch):
    monkeypatch.setattr(saved_tensors, 'SMALL', small)
    torch.manual_seed(0)
    ours = nn.ModuleList(OPS[ops]()).double().train(training)
    theirs = copy.deepcopy(ours)
    results = []
    for modules, compute in ((ours, lambda relaxed, x: mix(list(ours), relaxed, (x,), {})),
                             (theirs, lambda relaxed, x: plain_sum(theirs, relaxed, x))):
        torch.manual_seed(1)
        x = torch.randn(4, 3, 5, 5, dtype=torch.float64, requires_grad=True)
        logits = torch.randn(len(ours) + 1, dtype=torch.float64, requires_grad=True)
        output = compute(Relaxed.of(torch.softmax(logits, 0)[:-1]), x)
        over = [x, logits, *modules.parameters()]
        gradients = torch.autograd.grad((output ** 2).sum(), over, create_graph=True)
        second = torch.autograd.grad(sum((gradient ** 2).sum() for gradient in gradients), over, allow_unused=True)
        results.append([output, *gradients, *second, *modules.state_dict().values()])
    for one, other in zip(*results):
        assert (one is None) == (other is None)
        if one is not None:
            torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-10)
    assert all(module.weight is None for module in ours.modules() if isinstance(module, nn.BatchNorm2d) and not module.affine)


def test_the_relu_that_candidates_begin_with_runs_once(mocker):
    relu = mocker.spy(nn.functional, 'relu')
    ops = [nn.Sequential(nn.ReLU(), nn.Conv2d(3, 3, 1)) for _ in range(4)]
    mix(ops, weights(0.1, 0.2, 0.3, 0.0), (torch.ones(1, 3, 2, 2),), {})
    assert relu.call_count == 1


def test_a_weight_of_another_type_than_the_values_is_multiplied():
    norm = nn.Sequential(nn.BatchNorm2d(3, affine=False)).double()
    x = torch.randn(4, 3, 2, 2, dtype=torch.float64)
    mixed = mix([norm], weights(0.5), (x,), {})
    assert mixed.dtype == torch.float64
    torch.testing.assert_close(mixed, 0.5 * norm(x))


def test_an_unknown_reduction_is_named():
    with pytest.raises(SearchSpaceError, match="'max'.*sum, mean, concat, none"):
        reduce([torch.ones(1), torch.ones(1)], 'max')


# One input, several readers --------------------------------------------------------------------------------------------------

class Inside(nn.Module):
    """Works in place where nobody sees it."""

    def __init__(self, find=lambda value: value):
        super().__init__()
        self.find = find

    def forward(self, x, **kwargs):
        return nn.functional.relu(self.find(kwargs or x), inplace=True) * 2


class Swallowed(nn.Conv2d):
    """A convolution that writes over its input."""

    def forward(self, x):
        return super().forward(x.mul_(2))


IN_PLACE = {
    'alone': lambda inplace: nn.ReLU(inplace=inplace),
    'in a Sequential': lambda inplace: nn.Sequential(nn.ReLU(inplace=inplace), nn.Linear(3, 3)),
    'in Sequentials': lambda inplace: nn.Sequential(nn.Sequential(nn.LeakyReLU(0.1, inplace=inplace)), nn.Linear(3, 3)),
    'behind what passes it on': lambda inplace: nn.Sequential(nn.Identity(), nn.Dropout(0.5).eval(), nn.ELU(inplace=inplace)),
    'on a view': lambda inplace: nn.Sequential(nn.Flatten(0), nn.Unflatten(0, (4, 3)), nn.Hardtanh(inplace=inplace)),
}


@pytest.mark.parametrize('where', IN_PLACE)
def test_a_candidate_that_begins_in_place_leaves_its_input_to_the_others_and_to_other_edges(where):
    torch.manual_seed(0)
    ours = nn.ModuleList([IN_PLACE[where](True), nn.Identity(), nn.Tanh(), IN_PLACE[where](True)])
    theirs = nn.ModuleList([IN_PLACE[where](False), nn.Identity(), nn.Tanh(), IN_PLACE[where](False)])
    theirs.load_state_dict(ours.state_dict())
    results, relaxed = [], weights(0.1, 0.2, 0.3, 0.4)
    shared = SharedWork()
    for modules, edge in ((ours, lambda x: mix(list(ours), relaxed, (x,), {}, shared=shared)),
                          (theirs, lambda x: plain_sum(theirs, relaxed, x))):
        x = torch.linspace(-1, 1, 12).reshape(4, 3).requires_grad_()
        state = x * 1
        output = edge(state) + 3 * edge(state)
        results.append([output, state, *torch.autograd.grad(output.square().sum(), [x, *modules.parameters()])])
    for one, other in zip(*results):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize('candidate, args, kwargs', [
    (Inside(), (torch.ones(3),), {}), (Inside(lambda x: x[1][0]), ([torch.ones(3), (torch.ones(3),)],), {}),
    (Inside(lambda x: x['a']), ({'a': torch.ones(3)},), {}), (Inside(lambda x: x['a']), (torch.ones(3),), {'a': torch.ones(3)}),
    (nn.Sequential(nn.Identity(), Inside()), (torch.ones(3),), {}),
])
@pytest.mark.parametrize('recompute', [False, True])
def test_one_that_does_so_inside_is_refused_by_its_name(candidate, args, kwargs, recompute):
    choices, space = Logits(), SearchSpace([Edge('edge', ('first', 'second'))])
    choices.add('edge', 2)
    relaxation = Relaxation(choices, space, recompute)
    with pytest.raises(SearchSpaceError, match="'second' of LayerChoice 'edge' writes over its input.*inplace=False.*clone"):
        relaxation.edge('edge', [Inside(lambda x: torch.ones(3)), candidate], args, kwargs)


class Putting(nn.Module):
    """Puts its results where it found what it made them of, as many models do."""

    def forward(self, batch, more=()):
        batch['x'] = batch['x'] * 2
        batch['states'].append(batch['x'])
        return batch['states'].pop(0) + batch['x']


@pytest.mark.parametrize('more', [(), ([],)])
def test_each_candidate_has_lists_and_dicts_of_its_own(more):
    x = torch.ones(3)
    batch = {'x': x, 'states': [x * 5]}
    assert mix([Putting(), Putting()], weights(1.0, 1.0), (batch, *more), {}).tolist() == [14] * 3
    assert batch['x'] is x and len(batch['states']) == 1


def test_what_is_shared_and_written_over_is_computed_anew():
    x = torch.linspace(-1, 1, 48).reshape(1, 3, 4, 4)
    ops = [nn.Sequential(nn.ReLU(), swallowing(3, 3, 1)) for swallowing in (Swallowed, nn.Conv2d, Swallowed)]
    shared, relaxed = SharedWork(), weights(0.1, 0.2, 0.3)
    with torch.no_grad():
        for _ in range(2):
            torch.testing.assert_close(mix(ops, relaxed, (x,), {}, shared=shared), plain_sum(ops, relaxed, x))


@pytest.mark.parametrize('how', ['keeping', 'recompute'])
def test_what_is_computed_again_of_an_input_that_was_written_over_is_refused(how, monkeypatch):
    monkeypatch.setattr(saved_tensors, 'SMALL', 0)
    op = nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)).requires_grad_(False)  # as in a step of the logits
    x, logits = torch.randn(2, 3, 4, 4), torch.zeros(1, requires_grad=True)
    state = x + 1
    relaxed = Relaxed(logits.sigmoid(), (0,))
    if how == 'keeping':
        op[0].bias.requires_grad_()
        output = mix([op], relaxed, (state,), {})
    else:
        output = recomputed(lambda relaxed: mix([op], relaxed, (state,), {}), relaxed, [op], state)
    state.add_(1)
    with pytest.raises((SearchSpaceError, RuntimeError), match='written over before the backward pass'):  # 1.12 wraps it
        output.square().sum().backward()


POOL = {  # candidates of vectors: what they give may be what they were given, a view of it, or a part of themselves
    'identity': nn.Identity, 'empty': nn.Sequential, 'tanh': nn.Tanh, 'relu': nn.ReLU,
    'in place': lambda: nn.ReLU(inplace=True), 'dropped': lambda: nn.Dropout(0.0, inplace=True),
    'in place later': lambda: nn.Sequential(nn.Linear(4, 4), nn.ReLU(inplace=True)),
    'in place first': lambda: nn.Sequential(nn.ELU(inplace=True), nn.Linear(4, 4)),
    'norm': lambda: nn.Sequential(nn.ReLU(), nn.Linear(4, 4), nn.BatchNorm1d(4, affine=False)),
    'pooled': lambda: nn.Sequential(nn.AvgPool1d(3, 1, 1), nn.ReLU(inplace=True)), 'parameter': lambda: Own(),
}


class Own(nn.Module):
    """Returns a view of its parameter, the same for all rows."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.linspace(-1, 1, 4))

    def forward(self, x):
        return self.weight.expand(x.shape)


@settings(deadline=None, max_examples=60)
@given(edges=st.lists(st.lists(st.sampled_from(sorted(POOL)), min_size=1, max_size=5), min_size=1, max_size=3),
       chained=st.booleans(), training=st.booleans(), reduction=st.sampled_from(['sum', 'mean']))
def test_whoever_reads_an_input_finds_it_as_it_was(edges, chained, training, reduction):
    """Edges that read one state, or each other's outputs, against candidates that run on copies of their own."""
    torch.manual_seed(0)
    ours = nn.ModuleList(nn.ModuleList(POOL[name]() for name in edge) for edge in edges).double().train(training)
    theirs, results = copy.deepcopy(ours), []

    def plain(candidates, relaxed, x):
        total = sum(relaxed.weights[i] * candidate(x.clone()) for i, candidate in enumerate(candidates))
        return total if reduction == 'sum' else total / len(candidates)
    shared = SharedWork()
    for modules, edge in ((ours, lambda candidates, relaxed, x: mix(candidates, relaxed, (x,), {}, reduction, shared)),
                          (theirs, plain)):
        x = torch.linspace(-1, 1, 12, dtype=torch.float64).reshape(3, 4).requires_grad_()
        logits = torch.linspace(0, 1, 5, dtype=torch.float64).requires_grad_()
        states = [x * 1]
        for candidates in modules:
            relaxed = Relaxed.of(logits.softmax(0)[:len(candidates)])
            states.append(edge(list(candidates), relaxed, states[-1 if chained else 0]))
        over = [x, logits, *modules.parameters()]
        gradients = torch.autograd.grad(reduce(states, 'sum').square().sum(), over, allow_unused=True)
        results.append([*states, *gradients, *modules.state_dict().values()])
    for one, other in zip(*results):
        torch.testing.assert_close(torch.zeros(()) if one is None else one, torch.zeros(()) if other is None else other)


# Structures ------------------------------------------------------------------------------------------------------------------

class Pair(NamedTuple):
    out: Any
    state: Any


class Output(OrderedDict):
    """As other libraries return them, with attributes."""

    def __init__(self, *args, name='out', **kwargs):
        super().__init__(*args, **kwargs)
        self.name = name


@dataclass(frozen=True)
class Record:
    out: torch.Tensor
    note: Optional[str] = None


class Gives(nn.Module):
    """What a function makes of the input and a parameter."""

    def __init__(self, make, factor=1.0):
        super().__init__()
        self.make = make
        self.factor = nn.Parameter(torch.tensor(factor))

    def forward(self, x):
        return self.make(x * self.factor)


STRUCTURES = {
    'a namedtuple': lambda x: Pair(x, (x * 2, None)), 'a mapping': lambda x: Output(out=x, name='other'),
    'a dataclass': lambda x: Record(x, 'note'), 'None': lambda x: (x, None, [None]),
    'lengths': lambda x: (x, torch.tensor([3, 2])), 'a mask': lambda x: {'x': x, 'mask': torch.tensor([True, False])},
    'words and numbers': lambda x: (x, 'pad', 3, 0.5, torch.float), 'complex numbers': lambda x: (x, x * 1j),
}


def packed(x, lengths):
    return pack_padded_sequence(x[..., None], lengths, batch_first=True)


def values_of(structure):
    return [*tensors_of(structure)]


@pytest.mark.parametrize('reduction', ['sum', 'mean', 'concat', 'none'])
@pytest.mark.parametrize('kind', STRUCTURES)
def test_structures_keep_their_types_and_what_cannot_be_weighed(kind, reduction):
    make, x = STRUCTURES[kind], torch.ones(2, 3)
    mixed = mix([Gives(make, 1.0), Gives(make, 3.0)], weights(0.5, 0.25), (x,), {}, reduction)
    one = make(x)
    for output, factors in (zip(mixed, [[0.5], [0.75]]) if reduction == 'none' else [(mixed, [0.5, 0.75])]):
        assert type(output) is type(one) and repr(form_of(map_tensors(torch.zeros_like, output)))  # of a form at all
        for found, plain in zip(values_of(output), values_of(one)):
            if not (plain.is_floating_point() or plain.is_complex()):
                assert torch.equal(found, plain)
            elif reduction == 'concat':
                torch.testing.assert_close(found, torch.cat([plain * factor for factor in factors], 1))
            else:
                torch.testing.assert_close(found, plain * sum(factors) / (2 if reduction == 'mean' else 1))
        assert getattr(output, 'name', None) == getattr(one, 'name', None)
        assert getattr(output, 'note', None) == getattr(one, 'note', None)
    if kind == 'None' and reduction != 'none':
        assert mixed[1] is None and mixed[2] == [None]
    if kind == 'words and numbers' and reduction != 'none':
        assert mixed[1:] == ('pad', 3, 0.5, torch.float)
    zeros = mix([Gives(make)], weights(0.0), (x,), {})
    assert type(zeros) is type(one)
    for found, plain in zip(values_of(zeros), values_of(one)):
        kept = not (plain.is_floating_point() or plain.is_complex())
        assert torch.equal(found, plain if kept else torch.zeros_like(plain))


@pytest.mark.parametrize('one, other, message', [
    (lambda x: (x, None), lambda x: (x, x), r'returns the shape \[\(2, 3\), \(2, 3\)\], but .* returns \[\(2, 3\), None\]'),
    (lambda x: None, lambda x: x, r'returns the shape \(2, 3\), but .* returns None'),
    (lambda x: (x, 'a'), lambda x: (x, 'b'), r"\[\(2, 3\), 'b'\], but .*\[\(2, 3\), 'a'\].*must be the same"),
    (lambda x: {'n': 1.0}, lambda x: {'n': 2.0}, r"\{'n': 2.0\}, but .*\{'n': 1.0\}"),
    (lambda x: (x, torch.tensor([3, 2])), lambda x: (x, torch.tensor([3, 1])),
     r'\[3, 1\] of torch.int64.*\[3, 2\] of torch.int64'),
    (lambda x: x.long(), lambda x: x.long() + 1, r'\[\[2, 2, 2\], \[2, 2, 2\]\] of torch.int64'),
    (lambda x: object(), lambda x: object(), '<object'),
    (lambda x: packed(x, [3, 2]), lambda x: packed(x, [3, 3]), 'data'),
    (lambda x: packed(x, [3, 1]), lambda x: packed(x, [2, 2]), r'\[2, 2\] of torch.int64'),
])
@pytest.mark.parametrize('reduction', ['sum', 'mean', 'concat'])
def test_those_that_differ_in_more_than_numbers_are_refused_by_name(one, other, message, reduction):
    choices, space = Logits(), SearchSpace([Edge('edge', ('one', 'other'))])
    choices.add('edge', 2)
    with pytest.raises(SearchSpaceError, match=f"'other' of LayerChoice 'edge' .*{message}"):
        Relaxation(choices, space).edge('edge', [Gives(one), Gives(other)], (torch.ones(2, 3),), {}, reduction)


def test_recurrent_candidates_run_on_packed_sequences():
    ops = nn.ModuleList([nn.LSTM(3, 3, batch_first=True), nn.LSTM(3, 3, 1, batch_first=True)])
    x = pack_padded_sequence(torch.randn(2, 4, 3), [4, 2], batch_first=True)
    mixed, (h, c) = mix(list(ops), weights(0.25, 0.5), (x,), {})
    (one, (h1, c1)), (other, (h2, c2)) = (op(x) for op in ops)
    torch.testing.assert_close(mixed.data, 0.25 * one.data + 0.5 * other.data)
    torch.testing.assert_close((h, c), (0.25 * h1 + 0.5 * h2, 0.25 * c1 + 0.5 * c2))
    assert isinstance(mixed, PackedSequence) and torch.equal(mixed.batch_sizes, x.batch_sizes)
    padded, lengths = pad_packed_sequence(mix(list(ops), weights(0.0, 0.0), (x,), {})[0], batch_first=True)
    assert padded.shape == (2, 4, 3) and not padded.any() and lengths.tolist() == [4, 2]


@pytest.mark.parametrize('values, message', [
    ([None, torch.ones(2)], 'None'), ([torch.ones(2), (torch.ones(2),)], r'\(2,\), \[\(2,\)\]'),
    ([(torch.ones(2), 'a'), (torch.ones(2), 'b')], "'b'"), ([{'a': torch.ones(2)}, {'b': torch.ones(2)}], "'b'")])
def test_inputs_of_other_forms_are_refused_by_key(values, message):
    space = SearchSpace([Edge('edge', ('one',)), InputNode('pick', ('', ''), 1)])
    with pytest.raises(SearchSpaceError, match=f"InputChoice 'pick': .*{message}.*cannot be reduced by 'sum'"):
        Relaxation(Logits(), space).inputs('pick', values, 'sum')


def test_inputs_are_broadcast_and_whole_numbers_added_up_as_nni_does():
    assert reduce([torch.ones(2, 3), torch.ones(1, 3)], 'sum').tolist() == [[2] * 3] * 2
    assert reduce([torch.tensor([1, 2]), torch.tensor([3, 4])], 'sum').tolist() == [4, 6]
    assert reduce([(torch.ones(1), None), (torch.ones(1), None)], 'mean') == (torch.ones(1), None)


# With everything cut ---------------------------------------------------------------------------------------------------------

@pytest.mark.filterwarnings('ignore:.*weight_norm.*:FutureWarning')
def test_a_candidate_that_cannot_be_copied_gives_its_shape_without_a_trace():
    class Noisy(nn.Module):
        def forward(self, x):
            return nn.functional.dropout(x, 0.5, training=True)
    norm = nn.BatchNorm2d(5)
    op = nn.Sequential(nn.ReLU(inplace=True), nn.utils.weight_norm(nn.Conv2d(3, 5, 3)), norm.eval(), nn.Dropout2d(), Noisy())
    x = torch.linspace(-1, 1, 50).expand(2, 3, 50).reshape(2, 3, 5, 10).clone()
    op(x.clone()).sum().backward()
    with pytest.raises(RuntimeError):
        copy.deepcopy(op)
    before, state, statistics = x.clone(), torch.get_rng_state(), copy.deepcopy(norm.state_dict())
    modes = [module.training for module in op.modules()]
    zeros = mix([op], weights(0.0), (x,), {})
    assert zeros.shape == (2, 5, 3, 8) and not zeros.any() and not zeros.requires_grad
    assert torch.equal(x, before) and torch.equal(torch.get_rng_state(), state)
    assert [module.training for module in op.modules()] == modes and len(set(modes)) == 2
    assert all(torch.equal(value, norm.state_dict()[name]) for name, value in statistics.items())


def test_modes_come_back_after_an_error():
    op = nn.Sequential(nn.BatchNorm1d(3), nn.Linear(4, 4).eval())
    with pytest.raises(RuntimeError):
        mix([op], weights(0.0), (torch.ones(2, 3),), {})
    assert [module.training for module in op.modules()] == [True, True, False]
