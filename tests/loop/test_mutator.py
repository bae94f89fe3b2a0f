"""The mutator of the family that comes first in the installed NNI."""

import copy
import inspect
import math
import pickle

import pytest
import reads
import torch
from spaces import TWO_NODES, Cells, write_weights
from torch import nn
from torch.utils.checkpoint import checkpoint

import nni_darts_ext.nn as dnn
from nni_darts_ext import DartsMutator, LogitsError
from nni_darts_ext.core import logits as logits_module
from nni_darts_ext.core.collapse import CollapseWatch, entropies
from nni_darts_ext.core.logits import softmax
from nni_darts_ext.loop.mutator import InPlaceMutator
from nni_darts_ext.methods.shrinking import shrink
from nni_darts_ext.run.recorder import Recorder

pytestmark = pytest.mark.family('classic', 'retiarii', 'nas')


class Fed(dnn.ModelSpace):
    """An InputChoice that names no sources."""

    def __init__(self):
        super().__init__()
        self.a = dnn.LayerChoice([nn.Sequential(nn.ReLU(), nn.Linear(3, 3)), nn.Identity()], key='a')
        self.b = dnn.LayerChoice([nn.Linear(3, 3), nn.Tanh()], key='b')
        self.pick = dnn.InputChoice(2, n_chosen=1, key='pick')

    def forward(self, x):
        return self.pick([self.a(x), self.b(x)])


# Logits that are no numbers --------------------------------------------------------------------------------------------------

ANSWERS = {
    'export': lambda mutator: mutator.export(), 'export as a sample': lambda mutator: mutator.export('sample'),
    'sample_final': lambda mutator: mutator.sample_final(), 'sample_search': lambda mutator: mutator.sample_search(),
    'reset': lambda mutator: mutator.reset(), 'probabilities': lambda mutator: mutator.probabilities(),
    'entropies': lambda mutator: entropies(mutator.choices), 'collapse': lambda mutator: CollapseWatch(mutator).read(),
    'shrink': lambda mutator: shrink(mutator, 1),
}


@pytest.mark.parametrize('value', [math.nan, math.inf])
@pytest.mark.parametrize('answer', ANSWERS)
def test_logits_that_are_no_numbers_have_no_answer(answer, value):
    mutator = DartsMutator(Cells(TWO_NODES))
    parameters = list(mutator.choices.parameters())  # as an optimiser keeps them
    mutator.reset()
    parameters[3].data[1] = value
    with pytest.raises(LogitsError, match=f"Logit 1 of 'node1_edge1' is {value}"):
        ANSWERS[answer](mutator)


def test_weights_of_a_reset_that_are_no_numbers_are_reported_by_their_key():
    mutator = DartsMutator(Fed())
    mutator.reset()
    mutator._cache['b'] = torch.tensor([math.nan, 0.5])  # as one's own sample_search may give them
    with pytest.raises(LogitsError, match=r"weights of 'b' are \[nan, 0.5\]"):
        mutator.status()


def test_a_run_records_no_architecture_of_such_logits(tmp_path):
    mutator = DartsMutator(Cells(TWO_NODES))
    with pytest.raises(LogitsError, match="'node0_edge0'"), Recorder(tmp_path / 'run', mutator) as recorder:
        recorder.epoch(0, {})
        mutator.choices['node0_edge0'].data[0] = math.nan
        recorder.epoch(1, {})
    assert len((tmp_path / 'run' / 'epochs.jsonl').read_text().splitlines()) == 1


def test_to_look_for_them_in_each_step_takes_two_readings_for_all_edges_and_none_where_one_must_wait(monkeypatch):
    mutator = DartsMutator(Cells(TWO_NODES))
    mutator.reset()
    assert reads.count(monkeypatch, mutator.reset, whose='') == 2
    monkeypatch.setattr(logits_module, 'AT_ONCE', ())
    assert reads.count(monkeypatch, mutator.reset, whose='') == 0


# Passes ----------------------------------------------------------------------------------------------------------------------

def counting(mutator):
    """The edges that are weighed, for each time."""
    calls = []

    def weigh(logits):
        calls.append(list(logits))
        return softmax(logits)
    mutator._relaxation.weigh = weigh
    return calls


