"""The paper's search-and-select protocol as a tuner of NNI."""

from __future__ import annotations

import itertools
import logging
import os
import threading
from collections import deque
from pathlib import Path
from typing import Any, Callable, Deque, Dict, Iterator, List, Mapping, Optional, Set

import nni
from nni.tuner import Tuner
from nni.utils import ClassArgsValidator

from ..errors import SearchSpaceError
from . import assessor, experiments
from .arguments import one_of, try_out, whole
from .selection import Selection
from .task import SEARCH, Task, task_of

_logger = logging.getLogger(__name__)


class DartsTuner(Tuner):
    """Searches with several seeds, trains each architecture that was found from scratch, and can train the best one long.

    The experiment's search space says which hyper-parameters of the search vary: every combination of its choices is
    searched with every seed; of other kinds one value is drawn for each search, from its seed. Trials that fail are
    tried once more and then left out, architectures that several searches found are trained once, and the experiment ends
    by itself. It goes on after ``nnictl resume``.

    Parameters
    ----------
    searches
        How many seeds each combination is searched with. Default 4 (source: the paper's protocol).
    evaluations
        How many short trainings from scratch each architecture gets. Default 1 (source: the paper's protocol).
    final_trainings
        How many long trainings the best architecture gets. Default 0.
    optimize_mode
        ``'maximize'`` (default, for an accuracy) or ``'minimize'``.

    Raises
    ------
    ClassArgsError
        An argument is out of range.
    """

    def __init__(self, searches: int = 4, evaluations: int = 1, final_trainings: int = 0,
                 optimize_mode: str = 'maximize') -> None:
        super().__init__()
        self.searches = whole('searches', searches, 1)
        self.selection = Selection(whole('evaluations', evaluations, 1), whole('final_trainings', final_trainings, 0),
                                   one_of('optimize_mode', optimize_mode, ['maximize', 'minimize']) == 'maximize')
        self._tasks: Dict[int, Task] = {}
        self._running: Set[int] = set()
        self._doubtful: Dict[int, Set[int]] = {}
        """Trials that ended without a result, and those that ran beside them and may still report it."""
        self._idle: Deque[int] = deque()
        """Ids that were asked for when there was nothing to do; each stands for a trial that could run."""
        self._send: Optional[Callable[[int, Any], None]] = None
        self._has_ended = False

    def update_search_space(self, search_space: Mapping[str, Any]) -> None:
        """Take up the hyper-parameters; called again with ``nnictl update searchspace``, it adds searches."""
        self.selection.add(Task(SEARCH, seed, None, hyperparameters)
                           for seed in range(self.searches) for hyperparameters in combinations(search_space, seed))

    def generate_multiple_parameters(self, parameter_id_list: List[int], **kwargs: Any) -> List[Dict[str, Any]]:
        """As many tasks as there are now; the ids that are left are used, through the callback, as soon as there are more."""
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
            There is nothing to do now.
        """
        task = self.selection.next()
        if task is None:
            raise nni.NoMoreTrialError('Nothing to do until a running trial ends.')
        self._tasks[parameter_id] = task
        self._running.add(parameter_id)
        return task.parameters()

    def receive_trial_result(self, parameter_id: int, parameters: Any, value: Any, **kwargs: Any) -> None:
        """A search's result begins the evaluations of what it found, at once."""
        if parameter_id in self._tasks:
            self.selection.result(self._tasks[parameter_id], value)
            self._use_idle()

    def trial_end(self, parameter_id: int, success: bool, **kwargs: Any) -> None:
        """A trial that ended without a result is tried again, unless the assessor stopped it: it would collapse again.

        NNI 3.0 may name another trial that started at the same time, for it hands out parameters in the order in which trials
        ask for them. So no task is given up before all trials that ran beside it have ended.
        """
        if parameter_id not in self._running:
            return
        self._running.remove(parameter_id)
        for others in self._doubtful.values():
            others.discard(parameter_id)
        task = self._tasks[parameter_id]
        if not self.selection.has_result(task) and (success or not self._try_again(task)):
            self._doubtful[parameter_id] = set(self._running)
        for ended in [ended for ended, others in self._doubtful.items() if not others]:
            del self._doubtful[ended]
            task = self._tasks[ended]
            if not self.selection.has_result(task) and not self._try_again(task):
                self.selection.leave_out(task)
        self._use_idle()

    def import_data(self, data: List[Mapping[str, Any]]) -> None:
        """The finished trials of an experiment that is resumed."""
        for trial in data:
            self.selection.result(task_of(trial['value'], trial['parameter']), trial['value'])

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
            # Not here: the manager waits for this process while it serves the request.
            threading.Thread(target=_end_experiment, args=(len(self.selection),), daemon=True).start()


class DartsTunerValidator(ClassArgsValidator):
    """Lets ``nnictl`` refuse what :class:`DartsTuner` would."""

    def validate_class_args(self, **kwargs: Any) -> None:
        try_out(DartsTuner, kwargs)


def combinations(search_space: Mapping[str, Any], seed: int) -> Iterator[Dict[str, Any]]:
    """The hyper-parameters of the searches with one seed.

    Parameters
    ----------
    search_space
        In NNI's form, ``{name: {'_type': ..., '_value': [...]}}``.
    seed
        What is drawn is drawn from this seed, so that the same experiment always has the same searches.

    Raises
    ------
    SearchSpaceError
        A name that the tuner needs itself, or a type that NNI does not have.
    """
    import numpy as np
    from nni import parameter_expressions

    for name, spec in search_space.items():
        if name in Task._fields:
            raise SearchSpaceError(f'The search space varies {name!r}, a name that DartsTuner gives itself. Rename it.')
        if not isinstance(spec, Mapping) or not hasattr(parameter_expressions, str(spec.get('_type'))):
            raise SearchSpaceError(f'The search space has {spec!r} for {name!r}. Expected {{"_type": "choice", "_value": [...]}} '
                                   'or another type of NNI.')
    choices = {name: spec['_value'] for name, spec in search_space.items() if spec['_type'] == 'choice'}
    for i, chosen in enumerate(itertools.product(*choices.values())):
        state = np.random.RandomState([seed, i])
        drawn = {name: _plain(getattr(parameter_expressions, spec['_type'])(*spec['_value'], state))
                 for name, spec in search_space.items() if name not in choices}
        yield {**dict(zip(choices, chosen)), **drawn}


def _plain(value: Any) -> Any:
    """What was drawn, without numpy. A whole number is an int, as JSON has it, so that it can be a number of epochs, say."""
    value = value.item() if hasattr(value, 'item') else value
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _end_experiment(n_trials: int) -> None:
    """The manager goes on asking for trials, and is never done, unless it knows how many there are."""
    logs = os.environ.get('NNI_LOG_DIRECTORY')
    if logs is None:  # no manager, as in a simulation
        return
    try:
        experiments.end(Path(logs).parent.name, n_trials)
    except Exception as error:
        _logger.warning('The experiment does not end by itself (%r). Stop it with nnictl stop; nothing more is to come.', error)
