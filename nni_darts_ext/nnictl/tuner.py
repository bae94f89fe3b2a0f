"""The paper's search-and-select protocol as a tuner of NNI."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections import deque
from functools import partial
from pathlib import Path
from typing import Any, Callable, Collection, Deque, Dict, Iterable, List, Mapping, Optional, Set, Tuple

import nni
from nni.tuner import Tuner
from nni.utils import ClassArgsValidator

from ..errors import ExperimentError
from . import assessor, experiments, results
from .class_args import check_class_args, one_of, whole
from .hyperparameters import combinations
from .selection import Selection
from .task import SEARCH, Task, task_of

_logger = logging.getLogger(__name__)

LOOK = 60
"""Seconds between two looks at what has become of the trials that NNI has resumed."""
GRACE = 10
"""Seconds that a result may arrive after the end of its trial: NNI sends ends and results in two threads, and on some platforms
collects results every few seconds."""


class DartsTuner(Tuner):
    """Searches with several seeds, trains each architecture that was found from scratch, and optionally trains random ones in the
    same way, to compare, and the best one for a long time.

    The experiment's search space gives the hyper-parameters of the search: every combination of its ``choice`` values is
    searched with every seed; for other types a value is drawn for each search, from its seed. Trials that fail are repeated once
    and then skipped. An architecture that several searches found is trained once. The experiment ends by itself, and
    ``nnictl resume`` resumes it.

    Parameters
    ----------
    searches
        The number of seeds with which each combination is searched. Default 4 (source: the paper's protocol).
    evaluations
        The number of short trainings from scratch of each architecture. Default 1 (source: the paper's protocol).
    final_trainings
        The number of long trainings of the best architecture that was found. Default 0.
    optimize_mode
        ``'maximize'`` (default, for an accuracy) or ``'minimize'``.
    random_architectures
        The number of random architectures that get the same short trainings, with which ``nni-darts-ext best`` compares those
        that were found. Default 0.

    Raises
    ------
    ClassArgsError
        An argument is out of range.
    """

    def __init__(self, searches: int = 4, evaluations: int = 1, final_trainings: int = 0,
                 optimize_mode: str = 'maximize', random_architectures: int = 0) -> None:
        super().__init__()
        self.searches = whole('searches', searches, 1)
        self.selection = Selection(whole('evaluations', evaluations, 1), whole('final_trainings', final_trainings, 0),
                                   one_of('optimize_mode', optimize_mode, ['maximize', 'minimize']) == 'maximize',
                                   whole('random_architectures', random_architectures, 0))
        self._n_started = 0
        self._running: Dict[int, Tuple[int, Task]] = {}
        """The tasks of the trials that have not ended, by parameter id, the first one that was started first."""
        self._doubtful: Deque[Tuple[int, Task, bool]] = deque()
        """The tasks that ended without a result, each with the number of trials that were started until then, and whether its
        trial succeeded (see trial_end)."""
        self._idle: Deque[int] = deque()
        """Parameter ids that NNI requested when there was no task; each can still start a trial."""
        self._lock = threading.RLock()
        """NNI calls :meth:`trial_end` in another thread than the other methods."""
        self._mixes_up = False
        """Whether NNI has given a trial the parameters that it records for another one, as 3.0 may."""
        self._send: Optional[Callable[[int, Any], None]] = None
        self._has_ended = False
        self.later = _later
        """Calls a function after :data:`GRACE` seconds."""

    def update_search_space(self, search_space: Mapping[str, Any]) -> None:
        """Set the hyper-parameters. Called again by ``nnictl update searchspace``, it adds searches."""
        with self._lock:
            self.selection.add(Task(SEARCH, seed, None, hyperparameters)
                               for seed in range(self.searches) for hyperparameters in combinations(search_space, seed))
            self._use_idle()

    def generate_multiple_parameters(self, parameter_id_list: List[int], **kwargs: Any) -> List[Dict[str, Any]]:
        """The parameters of as many tasks as there are now. The remaining ids get tasks later, through the callback."""
        with self._lock:
            self._send = kwargs.get('st_callback', self._send)
            handed_out = []
            for parameter_id in parameter_id_list:
                try:
                    handed_out.append(self.generate_parameters(parameter_id))
                except nni.NoMoreTrialError:
                    self._idle.append(parameter_id)
            self._end_if_done()
            return handed_out

    def generate_parameters(self, parameter_id: int, **kwargs: Any) -> Dict[str, Any]:
        """The parameters of the next trial.

        Raises
        ------
        nni.NoMoreTrialError
            There is no task now.
        """
        task = self.selection.next()
        if task is None:
            raise nni.NoMoreTrialError('There is no task until a running trial ends.')
        self._running[parameter_id] = self._n_started, task
        self._n_started += 1
        return task.parameters()

    def receive_trial_result(self, parameter_id: int, parameters: Any, value: Any, **kwargs: Any) -> None:
        """Accept a result; that of a search starts the evaluations of its architecture."""
        with self._lock:
            task = task_of(value, parameters)
            self._mixes_up = self._mixes_up or task != Task.of(parameters)
            self.selection.result(task, value)
            self._use_idle()

    def trial_end(self, parameter_id: int, success: bool, **kwargs: Any) -> None:
        """Repeat a trial that ended without a result, unless the assessor stopped it, as it would collapse again.

        NNI 3.0 may name another trial that started at the same time, as it assigns parameters in the order in which trials
        request them. So a task is skipped, or repeated if NNI is known to do so, only after all concurrent trials have ended. If
        its own trial succeeded, its result may still arrive: then it is only done :data:`GRACE` seconds later.
        """
        with self._lock:
            if parameter_id not in self._running:
                return
            _, task = self._running.pop(parameter_id)
            if not self.selection.has_result(task) and (success or self._mixes_up or not self._try_again(task)):
                self._doubtful.append((self._n_started, task, success))
            oldest, _ = next(iter(self._running.values()), (self._n_started, None))
            while self._doubtful and self._doubtful[0][0] <= oldest:
                _, task, succeeded = self._doubtful.popleft()
                repeat_or_skip = partial(self._repeat_or_skip, task)
                if succeeded:
                    self.later(repeat_or_skip)
                else:
                    repeat_or_skip()
            self._use_idle()

    def _repeat_or_skip(self, task: Task) -> None:
        """Repeat or skip a task, unless it has a result."""
        with self._lock:
            if not self.selection.has_result(task) and not self._try_again(task):
                self.selection.skip(task)
            assessor.STOPPED.discard(task.key())
            self._use_idle()

    def import_data(self, data: List[Mapping[str, Any]]) -> None:
        """Accept the finished trials of a resumed experiment.

        NNI 2.10.1 and 3.0 resume those that have not finished, import their results later, and do not tell if they fail. So their
        tasks are not handed out before NNI's database says that they have ended.
        """
        with self._lock:
            for trial in data:
                self.selection.result(task_of(trial['value'], trial['parameter']), trial['value'])
            if not self._n_started and not self.selection.withheld:
                self.selection.withhold(_in_flight() or [])
                if self.selection.withheld:
                    _logger.info('NNI has resumed %d trials.', len(self.selection.withheld))
                    threading.Thread(target=self._look_at_resumed, daemon=True).start()
            self._use_idle()

    def _look_at_resumed(self) -> None:
        ended: Set[bytes] = set()
        while self.selection.withheld:
            time.sleep(LOOK)
            in_flight = _in_flight()
            if in_flight is not None:
                ended = self.release_ended(in_flight, ended)

    def release_ended(self, in_flight: Iterable[Task], ended: Collection[bytes]) -> Set[bytes]:
        """Hand out again what NNI has resumed and what has ended without a result.

        Parameters
        ----------
        in_flight
            The tasks of the trials that have not ended.
        ended
            What this method has returned before: a result may arrive after the end of its trial, so a task is handed out when its
            trial had already ended the time before.

        Returns
        -------
        set of bytes
            The digests of the tasks whose trials have ended, without a result until now.
        """
        running = {task.digest() for task in in_flight}
        with self._lock:
            found = {digest: task for digest, task in self.selection.withheld.items() if digest not in running}
            for digest in set(found).intersection(ended):
                self.selection.release(found[digest])
            self._use_idle()
        return set(found)

    def _try_again(self, task: Task) -> bool:
        return task.key() not in assessor.STOPPED and self.selection.try_again(task)

    def _use_idle(self) -> None:
        while self._idle and self._send is not None:
            try:
                parameters = self.generate_parameters(self._idle[0])
            except nni.NoMoreTrialError:
                break
            self._send(self._idle.popleft(), parameters)
        self._end_if_done()

    def _end_if_done(self) -> None:
        if self.selection.is_done and not self._has_ended:
            self._has_ended = True
            _logger.info('Every search and training is done.')
            # In a thread, because the manager waits for this process while it serves the request.
            threading.Thread(target=_end_experiment, args=(len(self.selection),), daemon=True).start()


class DartsTunerValidator(ClassArgsValidator):
    """Lets ``nnictl`` check the arguments of :class:`DartsTuner`."""

    def validate_class_args(self, **kwargs: Any) -> None:
        check_class_args(DartsTuner, kwargs)


def _later(call: Callable[[], None]) -> None:
    timer = threading.Timer(GRACE, call)
    timer.daemon = True
    timer.start()


def _folder() -> Optional[Path]:
    """The experiment's folder; None if there is no manager, as in a simulation."""
    logs = os.environ.get('NNI_LOG_DIRECTORY')
    return None if logs is None else Path(logs).parent


def _in_flight() -> Optional[List[Task]]:
    """The tasks of the trials that have not ended, as far as NNI's database says; None if it cannot be read."""
    folder = _folder()
    try:
        return [] if folder is None else results.in_flight(folder)
    except (ExperimentError, ValueError) as error:
        _logger.warning('The trials that NNI has resumed are not known: %s', error)
        return None


def _end_experiment(n_trials: int) -> None:
    """End the experiment: the manager requests trials until the maximum number is reached."""
    folder = _folder()
    if folder is None:
        return
    try:
        experiments.end(folder.name, n_trials)
    except Exception as error:
        _logger.warning('All tasks are done, but the experiment cannot be ended (%r). Stop it with nnictl stop.', error)
