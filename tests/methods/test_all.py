"""What holds of every method: it resumes bit for bit, is the same in all processes, and works with the options of a search."""

import math
from unittest import mock

import numpy
import papers
import pytest
import recorded_search
import torch
import two_processes
from recorded_search import Changes, searched
from resumed import Interrupted
from spaces import batches

from nni_darts_ext import TrainingError
from nni_darts_ext.errors import MethodError
from nni_darts_ext.methods import ExpectedCost, Methods, known

ARGUMENTS = {  # of each method
    'AuxiliarySkip': {},
    'BetaDecay': {},
    'Dirichlet': dict(kl_factor=0.1),
    'EarlyStopping': {},
    'EdgeNormalization': {},
    'Eigenvalue': {},
    'ExpectedCost': dict(cost='multiply_adds', target=15),
    'GumbelSoftmax': dict(final_temperature=2.0),
    'PerturbationSelection': {},
    'RandomPerturbation': {},
    'Shrinking': dict(schedule={1: 1}),
    'SkipLimit': dict(n=0),
    'Softmax': {},
    'StopAtSkips': {},
    'UnmovedLogits': {},
    'Warmup': dict(epochs=1),
}
EPOCHS = 4


def test_each_method_is_tested_here():
    assert set(ARGUMENTS) == set(known())


def built(*names):
    return [known()[name](**ARGUMENTS[name]) for name in names]


def groups():
    """All methods that a strategy can have, in a few searches."""
    found = []
    for name in ARGUMENTS:
        for group in [*found, []]:
            try:
                Methods(built(*group, name))
            except MethodError:
                continue
            found = [one for one in found if one != group] + [[*group, name]]
            break
    return [group for group in found if group]


def trainer(*names, epochs=EPOCHS, data=None, **options):
    return papers.trainer(built(*names), epochs, data=data or batches(2), **options)


def logits(search):
    return {key: of_edge.tolist() for key, of_edge in search.mutator.choices.items()}


def state(search):
    return (search.export(), logits(search), search.history, search.mutator.methods.state_dict(),
            {name: value.tolist() for name, value in search.model.state_dict().items()})


def interrupt(search):
    raise Interrupted


@pytest.mark.parametrize('name', ARGUMENTS)
def test_a_trainer_resumes_bit_for_bit(name, tmp_path):
    through = trainer(name)
    through.train()
    with pytest.raises(Interrupted):
        trainer(name, checkpoint_dir=tmp_path, callbacks=[Changes({2: interrupt})]).train()
    again = trainer(name, checkpoint_dir=tmp_path)
    torch.rand(1)  # the global random state is that of the checkpoint
    again.train()
    assert len(through.history) == EPOCHS
    assert repr(state(again)) == repr(state(through))  # equal bit for bit where the numbers are written alike, nan included


def by_strategy(group, data=None, epochs=EPOCHS, **options):
    with mock.patch.object(recorded_search, 'start_logits', papers.start):
        return searched('first order', data=data or batches(2), epochs=epochs, space=papers.Space,
                        arguments=dict(methods=built(*group)), **options)


@pytest.mark.family('lightning', 'nas')
@pytest.mark.parametrize('group', groups(), ids='-'.join)
def test_a_strategy_resumes_bit_for_bit(group, tmp_path):
    from pytorch_lightning.callbacks import ModelCheckpoint

    with mock.patch.object(numpy, 'Inf', numpy.inf, create=True):  # which NumPy 2 has no more and the oldest Lightning reads
        through = by_strategy(group, keep=[ModelCheckpoint(str(tmp_path), '{epoch}', save_top_k=-1, every_n_epochs=1)])
        again = by_strategy(group, checkpoint=tmp_path / 'epoch=1.ckpt')
    n = len(again['losses'])
    assert 0 < n < len(through['losses'])
    assert {**again, 'losses': through['losses'][-n:]} == {**through, 'losses': again['losses']}


def shares():
    return [tuple(two_processes.share_of(batch) for batch in step) for step in batches(2)]


def of_rank_by_trainer():
    found = {}
    for name in ARGUMENTS:
        search = trainer(name, epochs=2, data=shares())
        torch.manual_seed(torch.distributed.get_rank())  # after the logits
        search.train()
        found[name] = logits(search)
    latency = ExpectedCost('latency')
    papers.trainer([latency]).train()
    return found, latency.state_dict()


def of_rank_by_strategy():
    return {'-'.join(group): by_strategy(group, shares(), 2, devices=2)['logits'] for group in groups()}, {}


@pytest.mark.parametrize('of_rank', [of_rank_by_trainer,
                                     pytest.param(of_rank_by_strategy, marks=pytest.mark.family('nas', 'lightning'))])
def test_two_processes_have_the_same_logits(of_rank):
    (first, latency), second = two_processes.results(of_rank)
    assert (first, latency) == second and (latency or of_rank is of_rank_by_strategy)
    assert all(math.isfinite(value) for of_edges in first.values() for of_edge in of_edges.values() for value in of_edge)


def gradients(name, order):
    """Of the logits in the last of two epochs, in which the search has its first weights and logits."""
    search = trainer(name, epochs=2, data=batches(1), unrolled=order, callbacks=[papers.AfreshAt(1)])
    search.train()
    return torch.cat([torch.zeros_like(of_edge) if of_edge.grad is None else of_edge.grad
                      for of_edge in search.mutator.choices.values()])


@pytest.mark.parametrize('name', ARGUMENTS)
def test_the_finite_difference_is_close_to_the_exact_second_order(name):
    exact = gradients(name, 'exact')
    torch.testing.assert_close(gradients(name, 'finite_difference'), exact, rtol=0, atol=1e-4)
    assert (gradients(name, False) - exact).abs().max() > 1e-4  # the implicit term


@pytest.mark.parametrize('name', ARGUMENTS)
def test_it_recomputes_and_has_cuts(name):
    found = []
    for options in ({}, {'recompute': True}):
        try:
            search = trainer(name, epochs=2, **options)
        except TrainingError:  # for the derivatives that it needs
            assert known()[name].needs_second_derivatives and not hasattr(torch.utils.checkpoint, 'set_checkpoint_early_stop')
            return
        search.mutator.cut('b', 'skip')
        runs = []
        search.model.b.skip.register_forward_hook(lambda *args, runs=runs: runs.append(1))
        search.train()
        assert not runs and search.mutator.choices.probabilities('b')[1] == 0
        found.append(torch.cat([of_edge.detach() for of_edge in search.mutator.choices.values()]))
    torch.testing.assert_close(found[1], found[0], rtol=0, atol=1e-12)
    assert torch.isfinite(found[0]).all()


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(torch, 'compile'), reason='this PyTorch has no compiler')
@pytest.mark.parametrize('name', [name for name in ARGUMENTS if known()[name].samples])
def test_samples_are_compiled(name, caplog):
    plain, compiled = trainer(name, epochs=2), trainer(name, epochs=2, compile=True)
    for search in (plain, compiled):
        search.train()
    assert not any('compile' in record.getMessage() for record in caplog.records if record.name.startswith('nni_darts_ext'))
    assert logits(compiled) == {key: pytest.approx(of_edge, abs=1e-10) for key, of_edge in logits(plain).items()}
