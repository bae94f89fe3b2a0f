import copy
import math
import pickle

import pytest
import reads
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from nni_darts_ext import LogitsError
from nni_darts_ext.core import logits as logits_module
from nni_darts_ext.core.logits import Logits

KEYS = ['plain', 'with.dot', '', 'keys', 'values', 'forward', 'training', 'a%2Eb', 'a.b', '%', 'state_dict', 'ключ']
OPTIMIZERS = {
    'Adam': lambda p: torch.optim.Adam(p, 1e-2, betas=(0.5, 0.999), weight_decay=1e-3),
    'AdamW': lambda p: torch.optim.AdamW(p, 1e-2, weight_decay=1e-2),
    'AMSGrad': lambda p: torch.optim.Adam(p, 1e-2, weight_decay=1e-3, amsgrad=True),
    'SGD': lambda p: torch.optim.SGD(p, 1e-1, momentum=0.9, weight_decay=1e-3, nesterov=True),
    'RMSprop': lambda p: torch.optim.RMSprop(p, 1e-2, momentum=0.9, weight_decay=1e-3),
}


def logits_of(*sizes):
    torch.manual_seed(0)
    choices = Logits()
    for i, size in enumerate(sizes):
        choices.add(f'k{i}', size)
    return choices


def test_a_new_edge_has_a_logit_for_each_candidate_and_the_zero_op():
    torch.manual_seed(3)
    logits = Logits().add('edge', 4)
    torch.manual_seed(3)
    assert torch.equal(logits, 1e-3 * torch.randn(5))
    assert isinstance(logits, nn.Parameter)


def test_the_zero_op_takes_its_share_of_the_mass():
    choices = logits_of(2)
    choices['k0'].data = torch.tensor([0.0, math.log(2.0), math.log(3.0)])
    assert choices.relax('k0').weights.tolist() == pytest.approx([1 / 6, 2 / 6])
    assert choices.relax('k0').live == (0, 1)


def test_any_string_is_a_key():
    choices = Logits()
    for i, key in enumerate(KEYS):
        choices.add(key, i + 1)
    assert list(choices) == choices.keys() == KEYS
    assert [len(logits) for logits in choices.values()] == [i + 2 for i in range(len(KEYS))]
    assert [key in choices for key in ['a.b', 'a', 'b', 'nothing']] == [True, False, False, False]
    assert list(choices.parameters()) == choices.values()

    other = Logits()
    for i, key in enumerate(KEYS):
        other.add(key, i + 1)
    other.load_state_dict(choices.state_dict())
    assert all(torch.equal(other[key], choices[key]) for key in KEYS)
    with pytest.raises(KeyError):
        choices['nothing']


def test_ordinary_keys_keep_the_names_that_nni_gives_them_in_a_checkpoint():
    assert list(logits_of(1, 1).state_dict()) == ['k0', 'k1']


@pytest.mark.parametrize('optimizer', OPTIMIZERS)
@pytest.mark.parametrize('when', ['before the search', 'during the search'])
@pytest.mark.parametrize('way', ['NNI\'s', 'cut'])
def test_a_cut_holds_under_every_optimizer(optimizer, when, way):
    choices = logits_of(3, 2)
    optimizer = OPTIMIZERS[optimizer](choices.parameters())

    def step():
        optimizer.zero_grad()
        sum((choices.relax(key).weights * torch.arange(1.0, 1 + len(choices[key]) - 1)).sum() for key in choices).backward()
        nn.utils.clip_grad_norm_(choices.parameters(), 0.1)
        optimizer.step()

    for _ in range(0 if when == 'before the search' else 5):
        step()
    if way == 'cut':
        choices.cut('k0', 1)
    else:
        choices['k0'].data[1] = -math.inf
    for _ in range(20):
        step()
        assert choices.relax('k0').weights[1] == 0
        assert choices['k0'].grad[1] == 0
        assert all(torch.isfinite(logits).all() for logits in choices.values())
        assert all(torch.isfinite(value).all() for state in optimizer.state.values()
                   for value in state.values() if torch.is_tensor(value))
    assert choices.relax('k0').live == (0, 2)
    assert choices.relax('k0').weights.sum() < 1


