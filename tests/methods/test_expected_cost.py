"""The expected cost against the formula on plain tensors, and against what the derived networks have."""

import copy
import itertools
import math

import pytest
import torch
from papers import FAMILIES, ORDERS, Space, check_loop, check_strategy, check_trainer, trainer
from spaces import Cells
from torch import nn

import nni_darts_ext.nn as dnn
from nni_darts_ext import DartsMutator, apply_fixed_architecture, hosts
from nni_darts_ext.core import costs
from nni_darts_ext.errors import MethodError
from nni_darts_ext.methods import ExpectedCost, GumbelSoftmax, PerturbationSelection, SkipLimit, named

FIXED = 8  # of Space: its classifier
TABLES = {'parameters': {'a': [12, 0], 'b': [12, 0, 0]}, 'multiply_adds': {'a': [9, 0], 'b': [9, 0, 0]}}
"""The costs of its candidates. Its InputChoice keeps one of two edges."""


def softmax(alphas, at):
    return {key: torch.softmax(of_edge, 0) for key, of_edge in alphas.items()}


def expected(alphas, cost='parameters'):
    """The candidates' part of the expected cost, without the zero op, which is not derived."""
    return sum((torch.softmax(of_edge[:-1], 0) * of_edge.new_tensor(TABLES[cost][key])).sum() / 2
               for key, of_edge in alphas.items())


def with_weight(alphas, at):
    return 0.2 * expected(alphas) / 12


def with_target(alphas, at):
    return 3 * abs((expected(alphas, 'multiply_adds') + 6) / 14 - 1)


CASES = {'weight': (ExpectedCost, with_weight),
         'target': (lambda: ExpectedCost('multiply_adds', weight=3, target=14), with_target)}


@pytest.mark.parametrize('family', FAMILIES)
@pytest.mark.parametrize('order', ORDERS)
@pytest.mark.parametrize('case', CASES)
def test_the_trainer_has_the_gradient_of_the_formula(case, order, family, monkeypatch):
    monkeypatch.setenv(hosts.PREFERENCE, family)
    method, term = CASES[case]
    check_trainer(method, softmax, order, term)


@pytest.mark.family('lightning', 'nas')
@pytest.mark.parametrize('case, order', [('weight', False), ('target', 'exact')])
def test_a_strategy_has_it(case, order):
    method, term = CASES[case]
    check_strategy(method, softmax, order, term)


@pytest.mark.parametrize('family', FAMILIES)
def test_a_loop_has_it(family, monkeypatch):
    monkeypatch.setenv(hosts.PREFERENCE, family)
    check_loop(ExpectedCost, softmax, with_weight)


@pytest.mark.parametrize('zero_op_wins', [False, True])
def test_the_gradient_is_that_of_finite_differences(zero_op_wins):
    method = ExpectedCost(target=13)
    search = trainer([method], zero_op_wins=zero_op_wins)
    search.mutator.cut('b', 'skip')
    search.mutator.choices.forget(search.ctrl_optim)
    logits = {key: of_edge.detach().requires_grad_()
              for key, of_edge in search.mutator.choices.effective(search.mutator.choices.keys()).items()}

    def term(*values):
        return method.regularizer(dict(zip(logits, values)), search.steps.methods.at)
    assert torch.autograd.gradcheck(term, tuple(logits.values()))
    for gradient in torch.autograd.grad(term(*logits.values()), list(logits.values())):
        assert (gradient[-1].abs() > 1e-9) == zero_op_wins  # else it is not derived


NODES = {  # by what their InputChoices keep, as spaces.Cells takes them
    'all inputs': [((4, 3), None, 'sum'), ((5, 2, 3), None, 'sum')],
    'one of two that cost the same': [((4, 4), 1, 'sum')],
}


@pytest.mark.parametrize('family', FAMILIES)
@pytest.mark.parametrize('nodes', NODES.values(), ids=NODES)
def test_where_the_probabilities_are_0_and_1_it_is_the_cost_of_the_derived_network(nodes, family, monkeypatch):
    monkeypatch.setenv(hosts.PREFERENCE, family)
    inputs = torch.randn(5, 3)
    for chosen in (0, -1):
        for cost in ('parameters', 'multiply_adds'):
            method = ExpectedCost(cost)
            model = of_two_cells(nodes)
            mutator = hosts.of_model(model).DartsMutator(model, methods=[method])
            for _, logits in mutator.choices.items():
                logits.data[:-1] = 0
                logits.data[:-1][chosen] = 200
            mutator.reset()
            model(inputs).sum().backward()
            derived = apply_fixed_architecture(of_two_cells(nodes), mutator.export(mutator.form), verbose=False)
            assert method.expected(mutator).item() == getattr(costs.cost(derived, inputs), cost) > 0


