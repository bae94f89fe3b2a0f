"""Search several times, train each architecture that was found for a short time, keep the best (Liu et al., section 3.1).

This module does not import NNI. It decides which task comes next and ranks the results.
"""

from __future__ import annotations

import logging
import statistics
from collections import deque
from typing import Any, Callable, Deque, Dict, Iterable, List, NamedTuple, Optional, Set, Tuple

from .task import EVALUATE, FINAL, SEARCH, Task, accuracy_of, architecture_of, canonical, costs_of

_logger = logging.getLogger(__name__)

ATTEMPTS = 2
"""The number of attempts before a task is skipped."""


class Selection:
    """Hands out tasks and accepts their results in any order.

    Of a finished task it keeps a digest, and of the results only what decides which architecture is the best.

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
        self._evaluations, self._finals, self._order = evaluations, finals, _order(maximize)
        self._queues: Tuple[Deque[Task], ...] = (deque(), deque(), deque(), deque())
        """Trainings of what was found, searches, trainings of random architectures, what is repeated."""
        self._open: Set[bytes] = set()
        self._with_result: Set[bytes] = set()
        self._skipped: Set[bytes] = set()
        """The digests of all known tasks."""
        self.withheld: Dict[bytes, Task] = {}
        """The tasks that run without having been handed out, by their digests."""
        self._failures: Dict[bytes, int] = {}
        self._incomplete: Dict[str, Ranked] = {}
        """The found architectures that have results of some of their evaluations."""
        self._best: Optional[Ranked] = None
        """The best of those that have the results of all."""
        self.add(Task(EVALUATE, seed, random_architecture=i) for i in range(randoms) for seed in range(evaluations))

    def add(self, tasks: Iterable[Task]) -> None:
        """Add tasks. Known tasks are ignored."""
        for task in tasks:
            digest = task.digest()
            if not any(digest in known for known in (self._open, self._with_result, self._skipped)):
                self._open.add(digest)
                if digest not in self.withheld:
                    self._queue(task).append(task)

    def next(self) -> Optional[Task]:
        """The next task, or None if there is none now."""
        while any(self._queues):
            task = next(queue for queue in self._queues if queue).popleft()
            if not self.has_result(task):  # a late result may arrive after the task was counted as failed
                return task
        return None

    def withhold(self, tasks: Iterable[Task]) -> None:
        """Do not hand out tasks, known or not, before :meth:`release`, as they are already running."""
        self.withheld.update((task.digest(), task) for task in tasks if not self.has_result(task))
        self._queues = tuple(deque(task for task in queue if task.digest() not in self.withheld) for queue in self._queues)

    def release(self, task: Task) -> None:
        """Hand out a withheld task, which has ended without a result."""
        if self.withheld.pop(task.digest(), None) is not None and task.digest() in self._open:
            self._queues[-1].append(task)

    def result(self, task: Task, value: Any) -> None:
        """Accept the final result of a trial. One without a number, or without the architecture that was found or drawn, is
        ignored; so is a second one of a task."""
        accuracy, architecture, digest = accuracy_of(value), architecture_of(value), task.digest()
        if accuracy is None or (task.architecture is None and architecture is None):
            _logger.warning('The trial %s reported %r. Expected a number%s. This result is ignored.', task.parameters(), value,
                            ' and an architecture' if task.architecture is None else '')
        elif digest not in self._with_result:
            self._settle(digest, self._with_result)
            if task.phase == SEARCH:
                self.add(Task(EVALUATE, seed, architecture) for seed in range(self._evaluations))
            elif task.phase == EVALUATE and task.architecture is not None and task.seed in range(self._evaluations):
                self._evaluated(task.architecture, task.seed, accuracy)
            self._add_finals()

    def has_result(self, task: Task) -> bool:
        """Whether a trial has reported the task's result."""
        return task.digest() in self._with_result

    def try_again(self, task: Task) -> bool:
        """Queue a failed task again, after all others, up to :data:`ATTEMPTS` attempts. Returns whether it was queued."""
        digest = task.digest()
        failures = self._failures.get(digest, 0) + 1
        if digest not in self._open or failures >= ATTEMPTS:
            return False
        self._failures[digest] = failures
        _logger.warning('The trial %s ended without a result. It is repeated once.', task.parameters())
        self._queues[-1].append(task)
        return True

    def skip(self, task: Task) -> None:
        """Give up a task without a result."""
        _logger.warning('The trial %s ended without a result. It is skipped.', task.parameters())
        self._settle(task.digest(), self._skipped)
        self._add_finals()

    def __len__(self) -> int:
        """The number of known tasks."""
        return len(self._open) + len(self._with_result) + len(self._skipped)

    @property
    def is_done(self) -> bool:
        """Whether every task has a result or was skipped."""
        return not self._open

    @property
    def best(self) -> Optional[Ranked]:
        """The found architecture that :func:`rank` ranks first, with the results of its short trainings; None without any."""
        complete = [] if self._best is None else [self._best]
        return min([*complete, *self._incomplete.values()], key=self._order, default=None)

    def _queue(self, task: Task) -> Deque[Task]:
        return self._queues[1 if task.phase == SEARCH else 0 if task.random_architecture is None else 2]

    def _settle(self, digest: bytes, settled: Set[bytes]) -> None:
        self._open.discard(digest)  # it may be unknown if the experiment was resumed
        self._skipped.discard(digest)
        self._failures.pop(digest, None)
        self.withheld.pop(digest, None)
        settled.add(digest)

    def _evaluated(self, architecture: Dict[str, Any], seed: int, accuracy: float) -> None:
        key = canonical(architecture)
        self._incomplete.setdefault(key, Ranked(architecture, [], {}, {}, {})).accuracies[seed] = accuracy
        if len(self._incomplete[key].accuracies) == self._evaluations:
            complete = self._incomplete.pop(key)
            self._best = min(self._best or complete, complete, key=self._order)

    def _add_finals(self) -> None:
        best = self.best if self.is_done else None
        if best is not None:
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
        Tasks with their results, None for a task without one. The first of several results of a training counts.
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
    for task, value in results:
        architecture = architecture_of(value) if task.architecture is None else task.architecture
        if architecture is None or (task.random_architecture is not None) != randoms:
            continue
        of_it = ranked.setdefault(canonical(architecture), Ranked(architecture, [], {}, {}, {}))
        accuracy = accuracy_of(value)
        if task.phase == SEARCH:
            of_it.found_by.append(task)
        elif accuracy is not None:
            (of_it.accuracies if task.phase == EVALUATE else of_it.finals).setdefault(task.seed, accuracy)
            of_it.costs.update(costs_of(value))
    return sorted(ranked.values(), key=_order(maximize))


def _order(maximize: bool) -> Callable[[Ranked], Tuple[bool, float, str]]:
    sign = -1 if maximize else 1
    return lambda one: (one.mean is None, sign * (one.mean or 0.0), canonical(one.architecture))
