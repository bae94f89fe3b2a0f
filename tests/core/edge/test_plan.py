"""What is found out once about the candidates of a LayerChoice, and found out again when they change."""

import copy
import gc
import pickle
import sys
import weakref

import pytest
import torch
from torch import nn
from torch.nn.modules.module import register_module_forward_hook

from nni_darts_ext.core.edge.layers import is_plain
from nni_darts_ext.core.edge.plan import Plan
from nni_darts_ext.core.logits import Logits, Relaxed
from nni_darts_ext.core.relaxation import Relaxation
from nni_darts_ext.core.space import Edge, SearchSpace

WEIGHTS = torch.tensor([0.1, 0.2, 0.3, -0.4, 1.5], dtype=torch.float64)


def candidates():
    torch.manual_seed(0)
    return nn.ModuleList([
        nn.Sequential(nn.AvgPool2d(3, 1, 1), nn.BatchNorm2d(3, affine=False)),
        nn.Sequential(nn.ReLU(), nn.Conv2d(3, 3, 3, 1, 1), nn.BatchNorm2d(3)),
        nn.Sequential(nn.Sequential(nn.ReLU(), nn.Conv2d(3, 3, 1)), nn.BatchNorm2d(3, affine=False), nn.ReLU()),
        nn.Sequential(nn.ReLU(), nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3, affine=False)), nn.Identity()]).double()


def relaxation():
    choices, space = Logits(), SearchSpace([Edge('edge', tuple('abcde'))])
    choices.add('edge', 5)
    return Relaxation(choices, space)


def by_plan(relaxation, ops):
    return lambda x: relaxation.edge('edge', list(ops), (x,), {}, relaxed=Relaxed.of(WEIGHTS), module=ops)


def plainly(ops):
    return lambda x: sum(weight * op(x.clone()) for weight, op in zip(WEIGHTS, ops))


def pass_through(ops, edge):
    """The output and all that a pass leaves behind."""
    ops.zero_grad()
    x = torch.linspace(-1, 1, 96, dtype=torch.float64).reshape(2, 3, 4, 4).requires_grad_()
    output = edge(x * 1)
    output.square().sum().backward()
    gradients = [None if p.grad is None else p.grad.clone() for p in ops.parameters()]
    return [output, x.grad, *gradients, *(value.clone() for value in ops.state_dict().values())]


def calls_of(functions, run):
    codes, calls = {function.__code__ for function in functions}, []

    def note(frame, event, argument):
        if event == 'call' and frame.f_code in codes:
            calls.append(frame.f_code.co_name)
    sys.setprofile(note)
    try:
        run()
    finally:
        sys.setprofile(None)
    return len(calls)


class Negated(nn.Module):
    def forward(self, weight):
        return -weight


class Standardized(nn.Conv2d):
    def _conv_forward(self, x, weight, bias):
        return super()._conv_forward(x, weight - weight.mean(), bias)


class Ones(nn.Conv2d):
    def __getattribute__(self, name):
        return torch.ones(3, 3, 3, 3).double() if name == 'weight' else super().__getattribute__(name)


def set_in(find, **attributes):
    return lambda ops: [setattr(find(ops), name, value) for name, value in attributes.items()]


def tripled(module, inputs, output):
    return output * 3


CHANGES = {
    'the mode of all': lambda ops: ops.eval(),
    'the mode of one layer': lambda ops: ops[3][2].eval(),
    'a hook': lambda ops: ops[1][0].register_forward_hook(tripled),
    'a hook of a Sequential': lambda ops: ops[2][0].register_forward_hook(tripled),
    'a hook of a norm at the end': lambda ops: ops[0][1].register_forward_hook(tripled),
    'a hook before a layer': lambda ops: ops[1][1].register_forward_pre_hook(lambda module, args: (args[0] * 2,)),
    'a hook of the gradient': lambda ops: ops[2][1].register_full_backward_hook(
        lambda module, inputs, outputs: tuple(part * 2 for part in inputs)),
    'a candidate': lambda ops: ops.__setitem__(1, nn.Sequential(nn.ReLU(), nn.AvgPool2d(1))),
    'a layer': lambda ops: ops[1].__setitem__(0, nn.Tanh()),
    'a layer in a Sequential within': lambda ops: ops[2][0].__setitem__(0, nn.AvgPool2d(1)),
    'one more layer': lambda ops: ops[3].add_module('3', nn.Tanh()),
    'in place': set_in(lambda ops: ops[1][0], inplace=True),
    'in place later': set_in(lambda ops: ops[2][2], inplace=True),
    'the settings of a pooling': set_in(lambda ops: ops[0][0], kernel_size=1, padding=0),
    'the settings of a convolution': set_in(lambda ops: ops[1][1], dilation=(2, 2), padding=(2, 2)),
    'the settings of a norm': set_in(lambda ops: ops[3][2], eps=0.5, momentum=0.9),
    'the momentum of a norm': set_in(lambda ops: ops[3][2], momentum=None),
    'the statistics of a norm': set_in(lambda ops: ops[0][1], track_running_stats=False),
    'the scale of a norm': set_in(lambda ops: ops[3][2], weight=nn.Parameter(torch.full((3,), 2.0).double())),
    'a weight': set_in(lambda ops: ops[1][1], weight=nn.Parameter(torch.ones(3, 3, 3, 3).double())),
    'a weight that is computed': lambda ops: nn.utils.parametrize.register_parametrization(ops[3][1], 'weight', Negated()),
    'a scale that is computed': lambda ops: nn.utils.parametrize.register_parametrization(ops[1][2], 'weight', Negated()),
    'a scale that is no parameter': lambda ops: (delattr(ops[1][2], 'weight'),
                                                 setattr(ops[1][2], 'weight', torch.full((3,), 2.0).double())),
    'how a convolution computes': set_in(lambda ops: ops[1][1], _conv_forward=lambda x, weight, bias: x * weight.sum()),
    'how a class of convolutions computes': set_in(lambda ops: ops[3][1], __class__=Standardized),
    'how a class looks its weight up': set_in(lambda ops: ops[1][1], __class__=Ones),
    'the forward method of a layer': set_in(lambda ops: ops[1][1], forward=torch.tanh),
    'the forward method of a Sequential': set_in(lambda ops: ops[1], forward=torch.sin),
    'a class': set_in(lambda ops: ops[1][0], __class__=type('Odd', (nn.ReLU,), {'forward': lambda self, x: x.cos()})),
}


