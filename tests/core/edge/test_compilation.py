import copy
import logging

import pytest
import torch
from torch import nn

from nni_darts_ext import TrainingError
from nni_darts_ext.core.edge import compilation
from nni_darts_ext.core.edge.mixture import mix
from nni_darts_ext.core.edge.overwriting import Overwritten
from nni_darts_ext.core.logits import Relaxed


def edge(width=3):
    torch.manual_seed(0)
    return nn.ModuleList([nn.Sequential(nn.ReLU(), nn.Linear(width, width), nn.BatchNorm1d(width, affine=False)), nn.Tanh(),
                          nn.Identity()])


def images():
    """An edge of images, which begins with what is shared and has a convolution that leaves pixels out."""
    torch.manual_seed(0)
    return nn.ModuleList([
        nn.Sequential(nn.MaxPool2d(3, 2, 1), nn.BatchNorm2d(3, affine=False)),
        nn.Sequential(nn.ReLU(), nn.Conv2d(3, 3, 3, 2, 2, 2, groups=3, bias=False), nn.Conv2d(3, 3, 1, bias=False),
                      nn.BatchNorm2d(3, affine=False)),
        nn.Sequential(nn.ReLU(), nn.Conv2d(3, 3, 1, 2))]).to(memory_format=torch.channels_last)


def run(mixture, ops, live=(0, 1, 2)):
    x = torch.linspace(-1, 1, 12).reshape(4, 3)
    if isinstance(ops[0][0], nn.MaxPool2d):
        x = torch.linspace(-1, 1, 600).reshape(2, 3, 10, 10).sin().contiguous(memory_format=torch.channels_last)
    x.requires_grad_()
    logits = torch.tensor([0.5, -0.2, 0.1], requires_grad=True)
    weights = torch.softmax(logits, 0) * torch.tensor([float(i in live) for i in range(3)])
    output = mixture(ops, Relaxed.of(weights), (x,), {}, 'sum')
    gradients = torch.autograd.grad((output ** 2).sum(), [x, logits, *ops.parameters()], allow_unused=True)
    return [output, *(gradient for gradient in gradients if gradient is not None), *ops.state_dict().values()]


@pytest.mark.slow  # where the compiler runs for half a minute
@pytest.mark.parametrize('of', [edge, images])
@pytest.mark.parametrize('mode', [True, 'default'])
def test_compiled_edges_give_the_same_and_two_of_a_kind_share_the_code(caplog, of, mode):
    compiled = compilation.CompiledMixture(mode)
    for live in [(0, 1, 2), (0, 2)]:
        for one, other in zip(run(mix, of(), live), run(compiled, of(), live)):
            torch.testing.assert_close(one, other)
    import torch._dynamo.utils as dynamo
    before = dynamo.counters['stats']['unique_graphs']
    run(compiled, of())
    assert before and dynamo.counters['stats']['unique_graphs'] == before
    assert not [record for record in caplog.records if record.name.startswith('nni_darts_ext')]
    run(copy.deepcopy(compiled), of())


class Inside(nn.Module):
    """Works in place where nobody sees it."""

    def forward(self, x):
        return x.relu_() * 2


@pytest.mark.slow
def test_compiled_candidates_leave_their_input_to_the_others_or_are_refused(caplog):
    ops = nn.ModuleList([nn.Sequential(nn.ReLU(inplace=True)), nn.Identity(), nn.Sequential(nn.Identity(), nn.ELU(inplace=True))])
    x, relaxed = torch.linspace(-1, 1, 12).reshape(4, 3), Relaxed.of(torch.tensor([0.1, 0.2, 0.3]))
    before = x.clone()
    compiled = compilation.CompiledMixture(True)
    torch.testing.assert_close(compiled(list(ops), relaxed, (x,), {}), mix(list(ops), relaxed, (x,), {}))
    assert torch.equal(x, before)
    with pytest.raises(Overwritten):
        compiled([Inside(), nn.Identity(), nn.Tanh()], relaxed, (x.requires_grad_() * 1,), {})
    assert not [record for record in caplog.records if record.name.startswith('nni_darts_ext')]


@pytest.mark.slow
def test_structures_run_without_being_compiled(caplog):
    class Gives(nn.Module):
        def forward(self, x):
            return x.long()
    compiled, x = compilation.CompiledMixture(True), torch.ones(2, 3)
    assert torch.equal(compiled([Gives(), Gives()], Relaxed.of(torch.tensor([0.1, 0.2])), (x,), {}), x.long())
    assert 'cannot compile the edges' in caplog.text


@pytest.mark.slow
def test_a_mode_that_there_is_not_is_named(caplog):
    with caplog.at_level(logging.WARNING):
        for one, other in zip(run(mix, edge()), run(compilation.CompiledMixture('fastest'), edge())):
            assert torch.equal(one, other)
    assert 'fastest' in caplog.text


def test_where_it_cannot_be_compiled_the_log_says_why_and_the_edge_runs(caplog, monkeypatch):
    if hasattr(torch, 'compile'):
        def broken(*args, **kwargs):
            raise OSError('no C++ compiler')
        monkeypatch.setattr(torch, 'compile', broken)
    compiled = compilation.CompiledMixture('default')
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            for one, other in zip(run(mix, edge()), run(compiled, edge())):
                assert torch.equal(one, other)
    reported, = caplog.messages
    assert 'cannot compile the edges, and the search goes on without it' in reported
    assert 'no C++ compiler' in reported or 'It came with 2.0' in reported


def test_what_is_wrong_in_a_candidate_is_not_blamed_on_the_compiler():
    with pytest.raises(RuntimeError, match='shapes'):
        run(compilation.CompiledMixture(True), edge(width=4))


@pytest.mark.parametrize('compile, needs, message', [
    (1, None, 'compile=1 is neither True, False nor the name'),
    (True, "unrolled='exact'", 'has no second derivatives.*finite_difference')])
def test_what_cannot_be_is_refused(compile, needs, message):
    with pytest.raises(TrainingError, match=message):
        compilation.check(compile, needs)
