"""Search several times, train each architecture that was found for a short time, keep the best (Liu et al., section 3.1).

This module does not import NNI. It decides which task comes next and ranks the results.
"""

from __future__ import annotations

import logging
import statistics
from collections import deque
from typing import Any, Deque, Dict, Iterable, List, NamedTuple, Optional, Tuple

from .task import EVALUATE, FINAL, SEARCH, Task, accuracy_of, architecture_of, canonical, costs_of

_logger = logging.getLogger(__name__)

ATTEMPTS = 2
"""The number of attempts before a task is skipped."""


class Selection:
    """Hands out tasks and accepts their results in any order.

    When a search ends, the evaluations of its architecture come before further searches. Those of random architectures come after
    all searches have started. A task that fails is repeated once, then skipped.

    Parameters
    ----------
    evaluations
        The number of trainings from scratch of each architecture, with the seeds 0, 1, ... Default 1.
    finals
        The number of long trainings of the best architecture, after all other tasks. Default 0.
    maximize
        Whether a larger result is better. Default True.
    randoms
        The number of random architectures, each of which has as many evaluations as a found one. Default 0.
    """

    def __init__(self, evaluations: int = 1, finals: int = 0, maximize: bool = True, randoms: int = 0) -> None:
        self._evaluations, self._finals, self._maximize = evaluations, finals, maximize
        self._queues: Tuple[Deque[Task], ...] = (deque(), deque(), deque())
        """Trainings of what was found, searches, trainings of random architectures."""
        self._known: Dict[str, Task] = {}
        self._failures: Dict[str, int] = {}
        self._settled: Dict[str, Any] = {}
        """The results by task; None for skipped tasks."""
        self.add(Task(EVALUATE, seed, random_architecture=i) for i in range(randoms) for seed in range(evaluations))

    def add(self, tasks: Iterable[Task]) -> None:
        """Add tasks. Known tasks are ignored."""
        for task in tasks:
            if task.key() not in self._known:
                self._known[task.key()] = task
                self._queue(task).append(task)

    def next(self) -> Optional[Task]:
        """The next task, or None if there is none now."""
        while any(self._queues):
            task = next(queue for queue in self._queues if queue).popleft()
            if not self.has_result(task):  # a late result may arrive after the task was counted as failed
                return task
        return None

    def result(self, task: Task, value: Any) -> None:
        """Accept the final result of a trial. One without a number, or without the architecture that was found or drawn, is
        ignored."""
        if accuracy_of(value) is None or (task.architecture is None and architecture_of(value) is None):
            _logger.warning('The trial %s reported %r. Expected a number%s. This result is ignored.', task.parameters(), value,
                            ' and an architecture' if task.architecture is None else '')
            return
        key = task.key()
        self._known.setdefault(key, task)  # it may be unknown if the experiment was resumed
        if self.has_result(task):
            return
        self._settled[key] = value
        if task.phase == SEARCH:
            architecture = architecture_of(value)
            self.add(Task(EVALUATE, seed, architecture) for seed in range(self._evaluations))
        self._add_finals()

    def has_result(self, task: Task) -> bool:
        """Whether a trial has reported the task's result."""
        return self._settled.get(task.key()) is not None

    def try_again(self, task: Task) -> bool:
        """Queue a failed task again, up to :data:`ATTEMPTS` attempts. Returns whether it was queued."""
        self._failures[task.key()] = failures = self._failures.get(task.key(), 0) + 1
        if failures >= ATTEMPTS:
            return False
        _logger.warning('The trial %s ended without a result. It is repeated once.', task.parameters())
        self._queue(task).appendleft(task)
        return True

    def skip(self, task: Task) -> None:
        """Give up a task without a result."""
        _logger.warning('The trial %s ended without a result. It is skipped.', task.parameters())
        self._settled[task.key()] = None
        self._add_finals()

    def __len__(self) -> int:
        """The number of known tasks."""
        return len(self._known)

    @property
    def is_done(self) -> bool:
        """Whether every task has a result or was skipped."""
        return len(self._settled) == len(self._known)

    def ranking(self) -> List[Ranked]:
        """The architectures that were found, the best first; those without any result last."""
        return rank(((task, self._settled.get(key)) for key, task in self._known.items()), self._maximize)

    def _queue(self, task: Task) -> Deque[Task]:
        return self._queues[1 if task.phase == SEARCH else 0 if task.random_architecture is None else 2]

    def _add_finals(self) -> None:
        if self._finals and self.is_done:
            best = next((ranked for ranked in self.ranking() if ranked.accuracies), None)
            if best is not None and not any(task.phase == FINAL for task in self._known.values()):
                self.add(Task(FINAL, seed, best.architecture) for seed in range(self._finals))


class Ranked(NamedTuple):
    """An architecture and its results."""

    architecture: Dict[str, Any]
    found_by: List[Task]
    """The searches that found it; none for a random one."""
    accuracies: Dict[int, float]
    """The results of its short trainings, by seed."""
    finals: Dict[int, float]
    """The results of its long trainings, by seed."""
    costs: Dict[str, float]
    """``'parameters'`` and ``'multiply_adds'`` of the network that was trained, as far as its trials report them."""

    @property
    def mean(self) -> Optional[float]:
        """The mean result of the short trainings; None without results."""
        return statistics.mean(self.accuracies.values()) if self.accuracies else None

    @property
    def spread(self) -> Optional[float]:
        """The sample standard deviation of the short trainings' results; None for fewer than two."""
        return statistics.stdev(self.accuracies.values()) if len(self.accuracies) > 1 else None


def rank(results: Iterable[Tuple[Task, Any]], maximize: bool = True, randoms: bool = False) -> List[Ranked]:
    """Rank the architectures of some tasks, the best first.

    Parameters
    ----------
    results
        Tasks with their results, in any order; None for a task without a result.
    maximize
        Whether a larger result is better. Default True.
    randoms
        Whether to rank the random architectures instead of the found ones. Default False.

    Returns
    -------
    list of Ranked
        Sorted by the mean result of the short trainings; architectures without such results come last.
    """
    ranked: Dict[str, Ranked] = {}
    results = list(results)
    for task, value in results:
        architecture = architecture_of(value) if task.architecture is None else task.architecture
        if architecture is None or (task.random_architecture is not None) != randoms:
            continue
        of_it = ranked.setdefault(canonical(architecture), Ranked(architecture, [], {}, {}, {}))
        accuracy = accuracy_of(value)
        if task.phase == SEARCH:
            of_it.found_by.append(task)
        elif accuracy is not None:
            (of_it.accuracies if task.phase == EVALUATE else of_it.finals)[task.seed] = accuracy
            of_it.costs.update(costs_of(value))
    sign = -1 if maximize else 1
    return sorted(ranked.values(), key=lambda one: (one.mean is None, sign * (one.mean or 0.0), canonical(one.architecture)))
