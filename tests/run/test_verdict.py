"""The verdict on a run, from its records."""

import random

import pytest
import runs

from nni_darts_ext.core.criteria import Criteria
from nni_darts_ext.run import Run, SpaceRecord, State
from nni_darts_ext.run.show import render
from nni_darts_ext.run.verdict import decision, verdict

CELL = SpaceRecord({f'{j}<-{i}': ('skip_connect', 'conv', 'pool') for j in (1, 2, 3) for i in range(j)}, {})
SKIP, CONV = 0, 1
FIVE = '5 of 6 edges are skip connections.'


def run_of(numbers_of_skips, space=CELL, status='done', settings=None, weights=(0.4, 0.3, 0.2, 0.1), **indicators):
    """A run in which so many edges of each epoch are skip connections."""
    def epoch(number, n):
        architecture = {key: [SKIP if i < n else CONV] for i, key in enumerate(space.edges)}
        return runs.epoch(space, number)._replace(
            architecture={**runs.epoch(space, number).architecture, **architecture},
            weights={key: list(weights) for key in space.edges}, indicators={'movement': 0.01, 'entropy': 0.9, **indicators})
    state = State(status, runs.now(), [], 1, 'here', None, None)
    return Run('run', state, None, settings or {}, {}, space, [epoch(i, n) for i, n in enumerate(numbers_of_skips)])


@pytest.mark.parametrize('seed', range(20))
def test_a_search_has_collapsed_since_the_epoch_from_which_skip_connections_prevail_without_interruption(seed):
    drawn = random.Random(seed)
    rule = Criteria(max_skip_share=drawn.choice([0.25, 0.5, 0.7]), patience=drawn.randint(1, 4))
    numbers = [drawn.choice([1, 2, 3, 4, 5, 6]) for _ in range(10)] + [drawn.randint(4, 6)] * drawn.randint(0, 5)
    for n in range(1, len(numbers) + 1):
        found = verdict(run_of(numbers[:n]), rule)
        prevails = [number / 6 > rule.max_skip_share for number in numbers[:n]]
        since = next(i for i in range(n + 1) if all(prevails[i:]))
        assert found.dominated == n - since and found.has_collapsed == (n - since >= rule.patience)
        told = f'has collapsed since epoch {since + 1}: {numbers[n - 1]} of 6 edges ' in found.sentences[0]
        assert told == found.has_collapsed
        assert ('No sign of collapse' in found.sentences[0]) == (since == n)


@pytest.mark.parametrize('numbers, settings, sentences', [
    ([1, 3], {}, ['No sign of collapse: 3 of 6 edges are skip connections.']),
    ([6, 1], {}, ['No sign of collapse: 1 of 6 edges is a skip connection.']),
    ([1, 5], {}, [f'The search may be collapsing: since epoch 2, {FIVE} It counts as collapsed after 3 epochs.']),
    ([1, 2, 5, 5, 4], {}, ['The search has collapsed since epoch 3: 4 of 6 edges are skip connections.',
                           "Try methods='recommended', or EarlyStopping(). epochs.jsonl has the architecture of epoch 2, before "
                           'the collapse.']),
    ([4, 4, 5], {'methods': ['Shrinking({1: 2})']}, [
        f'The search has collapsed since epoch 1: {FIVE}', 'Try another method against collapse, or fewer epochs.']),
    ([1, 1], {'skip_connections': ['CONV']}, [
        f'The search may be collapsing: since epoch 1, {FIVE} It counts as collapsed after 3 epochs.']),
])
def test_what_is_said(numbers, settings, sentences):
    run = run_of(numbers, settings=settings)
    assert [one for one in verdict(run).sentences if 'undecided' not in one] == sentences
    assert all(f'\n{sentence}\n' in render(run) for sentence in sentences)