def in_place(model):
    """The mutator of a host whose choices call none."""
    mutator = DartsMutator(model)
    if not isinstance(mutator, InPlaceMutator):
        pytest.skip("the choices of classic NNI ask for what reset has drawn")
    return mutator


def test_a_step_weighs_all_edges_once_for_each_of_its_two_passes():
    model, x = Cells(TWO_NODES, cells=3), torch.randn(4, 3)
    mutator = DartsMutator(model)
    calls = counting(mutator)
    for n_passes in (1, 2):
        mutator.reset()
        model(x).sum().backward()
        assert calls == [mutator.choices.keys()] * n_passes


def test_without_reset_each_pass_weighs_anew_and_what_runs_outside_one_weighs_its_edge():
    model, x = Fed(), torch.randn(4, 3)
    mutator = in_place(model)
    calls = counting(mutator)
    for _ in range(2):
        model(x).sum().backward()
    assert calls == [['a', 'b']] * 2
    for _ in range(2):  # whose graph is its own
        model.a(x).sum().backward()
    assert calls[2:] == [['a']] * 2
    with pytest.raises((RuntimeError, TypeError)):
        model('no tensor')
    if 'always_call' in inspect.signature(model.register_forward_hook).parameters:
        model.a(x).sum().backward()
        assert calls[-1] == ['a']


@pytest.mark.parametrize('change', ['no_grad', 'step', 'write', 'cut', 'freeze'])
def test_weights_drawn_before_something_changed_are_not_used(change):
    model, x = Fed(), torch.randn(4, 3)
    mutator = in_place(model)
    mutator.choices.requires_grad_(change != 'freeze')
    with torch.set_grad_enabled(change != 'no_grad'):
        mutator.reset()
    if change == 'step':
        torch.optim.SGD(mutator.parameters(), 1.0).step(lambda: mutator.choices.probabilities('a')[0].backward())
    elif change == 'write':
        mutator.choices['a'].data[0] += 1
    elif change == 'cut':
        mutator.cut('a', 0)
    mutator.choices.requires_grad_()
    mutator.choices.zero_grad()
    output = model(x)
    weights = mutator.choices.relax('a').weights
    expected = sum(weight * candidate(x) for weight, candidate in zip(weights, (model.a[0], model.a[1])))
    torch.testing.assert_close(output - model.b(x), expected)
    output.square().sum().backward()
    assert mutator.choices['a'].grad.abs().sum() > 0


def test_passes_with_and_without_gradients_do_not_mix():
    model, x = Fed(), torch.randn(4, 3)
    mutator = in_place(model)
    mutator.reset()
    with torch.no_grad():
        expected = model(x)
    output = model(x)
    torch.testing.assert_close(output, expected)
    output.square().sum().backward()
    assert all(logits.grad is not None for logits in mutator.choices.values())


class Checkpointed(dnn.ModelSpace):
    """Cells that share their keys, each of them computed again in the backward pass."""

    def __init__(self, use_reentrant):
        super().__init__()
        self.cells, self.use_reentrant = Cells(TWO_NODES, cells=3), use_reentrant

    def forward(self, x):
        for cell in self.cells.cells:
            x = cell(x) if self.use_reentrant is None else checkpoint(cell, x, use_reentrant=self.use_reentrant)
        return x


@pytest.mark.parametrize('use_reentrant', [True, False])
def test_cells_that_the_model_computes_again_have_the_same_gradients(use_reentrant):
    found = []
    for how in (None, use_reentrant):
        torch.manual_seed(0)
        model = Checkpointed(how)
        mutator = in_place(model) if use_reentrant else DartsMutator(model)
        write_weights(model)
        mutator.double()
        for _ in range(2):
            mutator.reset()
            x = torch.linspace(-1, 1, 12, dtype=torch.float64).reshape(4, 3).requires_grad_()
            model(x).square().sum().backward()
        found.append([x.grad, *(p.grad for p in model.parameters()), *(logits.grad for logits in mutator.choices.values())])
    for one, other in zip(*found):
        assert (one is None) == (other is None)
        if one is not None:
            torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