def test_a_cut_before_the_search_leaves_no_trace_in_the_optimizer():
    choices = logits_of(3)
    choices.cut('k0', 2)
    optimizer = OPTIMIZERS['Adam'](choices.parameters())
    for _ in range(3):
        optimizer.zero_grad()
        choices.relax('k0').weights[0].backward()
        optimizer.step()
    state = optimizer.state[choices['k0']]
    assert state['exp_avg'][2] == state['exp_avg_sq'][2] == 0


@pytest.mark.parametrize('copies', [copy.deepcopy, lambda choices: pickle.loads(pickle.dumps(choices))])
def test_a_cut_stays_in_copies(copies):
    choices = logits_of(3)
    choices.cut('k0', 0)
    assert copies(choices).cuts('k0') == (0,)


def test_a_checkpoint_spells_a_cut_as_nni_does_and_brings_it_back():
    choices = logits_of(3)
    choices.cut('k0', 0)
    saved = choices.state_dict()
    assert saved['k0'][0] == -math.inf

    other = logits_of(3)
    other.cut('k0', 1)
    other.load_state_dict(saved)
    assert other.cuts('k0') == (0,)
    assert torch.equal(other.relax('k0').weights, choices.relax('k0').weights)


@pytest.fixture
def waits(monkeypatch):
    """As on a GPU, for whose numbers the host would have to wait."""
    monkeypatch.setattr(logits_module, 'AT_ONCE', ())


def test_a_cut_written_into_a_parameter_kept_from_earlier_counts_at_once_and_stops_running_when_the_edge_is_read(waits):
    choices = logits_of(3)
    kept = choices['k0']
    optimizer = OPTIMIZERS['Adam'](choices.parameters())
    assert choices.relax('k0').live == (0, 1, 2)
    kept.data[1] = -math.inf
    for _ in range(3):
        optimizer.zero_grad()
        relaxed = choices.relax('k0')
        assert relaxed.weights[1] == 0 and relaxed.live == (0, 1, 2)
        (relaxed.weights * torch.arange(1.0, 4)).sum().backward()
        assert kept.grad[1] == 0
        optimizer.step()
    assert torch.isfinite(kept).all()
    choices.eval()
    assert choices.relax('k0').live == (0, 2)


@pytest.mark.parametrize('way', ['[]', 'values', 'items', 'train', 'load'])
def test_where_one_must_wait_an_edge_is_read_after_it_may_have_been_written_and_else_never(way, monkeypatch, waits):
    choices, saved = logits_of(3), logits_of(3).state_dict()
    choices.relax('k0')
    assert reads.count(monkeypatch, lambda: choices.relax('k0'), whose='') == 0
    {'[]': lambda: choices['k0'], 'values': choices.values, 'items': choices.items, 'train': choices.train,
     'load': lambda: choices.load_state_dict(saved)}[way]()
    optimizer = OPTIMIZERS['SGD'](choices.parameters())
    assert reads.count(monkeypatch, lambda: choices.forget(optimizer), whose='') > 0
    assert reads.count(monkeypatch, lambda: choices.relax('k0'), whose='') > 0
    assert reads.count(monkeypatch, lambda: choices.relax('k0'), whose='') == 0
    assert reads.count(monkeypatch, lambda: choices.forget(optimizer), whose='') == 0


def test_a_weight_that_underflows_to_0_does_not_run():
    choices = logits_of(2)
    choices['k0'].data[0] = -1e4
    assert choices.relax('k0').live == (1,)


def test_cuts_follow_the_logits_to_another_type():
    choices = logits_of(3)
    choices.cut('k0', 1)
    choices.double()
    assert choices.relax('k0').weights.dtype == torch.float64 and choices.cuts('k0') == (1,)


def test_restoring_undoes_a_cut_and_nothing_else():
    choices = logits_of(2)
    choices.cut('k0', 1)
    choices.restore('k0', 1, 0.5)
    assert choices.cuts('k0') == ()
    assert choices['k0'][1] == 0.5
    choices.restore('k0', 1)
    assert choices['k0'][1] == 0.5