def test_the_cell_that_has_collapsed_is_named_and_others_do_not_hide_it():
    run = run_of([9] * 4, runs.together(runs.cell('normal', 3, CELL.edges['1<-0']), runs.cell('reduce', 3, CELL.edges['1<-0'])))
    assert verdict(run).sentences[0] == ('The search has collapsed since epoch 1: 9 of 9 edges of cell normal are skip '
                                         'connections.')


def test_a_space_without_skip_connections_cannot_collapse_into_them():
    space = SpaceRecord({'a': ('conv', 'pool', 'tanh'), 'b': ('conv', 'pool', 'linear')}, {})
    assert verdict(run_of([2] * 4, space)).sentences[0] == 'No sign of collapse: no candidate has the name of a skip connection.'


def test_a_warm_up_has_not_collapsed():
    run = run_of([5] * 7)
    for epoch in run.epochs[:4]:
        del epoch.indicators['movement']
    assert verdict(run).sentences[0] == f'The search has collapsed since epoch 5: {FIVE}'
    early = run._replace(epochs=run.epochs[:4])
    assert verdict(early._replace(state=early.state._replace(status='running'))).sentences == [
        'The search is warming up: 5 of 6 edges are skip connections by the first logits, which no step has changed yet.']
    assert verdict(early).sentences[0].startswith('No step has changed the logits in 4 epochs, by which 5 of 6 edges are skip')


def test_probabilities_that_do_not_move_are_told_unless_they_are_decided():
    says = [['have not moved for 3 epochs' in ' '.join(verdict(run_of([1] * 3, **indicators)).sentences)][0] for indicators in (
        {'movement': 1e-9}, {'movement': 1e-9, 'entropy': 0.01}, {'movement': 1e-4})]
    assert says == [True, False, False]
    assert 'have not moved' not in render(run_of([1] * 2, movement=0.0))


def moving(*of_epochs):
    """A run with an edge whose weights these are, epoch by epoch; the zero op's is 0.1."""
    run = run_of([6] * len(of_epochs))
    return run._replace(epochs=[epoch._replace(weights={**epoch.weights, '1<-0': [*weights, 0.1]})
                                for epoch, weights in zip(run.epochs, of_epochs)])


@pytest.mark.parametrize('before, now, word', [
    ((0.52, 0.28, 0.1), (0.54, 0.26, 0.1), 'decided'),       # leads by 0.28, 14 times what moved
    ((0.34, 0.3, 0.26), (0.36, 0.28, 0.26), 'leaning'),      # 4 times
    ((0.31, 0.3, 0.29), (0.32, 0.29, 0.29), 'undecided'),    # 3 times
    ((0.2042, 0.2, 0.2), (0.2043, 0.2, 0.2), 'decided'),     # small, but it persists
    ((0.32, 0.29, 0.29), (0.32, 0.29, 0.29), 'unmoved'), ((0.899, 0.001, 0), (0.899, 0.001, 0), 'decided'),
    ((0.28, 0.32, 0.3), (0.29, 0.31, 0.3), 'undecided')])    # derived otherwise: selected
def test_an_edge_is_decided_where_its_lead_lasts(before, now, word):
    found = decision(moving(before, now), '1<-0')
    assert found.word == word and found.probability == now[0] and found.lead == pytest.approx(now[0] - max(now[1:]))
    assert f'by {found.lead:.3f}, {word}' in render(moving(before, now))


def test_one_epoch_decides_nothing_and_undecided_edges_are_counted():
    assert decision(moving((0.8, 0.1, 0)), '1<-0').word == 'undecided'
    first = run_of([0])
    assert verdict(first).sentences[1] == ('6 of 6 derived edges are undecided: search for more epochs, or with a larger '
                                           'arc_learning_rate.')
    assert verdict(run_of([0], status='running')).sentences[1] == '6 of 6 derived edges are undecided.'
    one = moving((0.31, 0.3, 0.29), (0.32, 0.29, 0.29))
    of_one = one._replace(epochs=[epoch._replace(architecture=first.epochs[0].architecture) for epoch in one.epochs])
    assert verdict(of_one).sentences[1] == '1 of 6 derived edges is undecided.'
