"""Search several times, train each architecture that was found for a short while, keep the best (Liu et al., section 3.1).

No NNI in here: which task comes next, and what the results of the others make of it.
"""

from __future__ import annotations

import logging
import statistics
from collections import deque
from typing import Any, Deque, Dict, Iterable, List, NamedTuple, Optional, Tuple

from .task import EVALUATE, FINAL, SEARCH, Task, accuracy_of, architecture_of, canonical

_logger = logging.getLogger(__name__)

ATTEMPTS = 2
"""How often a task is tried before it is left out."""


class Selection:
    """Hands out tasks and takes their results, in any order.

    A search that ends hands out the evaluations of its architecture at once, before further searches. A task that fails is
    handed out once more, then left out.

    Parameters
    ----------
    evaluations
        How many trainings from scratch each architecture gets, with the seeds 0, 1, ...
    finals
        How many long trainings the best architecture gets, once everything else is done. Default 0.
    maximize
        Whether the larger result is the better one. Default True.
    """

    def __init__(self, evaluations: int = 1, finals: int = 0, maximize: bool = True) -> None:
        self._evaluations, self._finals, self._maximize = evaluations, finals, maximize
        self._searches: Deque[Task] = deque()
        self._trainings: Deque[Task] = deque()
        self._known: Dict[str, Task] = {}
        self._failures: Dict[str, int] = {}
        self._settled: Dict[str, Any] = {}
        """The results by task; None for those that were left out."""

    def add(self, tasks: Iterable[Task]) -> None:
        """Tasks to do. Those that are known already are not done again."""
        for task in tasks:
            if task.key() not in self._known:
                self._known[task.key()] = task
                self._queue(task).append(task)

    def next(self) -> Optional[Task]:
        """A task to begin, or None while there is none."""
        while self._trainings or self._searches:
            task = (self._trainings or self._searches).popleft()
            if not self.has_result(task):  # it may have come late, after the task had been counted as failed
                return task
        return None

    def result(self, task: Task, value: Any) -> None:
        """A trial reported its final result. What holds no number, or no architecture where one was searched, is none."""
        if accuracy_of(value) is None or (task.phase == SEARCH and architecture_of(value) is None):
            _logger.warning('The trial %s reported %r, which is no result: expected a number%s.', task.parameters(), value,
                            ' and an architecture' if task.phase == SEARCH else '')
            return
        key = task.key()
        self._known.setdefault(key, task)  # a task of an earlier run of the experiment may be unknown to this one
        if self.has_result(task):
            return
        self._settled[key] = value
        if task.phase == SEARCH:
            architecture = architecture_of(value)
            self.add(Task(EVALUATE, seed, architecture) for seed in range(self._evaluations))
        self._go_on()

    def has_result(self, task: Task) -> bool:
        """Whether a trial has reported the task's result."""
        return self._settled.get(task.key()) is not None

    def try_again(self, task: Task) -> bool:
        """A trial of the task has failed: hand the task out again, unless that has happened too often. Returns which."""
        self._failures[task.key()] = failures = self._failures.get(task.key(), 0) + 1
        if failures >= ATTEMPTS:
            return False
        _logger.warning('The trial %s ended without a result. It is tried once more.', task.parameters())
        self._queue(task).appendleft(task)
        return True

    def leave_out(self, task: Task) -> None:
        """Wait no longer for the result of a task."""
        _logger.warning('The trial %s ended without a result. It is left out.', task.parameters())
        self._settled[task.key()] = None
        self._go_on()

    def __len__(self) -> int:
        """How many tasks there are so far."""
        return len(self._known)

    @property
    def is_done(self) -> bool:
        """Whether every task has a result or was left out."""
        return len(self._settled) == len(self._known)

    def ranking(self) -> List[Ranked]:
        """The architectures that were found, the best first; those without any result last."""
        return rank(((task, self._settled.get(key)) for key, task in self._known.items()), self._maximize)

    def _queue(self, task: Task) -> Deque[Task]:
        return self._searches if task.phase == SEARCH else self._trainings

    def _go_on(self) -> None:
        if self._finals and self.is_done:
            best = next((ranked for ranked in self.ranking() if ranked.accuracies), None)
            if best is not None and not any(task.phase == FINAL for task in self._known.values()):
                self.add(Task(FINAL, seed, best.architecture) for seed in range(self._finals))


class Ranked(NamedTuple):
    """An architecture and what became of it."""

    architecture: Dict[str, Any]
    found_by: List[Task]
    """The searches that found it."""
    accuracies: Dict[int, float]
    """The results of its short trainings by seed."""
    finals: Dict[int, float]
    """The results of its long trainings by seed."""

    @property
    def mean(self) -> Optional[float]:
        """The mean result of the short trainings, None without any."""
        return statistics.mean(self.accuracies.values()) if self.accuracies else None

    @property
    def spread(self) -> Optional[float]:
        """The standard deviation of the short trainings' results, None of fewer than two."""
        return statistics.stdev(self.accuracies.values()) if len(self.accuracies) > 1 else None


def rank(results: Iterable[Tuple[Task, Any]], maximize: bool = True) -> List[Ranked]:
    """The architectures among some tasks and their results (None where there is none yet), the best first.

    Parameters
    ----------
    results
        Tasks in any order with what their trials reported.
    maximize
        Whether the larger result is the better one. Default True.

    Returns
    -------
    list of Ranked
        By the mean result of the short trainings; architectures without any come last.
    """
    ranked: Dict[str, Ranked] = {}
    results = list(results)
    for task, value in results:
        architecture = architecture_of(value) if task.phase == SEARCH else task.architecture
        if architecture is None:
            continue
        of_it = ranked.setdefault(canonical(architecture), Ranked(architecture, [], {}, {}))
        accuracy = accuracy_of(value)
        if task.phase == SEARCH:
            of_it.found_by.append(task)
        elif accuracy is not None:
            (of_it.accuracies if task.phase == EVALUATE else of_it.finals)[task.seed] = accuracy
    sign = -1 if maximize else 1
    return sorted(ranked.values(), key=lambda one: (one.mean is None, sign * (one.mean or 0.0), canonical(one.architecture)))