def of_two_cells(nodes):
    return Cells(nodes, cells=2, named=True)


@pytest.mark.parametrize('target', [10, 13])
def test_a_search_with_a_target_comes_to_it(target):
    method = ExpectedCost(target=target)
    search = trainer([method], epochs=40, arc_weight_decay=0)
    before = method.expected(search.mutator).item()
    search.train()
    assert abs(before / target - 1) > 0.15
    assert method.expected(search.mutator).item() == pytest.approx(target, rel=0.1)


class Chain(dnn.ModelSpace):
    """Four choices between a convolution of 3 x 3, one of 1 x 1 and none: 36, 4 and 0 parameters of 80 and 2 others."""

    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList([dnn.LayerChoice({
            'large': nn.Conv2d(2, 2, 3, padding=1, bias=False), 'small': nn.Conv2d(2, 2, 1, bias=False), 'skip': nn.Identity()},
            key=key) for key in 'abcd'])
        self.bias = nn.Parameter(torch.zeros(2))

    def forward(self, x):
        for layer in self.layers:
            x = layer(x)
        return x + self.bias[:, None, None]


@pytest.mark.parametrize('seed', range(20))
def test_the_derived_network_has_the_target_and_hardly_less_probable_candidates(seed):
    draw = torch.Generator().manual_seed(seed)
    logits = torch.randn(4, 4, generator=draw)
    target = [2 + 36 * n for n in (1, 2, 3)][seed % 3]
    mutator = DartsMutator(Chain(), methods=[ExpectedCost(target=target)])
    plain = DartsMutator(Chain())
    for one in (mutator, plain):
        for of_edge, value in zip(one.choices.values(), logits):
            of_edge.data = value.clone()
    logs, candidates = logits[:, :3].log_softmax(1), {'large': (0, 36), 'small': (1, 4), 'skip': (2, 0)}

    def judged(architecture):
        chosen = [candidates[architecture[key]] for key in 'abcd']
        return abs((2 + sum(cost for _, cost in chosen)) / target - 1), sum(logs[j, i].item() for j, (i, _) in enumerate(chosen))
    every = [judged(dict(zip('abcd', names))) for names in itertools.product(candidates, repeat=4)]
    most_probable = max(log for miss, log in every if miss <= 0.1)
    miss, log = judged(mutator.export())
    assert miss <= 0.1 and log > most_probable - 1.5
    if judged(plain.export())[0] <= 0.1:
        assert mutator.export() == plain.export()
    assert all(torch.equal(one, other) for one, other in zip(mutator.probabilities().values(), plain.probabilities().values()))


@pytest.mark.parametrize('other', [SkipLimit, PerturbationSelection])
def test_a_target_does_not_go_with_what_also_decides_what_is_derived(other):
    with pytest.raises(MethodError, match='cannot be combined'):
        trainer([ExpectedCost(target=10), other()])
    trainer([ExpectedCost(), other()], epochs=5)


def test_a_copy_of_the_model_before_its_first_pass_runs():
    model = Chain()
    mutator = DartsMutator(model, methods=[ExpectedCost('multiply_adds')])
    mutator.reset()
    try:
        copied = copy.deepcopy(model)
    except (NotImplementedError, TypeError):
        pytest.skip("classic NNI's choices and Retiarii's before 2.6 refuse copies")
    x = torch.randn(1, 2, 4, 4)
    assert torch.equal(copied(x), model(x))


def test_what_no_exchange_brings_closer_stays(caplog):
    mutator = DartsMutator(Chain(), methods=[ExpectedCost(target=21)])
    for of_edge in mutator.choices.values():
        of_edge.data = torch.tensor([3., 0., 1., 0.])
    mutator.cut('a', 'small')
    counts = [0, 0, 0]
    for name in mutator.export().values():
        counts[['large', 'small', 'skip'].index(name)] += 1
    assert counts == [0, 3, 1] and 'costs 14, which no exchange of a single candidate brings closer' in caplog.text


def test_without_a_target_it_gets_cheaper():
    searches = [trainer([ExpectedCost(weight=weight)], epochs=10) for weight in (1e-9, 1)]
    for search in searches:
        search.train()
    free, cheap = (search.steps.methods.all[1].expected(search.mutator).item() for search in searches)
    assert FIXED < cheap < free - 0.5


