"""The results of an experiment with ``DartsTuner``, read from NNI's database, also while it is running."""

from __future__ import annotations

import json
import sqlite3
import time
from contextlib import closing
from pathlib import Path
from typing import Any, Dict, List, Mapping, NamedTuple, Optional, Sequence, Tuple

from ..errors import ExperimentError
from .comparison import Comparison, compare
from .selection import Ranked, rank
from .task import COSTS, RUN, Task, run_of, task_of

OUTPUT = 'nnioutput'
"""The folder for a trial's files in that of a trial with ``reuseMode``; otherwise they are one."""
FAILED = 'FAILED'
"""The status of a trial that ended with an error."""
_EVENTS = "select trialJobId, event, data, timestamp from TrialJobEvent where trialJobId != '' order by rowid"
RESUMES = 3600
"""Seconds in which NNI starts a trial that it resumes; later it has lost it."""
SHOWN = 10
"""The number of searches that found an architecture that a table names."""


class Trial(NamedTuple):
    """A trial as NNI has recorded it."""

    name: str
    """NNI's id."""
    task: Task
    status: str
    """NNI's last word on it, such as ``'RUNNING'``, ``'SUCCEEDED'`` or :data:`FAILED`."""
    folder: Optional[Path]
    """NNI's folder for its files, its ``NNI_OUTPUT_DIR``; None if it is not on this machine."""
    run: Optional[Path]
    """The folder of the run of a search; None if it is not on this machine."""


class Results(NamedTuple):
    """What an experiment has found so far."""

    found: List[Ranked]
    """The architectures that searches have found, the best first; at least one."""
    random: List[Ranked]
    """The random architectures, the best first."""
    comparison: Optional[Comparison]
    """The found ones among the random ones, by their means; None for an experiment without random architectures."""
    trials: List[Trial]
    """All trials that have started, in their order."""


def read(folder: Path) -> Results:
    """The architectures of an experiment.

    Raises
    ------
    ExperimentError
        The database cannot be read, or no search has ended yet.
    """
    profile, results, trials = _read(folder)
    arguments = profile.get('tuner', {}).get('classArgs') or {}
    maximize = arguments.get('optimize_mode', 'maximize') == 'maximize'
    found, random = rank(results, maximize), rank(results, maximize, randoms=True)
    if not found:
        raise ExperimentError(f'No search of the experiment in {folder} has found an architecture yet. Wait for the first one, '
                              'or read the trials\' logs with nnictl if none is running.')
    of_found, of_random = ([one.mean for one in ranked if one.mean is not None] for ranked in (found, random))
    return Results(found, random, compare(of_found, of_random, maximize) if arguments.get('random_architectures') else None,
                   trials)


def _read(folder: Path) -> Tuple[Mapping[str, Any], List[Tuple[Task, Any]], List[Trial]]:
    """The experiment's configuration, the tasks of its trials with their final results, and its trials."""
    profiles, events, finals, firsts = _query(
        folder, 'select params from ExperimentProfile order by revision desc limit 1', _EVENTS,
        "select trialJobId, data from MetricData where type = 'FINAL' order by rowid",
        "select trialJobId, data from MetricData where type = 'PERIODICAL' and sequence = 0")
    recorded = {trial: _decoded(data).get('parameters') for trial, _, data, _ in events if str(data).startswith('{')}
    profile = _decoded(profiles[0][0]) if profiles else {}
    values = [(trial, _decoded(data)) for trial, data in finals]
    tasks = [(task_of(value, recorded.get(trial)), value) for trial, value in values]
    of_trials = {**{trial: Task.of(recorded.get(trial)) for trial, *_ in events},
                 **{trial: task for (trial, _), (task, _) in zip(values, tasks)}}
    statuses = {trial: event for trial, event, *_ in events}
    folders = {place.name: place / OUTPUT if (place / OUTPUT).is_dir() else place
               for where in ('trials', 'environments/*/trials') for place in folder.glob(f'{where}/*')}
    runs = {trial: place / RUN for trial, place in folders.items()}
    told = [*((trial, _decoded(data)) for trial, data in firsts), *values]
    runs.update((trial, Path(run)) for trial, value in told for run in [run_of(value)] if run)
    return profile, tasks, [Trial(trial, of_trials[trial], status, folders.get(trial), _existing(runs.get(trial)))
                            for trial, status in statuses.items()]


