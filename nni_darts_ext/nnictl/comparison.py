"""Whether the architectures that searches have found are better than random ones.

Each architecture counts once, with the mean result of its trainings. The confidence interval is that of Welch's t-test (B. L.
Welch, Biometrika 34, 1947), which assumes neither equal variances nor equal numbers.
"""

from __future__ import annotations

import math
from bisect import bisect
from itertools import accumulate
from statistics import mean, variance
from typing import NamedTuple, Optional, Sequence, Tuple

CONFIDENCE = 0.95
"""The probability with which the interval contains the true difference."""


class Comparison(NamedTuple):
    """Found architectures among random ones. What needs more results than there are is None."""

    n_found: int
    n_random: int
    rank: Optional[int]
    """The rank of the best found one among itself and the random ones; 1 is the best."""
    difference: Optional[float]
    """The mean of the found ones minus that of the random ones."""
    interval: Optional[Tuple[float, float]]
    """The confidence interval of ``difference``, see :func:`welch_interval`."""
    is_better: Optional[bool]
    """Whether all of the interval is on the better side of 0."""

    def __str__(self) -> str:
        if self.rank is None or self.difference is None:
            return f'Too few results for a comparison with random architectures: {self._numbers()}.'
        lines = [f'Rank of the best found architecture among {self.n_random} random ones: {self.rank} of {self.n_random + 1}.',
                 f'Mean of the found ones minus mean of the random ones: {self.difference:+.4f} ({self._numbers()}).']
        if self.interval is None:
            lines.append('Too few results for a confidence interval. Expected two of each, and not all of them equal.')
        else:
            low, high = self.interval
            where = 'includes 0' if low <= 0 <= high else f'is {"above" if low > 0 else "below"} 0'
            lines.append(f'{"Better" if self.is_better else "Not better"} than random: the {CONFIDENCE:.0%} confidence interval '
                         f'of this difference, {low:+.4f} to {high:+.4f}, {where}.')
        return '\n'.join(lines)

    def _numbers(self) -> str:
        return f'{self.n_found} found, {self.n_random} random'


def compare(found: Sequence[float], random: Sequence[float], maximize: bool = True) -> Comparison:
    """Compare the results of found architectures with those of random ones.

    Parameters
    ----------
    found, random
        One result for each architecture, in any order.
    maximize
        Whether a larger result is better. Default True.
    """
    sign = 1 if maximize else -1
    rank = difference = is_better = None
    interval = welch_interval(found, random)
    if found and random:
        best = max(sign * one for one in found)
        rank = 1 + sum(sign * one > best for one in random)
        difference = mean(found) - mean(random)
    if interval is not None:
        is_better = min(sign * bound for bound in interval) > 0
    return Comparison(len(found), len(random), rank, difference, interval, is_better)


def welch_interval(one: Sequence[float], other: Sequence[float]) -> Optional[Tuple[float, float]]:
    """The confidence interval of the difference of the means of two samples; None for fewer than two values of either, or if
    neither varies."""
    if min(len(one), len(other)) < 2:
        return None
    squares = variance(one) / len(one), variance(other) / len(other)
    if not sum(squares):
        return None
    share = squares[0] / sum(squares)
    freedom = 1 / (share ** 2 / (len(one) - 1) + (1 - share) ** 2 / (len(other) - 1))
    difference, half = mean(one) - mean(other), t_quantile(freedom) * math.sqrt(sum(squares))
    return difference - half, difference + half


def t_quantile(freedom: float, steps: int = 2000) -> float:
    """The bound of the absolute value of Student's t that holds with probability :data:`CONFIDENCE`.

    For t = sqrt(freedom) tan(a) the density of the angle a is proportional to cos(a) ** (freedom - 1).
    """
    width = math.pi / 2 / steps
    density = [math.cos((i + 0.5) * width) ** (freedom - 1) for i in range(steps)]
    cumulated = list(accumulate(density))
    wanted = CONFIDENCE * cumulated[-1]
    i = bisect(cumulated, wanted)
    angle = (i + 1 - (cumulated[i] - wanted) / density[i]) * width
    return math.sqrt(freedom) * math.tan(angle)