@pytest.mark.parametrize('change', CHANGES)
def test_whatever_changes_in_the_candidates_counts_in_the_next_pass(change):
    ours, theirs, relaxing = candidates(), candidates(), relaxation()
    for ops, edge in ((ours, by_plan(relaxing, ours)), (theirs, plainly(theirs))):
        pass_through(ops, edge)
        CHANGES[change](ops)
    for _ in range(2):
        for one, other in zip(pass_through(ours, by_plan(relaxing, ours)), pass_through(theirs, plainly(theirs))):
            assert (one is None) == (other is None)
            if one is not None:
                torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


def test_hooks_of_all_modules_are_called_for_each_layer():
    ops, relaxing, called = candidates(), relaxation(), []
    pass_through(ops, by_plan(relaxing, ops))
    hook = register_module_forward_hook(lambda module, args, output: called.append(module))
    try:
        pass_through(ops, by_plan(relaxing, ops))
    finally:
        hook.remove()
    assert {ops[1][1], ops[1][2], ops[0][1], ops[2][2]} <= set(called)


def test_what_somebody_has_put_into_a_class_of_pytorchs_runs(monkeypatch):
    forward = nn.Conv2d.forward
    monkeypatch.setattr(nn.Conv2d, 'forward', lambda layer, value: 3 * forward(layer, value))
    x = torch.linspace(-1, 1, 96, dtype=torch.float64).reshape(2, 3, 4, 4)
    ops, others = candidates(), candidates()
    torch.testing.assert_close(by_plan(relaxation(), ops)(x), plainly(others)(x), rtol=1e-12, atol=1e-12)


def test_between_changes_nothing_is_asked_again():
    ops, relaxing = candidates(), relaxation()
    asked = [is_plain, Plan.__init__]

    def step():
        pass_through(ops, by_plan(relaxing, ops))
    assert calls_of(asked, step) > 0

    def three_steps():
        for _ in range(3):
            step()
    assert calls_of(asked, three_steps) == 0
    ops.eval()
    assert calls_of([Plan.__init__], three_steps) == 1


def test_where_shapes_are_odd_a_norm_says_what_it_says():
    ops = nn.ModuleList([nn.Sequential(nn.BatchNorm2d(3, affine=False)), nn.Sequential(nn.BatchNorm2d(3))])
    plan = relaxation()
    for value in (torch.ones(1, 3, 1, 1), torch.ones(2, 3)):
        with pytest.raises(ValueError) as expected:
            ops[0](value)
        with pytest.raises(ValueError) as found:
            plan.edge('edge', list(ops), (value,), {}, relaxed=Relaxed.of(torch.ones(2)), module=ops)
        assert str(found.value) == str(expected.value)


@pytest.mark.parametrize('copies', [copy.deepcopy, lambda pair: pickle.loads(pickle.dumps(pair))], ids=['deepcopy', 'pickle'])
def test_a_copy_plans_for_itself(copies):
    ops, relaxing = candidates(), relaxation()
    before = pass_through(ops, by_plan(relaxing, ops))
    other_ops, other = copies((ops, relaxing))
    other_ops[1][1].weight.data.zero_()
    other_ops[4] = nn.Tanh()
    for modules, relaxer in ((other_ops, other), (ops, relaxing)):
        expected = plainly(copy.deepcopy(modules))(torch.ones(2, 3, 4, 4).double())
        found = by_plan(relaxer, modules)(torch.ones(2, 3, 4, 4).double())
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    assert all(torch.equal(gradient, parameter.grad) for gradient, parameter in zip(before[2:], ops.parameters())
               if gradient is not None)


def test_a_plan_goes_with_its_layer_choice():
    ops, relaxing = candidates(), relaxation()
    by_plan(relaxing, ops)(torch.ones(2, 3, 4, 4).double())
    alive = weakref.ref(ops[1])
    del ops
    gc.collect()
    assert alive() is None