CHANGES = st.tuples(st.sampled_from(['cut', '-inf', 'restore', 'step', 'forget', 'checkpoint', 'copy', 'pickle', 'eval']),
                    st.integers(0, 4))


@settings(deadline=None, max_examples=60)
@given(changes=st.lists(CHANGES, max_size=25), optimizer=st.sampled_from(sorted(OPTIMIZERS)))
def test_whatever_happens_cut_is_what_was_cut_and_not_restored(changes, optimizer):
    choices = logits_of(4)
    make, cut = OPTIMIZERS[optimizer], set()
    steps = make(choices.parameters())
    for change, entry in changes:
        if change in ('cut', '-inf') and len(cut | {entry}) < 5:
            choices.cut('k0', entry) if change == 'cut' else choices['k0'].data[entry].fill_(-math.inf)
            cut.add(entry)
        elif change == 'restore':
            choices.restore('k0', entry)
            cut.discard(entry)
        elif change == 'step':
            steps.zero_grad()
            (choices.relax('k0').weights * torch.arange(1.0, 5.0)).sum().backward()
            assert all(choices['k0'].grad[i] == 0 for i in cut)
            nn.utils.clip_grad_norm_(choices.parameters(), 0.1)
            steps.step()
        elif change == 'forget':
            choices.forget(steps)
            assert all(value[sorted(cut)].eq(0).all() for value in steps.state.get(choices['k0'], {}).values()
                       if torch.is_tensor(value) and value.dim())
        elif change == 'checkpoint':
            choices, saved, steps_saved = logits_of(4), choices.state_dict(), steps.state_dict()
            choices.load_state_dict(saved)
            steps = make(choices.parameters())
            steps.load_state_dict(steps_saved)
        elif change in ('copy', 'pickle'):
            choices, steps = copy.deepcopy((choices, steps)) if change == 'copy' else pickle.loads(pickle.dumps((choices, steps)))
        elif change == 'eval':
            choices.eval()
        weights, live = choices.relax('k0')
        assert choices.cuts('k0') == tuple(sorted(cut))
        assert live == tuple(i for i in range(4) if i not in cut) and all((weights[i] == 0) == (i in cut) for i in range(4))
        assert torch.isfinite(choices['k0']).all()


def test_what_an_optimizer_remembers_of_entries_that_change_is_forgotten_and_the_rest_is_not():
    choices = logits_of(3, 3)
    optimizer = OPTIMIZERS['Adam'](choices.parameters())
    sum((choices.relax(key).weights * torch.arange(1.0, 4.0)).sum() for key in choices).backward()
    optimizer.step()
    before = [optimizer.state[logits]['exp_avg'].clone() for logits in choices.values()]
    assert not choices.forget(optimizer)
    choices.cut('k0', 1)
    assert choices.forget(optimizer) and not choices.forget(optimizer)
    moments, others = (optimizer.state[logits]['exp_avg'] for logits in choices.values())
    assert moments[1] == 0 and torch.equal(moments[[0, 2, 3]], before[0][[0, 2, 3]]) and torch.equal(others, before[1])
    assert optimizer.state[choices['k0']]['exp_avg_sq'][1] == 0
    moments[1] = 1.0
    choices.restore('k0', 1)
    assert choices.forget(optimizer) and moments[1] == 0


def test_cutting_all_candidates_leaves_the_zero_op():
    choices = logits_of(2)
    choices['k0'].data[:2] = -math.inf
    assert choices.relax('k0').weights.tolist() == [0, 0]
    assert choices.relax('k0').live == ()


def test_cutting_the_zero_op_too_is_refused_and_changes_nothing():
    choices = logits_of(2)
    choices.cut('k0', 0)
    choices.cut('k0', -1)
    with pytest.raises(LogitsError, match="'k0'.*all be cut"):
        choices.cut('k0', 1)
    assert choices.cuts('k0') == (0, 2)
    assert choices.relax('k0').weights[1] == 1

    choices['k0'].data[:] = -math.inf
    with pytest.raises(LogitsError, match="'k0'.*all be cut"):
        choices.relax('k0')


