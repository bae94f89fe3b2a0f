"""Progressive shrinking: edges lose their weakest candidates during the search.

X. Chen, L. Xie, J. Wu, Q. Tian, "Progressive Differentiable Architecture Search", ICCV 2019, arXiv 1904.12760, section 3.2.
Unlike there, the network does not grow deeper, and the weights are kept.
"""

from __future__ import annotations

import logging
from typing import Any, Dict, List, Mapping, Optional, Tuple

from ..core.search import Search
from ..core.space import Name
from ..errors import TrainingError
from .base import At, Method

_logger = logging.getLogger(__name__)


class Shrinking(Method):
    """Cuts the weakest candidates at the start of given epochs.

    Parameters
    ----------
    schedule
        From epochs, counted from 0, to the number of candidates that each edge keeps from then on: with ``{10: 5, 20: 3}`` 5
        candidates are left after ten epochs and 3 after twenty. Candidates with the largest logits are kept, the first ones of
        equal logits. The zero op does not count and is always kept. Candidates that were cut before are not counted, so an edge
        that has no more candidates left than it may keep loses none. Candidates that are restored later may be cut again.

    Raises
    ------
    TrainingError
        The schedule is not such a mapping, or the numbers do not decrease. When the search begins: an epoch in the schedule is
        after the last one, or there is no edge to shrink.
    """

    def __init__(self, schedule: Mapping[int, int]) -> None:
        self.schedule = stages(schedule)

    def begin(self, at: At) -> None:
        last, _ = self.schedule[-1]
        if at.epochs is not None and last >= at.epochs:
            raise TrainingError(f'Shrinking drops candidates at the start of epoch {last}, but the search ends with epoch '
                                f'{at.epochs - 1} (the first is 0). Search longer, or leave the entry out.')
        if not at.search.space.edges:
            raise TrainingError('Shrinking has nothing to drop: no LayerChoice of the model is searched here. Leave it out.')

    def before_epoch(self, at: At) -> None:
        assert at.epoch is not None
        due = [n for start, n in self.schedule if start <= at.epoch]
        if due:
            for key, dropped in shrink(at.search, due[-1]).items():
                _logger.info('From epoch %d on, LayerChoice %r runs without %s.', at.epoch, key, ', '.join(map(repr, dropped)))

    def settings(self) -> Optional[Dict[str, Any]]:
        return {'schedule': self.schedule}

    def __repr__(self) -> str:
        return f'Shrinking({dict(self.schedule)})'


def stages(schedule: Any) -> List[Tuple[int, int]]:
    """The entries of a schedule by epoch. Raises :class:`TrainingError` as :class:`Shrinking` does."""
    expected = 'Expected a mapping from epochs to the numbers of candidates to keep, all 1 or more, such as {10: 5, 20: 3}'
    if not isinstance(schedule, Mapping) or not schedule:
        raise TrainingError(f'Shrinking({schedule!r}) has no schedule. {expected}.')
    for epoch, n in schedule.items():
        if not _is_positive(epoch) or not _is_positive(n):
            raise TrainingError(f'Shrinking({schedule!r}) has the entry {epoch!r}: {n!r}. {expected}.')
    found = sorted(schedule.items())
    for (epoch, n), (later, m) in zip(found, found[1:]):
        if n <= m:
            raise TrainingError(f'Shrinking({schedule!r}) keeps {n} candidates from epoch {epoch} on and {m} from epoch {later} '
                                'on. Expected fewer from epoch to epoch.')
    return found


def shrink(search: Search, n: int) -> Dict[str, List[Name]]:
    """Cut all but the ``n`` strongest candidates of each edge, the first ones of equal logits. Returns what was cut, by key.

    Raises ``LogitsError`` if a logit is invalid."""
    dropped: Dict[str, List[Name]] = {}
    for key, edge in search.space.edges.items():
        search.choices.read(key)
        gone = search.choices.cuts(key)
        logits = search.choices[key].tolist()
        running = [i for i in range(len(edge.names)) if i not in gone]
        weakest = sorted(running, key=lambda i: (logits[i], -i))[:max(0, len(running) - n)]
        for i in sorted(weakest):
            search.choices.cut(key, i)
        if weakest:
            dropped[key] = [edge.names[i] for i in sorted(weakest)]
    return dropped


def _is_positive(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0