def test_weights_need_not_add_up_to_1():
    model, x = Fed(), torch.randn(4, 3)
    mutator = DartsMutator(model)
    mutator._relaxation.weigh = lambda logits: {key: 3 * torch.tanh(1 + of_edge) for key, of_edge in logits.items()}
    mutator.reset()
    expected = 0
    for choice, key in ((model.a, 'a'), (model.b, 'b')):
        weights = 3 * torch.tanh(1 + mutator.choices[key].detach())
        expected = expected + sum(weight * choice._modules[str(i)](x) for i, weight in enumerate(weights[:-1]))
    torch.testing.assert_close(model(x), expected)
    torch.testing.assert_close(torch.tensor(mutator.status()['a']), 3 * torch.tanh(1 + mutator.choices['a'].detach())[:-1])


@pytest.mark.family('nas')
def test_in_the_network_that_the_host_makes_of_the_model_nothing_is_weighed():
    model, x = Fed(), torch.randn(4, 3)
    mutator = DartsMutator(model)
    model(x)
    mutator.choices['a'].data[0] = 1.0
    network = model.freeze(mutator.export('sample'))
    calls = counting(mutator)
    network(x)
    assert not calls and not network._forward_hooks and not network._forward_pre_hooks
    model(x)
    assert len(calls) == 1


# Copies and transforms -------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize('copies', [copy.deepcopy, lambda pair: pickle.loads(pickle.dumps(pair))], ids=['deepcopy', 'pickle'])
def test_a_search_that_was_reset_can_be_copied_and_its_copy_learns_by_itself(copies):
    model = Fed()
    mutator = DartsMutator(model)
    try:
        copies(Fed())
    except (NotImplementedError, TypeError):  # classic NNI's choices refuse deepcopy, Retiarii's before 2.6 both
        return
    mutator.reset()
    x = torch.randn(4, 3)
    expected = model(x)
    again, copied = copies((model, mutator))
    assert copied.status() == mutator.status()
    output = again(x)
    assert torch.equal(output, expected)
    output.sum().backward()
    assert all(logits.grad is not None for logits in copied.choices.values())
    assert all(logits.grad is None for logits in mutator.choices.values())


@pytest.mark.skipif(not hasattr(torch, 'func'), reason='PyTorch 2.0 brought torch.func')
def test_transforms_of_torch_func_go_through_a_supernet_and_leave_nothing_in_it():
    model, x = Fed(), torch.randn(4, 3)
    mutator = DartsMutator(model)
    mutator.choices['b'].data[1] = -math.inf
    own = {name: value for name, value in model.named_parameters() if name.split('.')[0] in ('a', 'b')}
    if any('._first_module.' in name for name in model.state_dict()):
        own = {}  # PyTorch does not put back what has two names, as NNI 2.9 and 2.10 give to the first candidate

    def loss(weights, x):
        mutator.reset()
        return torch.func.functional_call(model, weights, (x,)).square().sum()
    found = torch.func.grad(loss, (0, 1))({name: value.detach() for name, value in own.items()}, x)
    assert mutator.choose_from == {'pick': ('', '')}  # the graphs of torch.func do not show it
    copy.deepcopy(mutator.choices)
    mutator.reset()
    expected = torch.autograd.grad(model(x.requires_grad_()).square().sum(), [*own.values(), x], allow_unused=True)
    for one, other in zip([*found[0].values(), found[1]], expected):
        torch.testing.assert_close(one, torch.zeros_like(one) if other is None else other)
    each = torch.func.vmap(model)(x[:, None])[:, 0]
    torch.testing.assert_close(each, model(x))
    assert mutator.choose_from == {'pick': ('a', 'b')} and mutator.choices.cuts('b') == (1,)


@pytest.mark.skipif(not hasattr(torch, 'func'), reason='PyTorch 2.0 brought torch.func')
def test_so_do_those_of_the_logits():
    model, x = Fed(), torch.randn(4, 3)
    mutator = DartsMutator(model)

    def loss(logits):
        class Both(nn.Module):
            def __init__(self):
                super().__init__()
                self.choices = mutator.choices

            def forward(self, x):
                mutator.reset()
                return model(x).square().sum()
        return torch.func.functional_call(Both(), {f'choices.{key}': value for key, value in logits.items()}, (x,))
    found = torch.func.grad(loss)({key: logits.detach().clone() for key, logits in mutator.choices.items()})
    mutator.reset()
    model(x).square().sum().backward()
    for key, logits in mutator.choices.items():
        torch.testing.assert_close(found[key], logits.grad)