@pytest.mark.parametrize('value', [math.nan, math.inf])
def test_a_logit_that_is_no_number_is_reported(value):
    choices = logits_of(2)
    choices['k0'].data[1] = value
    with pytest.raises(LogitsError, match=f"Logit 1 of 'k0' is {value}"):
        choices.relax('k0')


@pytest.mark.parametrize('value', [nn.Parameter(torch.zeros(2)), nn.Parameter(torch.zeros(1, 3)), torch.zeros(3)])
def test_logits_are_replaced_by_their_like_only(value):
    with pytest.raises(LogitsError, match="'k0'"):
        logits_of(2)['k0'] = value


# Other weights ---------------------------------------------------------------------------------------------------------------

def doubled_sigmoid(logits):
    return {key: 2 * torch.sigmoid(of_edge) for key, of_edge in logits.items()}


def test_weights_may_be_any_numbers_that_a_function_makes_of_the_logits_of_all_edges_at_once():
    choices, calls = logits_of(3, 2), []

    def weigh(logits):
        calls.append(list(logits))
        return doubled_sigmoid(logits)
    choices.weigh = weigh
    choices.cut('k0', 1)
    relaxed, probabilities = choices.relax_all(), choices.all_probabilities()
    assert calls == [['k0', 'k1']] * 2
    for key, logits in choices.items():
        expected = 2 * torch.sigmoid(logits.detach())
        if key == 'k0':
            expected[1] = 0
        torch.testing.assert_close(probabilities[key], expected)
        torch.testing.assert_close(choices.probabilities(key), expected)
        torch.testing.assert_close(relaxed[key].weights, expected[:-1])
    assert relaxed['k0'].live == (0, 2) and relaxed['k1'].live == (0, 1)
    relaxed['k0'].weights.sum().backward()
    assert choices['k0'].grad[1] == choices['k0'].grad[3] == 0 and choices['k0'].grad[0] > 0
    assert choices['k1'].grad is None  # nothing has reached it


@pytest.mark.parametrize('weigh, message', [
    (lambda logits: {'k0': logits['k0']}, "gives no weights for 'k1'. Expected the shape .3,."),
    (lambda logits: {key: of_edge[:-1] for key, of_edge in logits.items()}, r"weights of shape \(3,\) for 'k0'.*\(4,\)"),
    (lambda logits: {key: of_edge / 0 for key, of_edge in logits.items()}, "weights of 'k0' are .*inf.*Expected finite")])
def test_a_function_that_gives_none_or_others_is_told_of_which_edge(weigh, message):
    with pytest.raises(LogitsError, match=message):
        logits_of(3, 2).relax_all(weigh)


def test_weights_that_differ_from_pass_to_pass_are_read_in_each_pass_by_one_reading(monkeypatch, waits):
    choices, calls = logits_of(3, 3), []

    def one_hot(logits):
        calls.append(1)
        chosen = nn.functional.one_hot(torch.tensor(len(calls) % 3), 4)
        return {key: chosen * of_edge.softmax(0) for key, of_edge in logits.items()}
    choices.relax_all(one_hot, samples=True)
    for live in (2, 0, 1):
        assert {relaxed.live for relaxed in choices.relax_all(one_hot, samples=True).values()} == {(live,)}
    assert reads.count(monkeypatch, lambda: choices.relax_all(one_hot, samples=True), whose='') == 1


def test_on_the_cpu_a_cut_written_into_a_parameter_kept_from_earlier_does_not_run_in_the_next_pass():
    choices = logits_of(3, 3)
    kept = choices['k1']
    optimizer = OPTIMIZERS['Adam'](choices.parameters())
    for live in ((0, 1, 2), (0, 2)):
        relaxed = choices.relax_all()
        assert relaxed['k1'].live == live and relaxed['k0'].live == (0, 1, 2)
        (relaxed['k1'].weights * torch.arange(1.0, 4)).sum().backward()
        optimizer.step()
        kept.data[1] = -math.inf
    assert choices.forget(optimizer) and optimizer.state[kept]['exp_avg'][1] == 0
