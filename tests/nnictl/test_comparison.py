"""The statistics of found and random architectures."""

import random

import pytest

from nni_darts_ext.nnictl.comparison import CONFIDENCE, compare, t_quantile, welch_interval


@pytest.mark.parametrize('freedom, quantile', [(1, 12.7062), (2, 4.3027), (3, 3.1824), (5, 2.5706), (10, 2.2281), (30, 2.0423),
                                               (120, 1.9799), (1000, 1.9623)])
def test_the_quantiles_are_those_of_the_tables(freedom, quantile):
    assert t_quantile(freedom) == pytest.approx(quantile, abs=1e-4)


def test_the_interval_is_that_of_a_welch_test():
    # The difference in means of the extra hours of sleep in W. S. Gosset's data, as R's t.test gives it.
    first, second = [0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0], [1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4]
    assert welch_interval(first, second) == pytest.approx((-3.3654832, 0.2054832), abs=1e-5)


@pytest.mark.parametrize('n_found, n_random, of_found, of_random', [(3, 8, 0.2, 1.0), (3, 8, 1.0, 0.3)])
def test_the_interval_covers_the_true_difference_as_often_as_it_says(n_found, n_random, of_found, of_random):
    draw, n = random.Random(0), 1000
    covered = 0
    for _ in range(n):
        low, high = welch_interval([draw.gauss(0.9, of_found) for _ in range(n_found)],
                                   [draw.gauss(0.7, of_random) for _ in range(n_random)])
        covered += low <= 0.2 <= high
    assert covered / n == pytest.approx(CONFIDENCE, abs=3 * (CONFIDENCE * (1 - CONFIDENCE) / n) ** 0.5)


@pytest.mark.parametrize('maximize', [True, False])
def test_the_rank_and_the_verdict_go_by_what_is_better(maximize):
    good, bad = [0.90, 0.92, 0.91], [0.5, 0.6, 0.7, 0.55]
    found, others = (good, bad) if maximize else (bad, good)
    better, worse = compare(found, others, maximize), compare(others, found, maximize)
    assert (better.rank, better.is_better) == (1, True)
    assert (worse.rank, worse.is_better) == (1 + len(found), False)
    assert better.difference == -worse.difference and better.interval == tuple(-bound for bound in reversed(worse.interval))
    side, other = ('above', 'below') if maximize else ('below', 'above')
    assert str(better).splitlines()[-1].startswith('Better than random') and str(better).endswith(f'is {side} 0.')
    assert str(worse).splitlines()[-1].startswith('Not better than random') and str(worse).endswith(f'is {other} 0.')


def test_what_is_not_better_is_said_to_be_so():
    compared = compare([0.8, 0.9, 0.7], [0.75, 0.85, 0.6, 0.95])
    assert (compared.rank, compared.is_better) == (2, False)
    assert str(compared).splitlines() == [
        'Rank of the best found architecture among 4 random ones: 2 of 5.',
        'Mean of the found ones minus mean of the random ones: +0.0125 (3 found, 4 random).',
        'Not better than random: the 95% confidence interval of this difference, -0.2303 to +0.2553, includes 0.']


@pytest.mark.parametrize('found, others, rank', [([0.8], [0.7, 0.9], 2), ([0.8, 0.9], [0.8], 1), ([0.8, 0.8], [0.7, 0.7], 1)])
def test_too_few_results_make_no_interval(found, others, rank):
    compared = compare(found, others)
    assert compared.rank == rank and compared.interval is compared.is_better is None
    assert 'Too few results for a confidence interval' in str(compared)


@pytest.mark.parametrize('found, others', [([], [0.5, 0.6]), ([0.5, 0.6], [])])
def test_without_results_there_is_no_comparison(found, others):
    compared = compare(found, others)
    assert compared.rank is compared.difference is compared.interval is None
    assert str(compared) == f'Too few results for a comparison with random architectures: {len(found)} found, ' \
        f'{len(others)} random.'