def _existing(folder: Optional[Path]) -> Optional[Path]:
    return folder if folder is not None and folder.is_dir() else None


def in_flight(folder: Path) -> List[Task]:
    """The tasks of the trials that NNI has started, or resumed in the last hour, and that have not ended. Raises
    :class:`ExperimentError` if the database cannot be read."""
    events, = _query(folder, _EVENTS)
    tasks = {trial: Task.of(_decoded(data).get('parameters')) for trial, _, data, _ in events if str(data).startswith('{')}
    last = {tasks[trial].digest(): (event, when / 1000, tasks[trial]) for trial, event, _, when in events if trial in tasks}
    return [task for event, when, task in last.values()
            if event in ('WAITING', 'RUNNING') or (event == 'ADD_RESUMED' and time.time() - when < RESUMES)]


def _query(folder: Path, *queries: str) -> List[List[Any]]:
    file = folder / 'db' / 'nni.sqlite'
    try:
        with closing(sqlite3.connect(f'{file.resolve().as_uri()}?mode=ro', uri=True)) as database:
            return [database.execute(query).fetchall() for query in queries]
    except sqlite3.Error as error:
        raise ExperimentError(f'{file} cannot be read: {error}. Is it the folder of an NNI experiment?') from error


def _decoded(data: str) -> Any:
    """Decode JSON that NNI may have encoded twice."""
    value = json.loads(data)
    return json.loads(value) if isinstance(value, str) else value


def rows_of(ranked: Sequence[Ranked]) -> List[Tuple[str, ...]]:
    """The ranking as rows of text, of which the first one has the heads. Costs have columns if any are known."""
    known = [name for name in COSTS if any(name in one.costs for one in ranked)]
    heads = ('', 'found with', 'short trainings', 'mean', 'spread', 'long trainings', *(name.replace('_', '-') for name in known))
    return [heads, *((f'{i}.', _searches(one.found_by), _numbers(one.accuracies.values()),
                      _numbers([one.mean]), _numbers([one.spread]), _numbers(one.finals.values()),
                      *(f'{one.costs[name]:,.0f}' if name in one.costs else '-' for name in known))
                     for i, one in enumerate(ranked, 1))]


def table(ranked: Sequence[Ranked]) -> str:
    """The ranking as a table for the terminal."""
    rows = rows_of(ranked)
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return '\n'.join('  '.join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in rows)


def as_json(results: Results) -> Any:
    """The results as values for JSON: the ranking or, with random architectures, both rankings and the comparison."""
    if results.comparison is None:
        return _as_json(results.found)
    return {'found': _as_json(results.found), 'random': _as_json(results.random), 'comparison': results.comparison._asdict()}


def _as_json(ranked: Sequence[Ranked]) -> List[Dict[str, Any]]:
    return [{'architecture': one.architecture, 'found_by': [task.parameters() for task in one.found_by],
             'accuracies': one.accuracies, 'mean': one.mean, 'spread': one.spread, 'finals': one.finals,
             'costs': one.costs} for one in ranked]


def named(search: Task) -> str:
    """The seed and the hyperparameters of a search."""
    return ', '.join([f'seed {search.seed}', *(f'{name} {_shown(value)}' for name, value in search.hyperparameters.items())])


def _searches(found_by: Sequence[Task]) -> str:
    names = list(dict.fromkeys(map(named, sorted(found_by, key=lambda task: task.seed))))
    return '; '.join(names[:SHOWN]) + (f' and {len(names) - SHOWN} more' if len(names) > SHOWN else '')


def _shown(value: Any) -> str:
    """A hyperparameter; ``methods`` may have a list of texts, or none."""
    return (' + '.join(map(str, value)) if isinstance(value, list) else str(value)) or 'none'


def _numbers(values: Any) -> str:
    return ', '.join(f'{value:.4f}' for value in values if value is not None) or '-'