def test_it_costs_what_the_probabilities_say_that_are_read():
    methods = [GumbelSoftmax(), ExpectedCost()]
    search = trainer(methods)
    logits = search.mutator.choices.effective(search.mutator.choices.keys())
    assert methods[1].expected(search.mutator).item() == pytest.approx(FIXED + expected(logits).item())


# Latency and tables ------------------------------------------------------------------------------------------------------

def test_a_latency_is_measured_once_and_saved():
    method, again = ExpectedCost('latency'), ExpectedCost('latency')
    search = trainer([method])
    search.train()
    found = method.state_dict()
    (linear, tanh), (_, skip, _) = found['candidates']['a'], found['candidates']['b']
    assert linear > 0 and tanh > 0 and skip == 0 and 0 < found['fixed'] < 1000
    resumed = trainer([again])
    resumed.steps.methods.load_state_dict(search.steps.methods.state_dict())
    resumed.train()
    assert again.state_dict() == found


@pytest.mark.parametrize('table, cost', [
    ({'linear': 5, 'tanh': 1.5, 'skip': 0, 'sine': 2}, {'a': [5, 1.5], 'b': [5, 0, 2]}),
    ({'a': {'linear': 5, 'tanh': 1}, 'b': {'linear': 7, 'skip': 0, 'sine': 2}}, {'a': [5, 1], 'b': [7, 0, 2]})])
def test_a_table_says_what_candidates_cost(table, cost):
    method = ExpectedCost(table)
    trainer([method])
    assert method.state_dict() == {'fixed': 0, 'candidates': cost}


def test_a_table_counts_each_layer_choice_of_a_key():
    method = ExpectedCost({f'op{i}': i for i in range(5)})
    DartsMutator(of_two_cells([((2,), 1, 'sum')]), methods=[method])
    assert method.state_dict()['candidates'] == {'node0_edge0': [0, 2]}


def test_arguments_come_from_a_text():
    assert repr(named('ExpectedCost:cost=multiply_adds, target=5e6')) == repr(ExpectedCost('multiply_adds', target=5e6))
    assert named('ExpectedCost:cost={skip: 0, linear: 2.5}').cost == {'skip': 0, 'linear': 2.5}


# What is refused ---------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize('arguments, message', [
    (dict(cost='flops'), "cost='flops'.*expected one of 'parameters', 'multiply_adds', 'latency', or a table"),
    (dict(cost=3), 'cost=3'), (dict(cost={}), 'cost={}'), (dict(cost={'skip': -1}), 'at least 0'),
    (dict(cost={'skip': 1, 'a': {'skip': 1}}), 'a table of numbers'), (dict(cost={'skip': 'one'}), 'a table of numbers'),
    (dict(weight=0), 'weight=0.: expected a number above 0'), (dict(weight='1'), "weight='1'"),
    (dict(weight=True), 'weight=True'),
    (dict(target=-5), 'target=-5.: expected a number above 0'), (dict(target=math.nan), 'target=nan')])
def test_arguments_without_meaning_are_refused(arguments, message):
    with pytest.raises(MethodError, match=message):
        ExpectedCost(**arguments)


def test_a_table_that_lacks_candidates_is_refused():
    with pytest.raises(MethodError, match="no number for the candidates 'skip' of 'b', 'sine' of 'b'"):
        trainer([ExpectedCost({'linear': 2, 'tanh': 1})])


@pytest.mark.parametrize('target', [7, 21])
def test_a_target_that_cannot_be_reached_is_refused(target):
    with pytest.raises(MethodError, match=r'the expected cost is from 8 to 20'):
        trainer([ExpectedCost(target=target)]).train()


def test_candidates_that_cost_the_same_are_refused():
    with pytest.raises(MethodError, match='no effect: all architectures cost 3'):
        trainer([ExpectedCost({'linear': 3, 'tanh': 3, 'skip': 3, 'sine': 3})]).train()


def test_a_model_that_cannot_run_once_more_is_refused():
    class Once(Space):
        ran = False

        def forward(self, x):
            assert not self.ran
            self.ran = True
            return super().forward(x)
    model = Once()
    mutator = DartsMutator(model, methods=[ExpectedCost('multiply_adds')])
    mutator.reset()
    with pytest.raises(MethodError, match='cannot run the model once more to measure its candidates: AssertionError'):
        model(torch.randn(2, 3))
