"""The folder of a search: written by trainer, strategy and trial, read by ``plot``, ``show`` and ``report``.

=====================  =========================================================================================================
``config.json``        ``format``, ``schema``, ``num_epochs`` (null: unknown), ``settings``, ``versions`` and ``space``: for each
                       edge its candidates, for each input its ``choose_from`` and ``n_chosen``
``epochs.jsonl``       a line for each epoch, see :class:`Epoch`; the process that writes it holds a lock on it
``state.json``         ``started``, ``resumed`` (times), ``pid``, ``host``, ``ended``, ``error``
``architecture.json``  the architecture after the last epoch, for ``apply_fixed_architecture``
``checkpoints/``       the checkpoints from which the search resumes
``tensorboard/``       TensorBoard's scalars, if TensorBoard is installed
``pictures/``          the pictures of ``nni-darts-ext plot``
=====================  =========================================================================================================

Times are in UTC and ISO 8601, durations in seconds, epochs counted from 0. NaN and infinities are the strings ``"NaN"``,
``"Infinity"`` and ``"-Infinity"``.
A resumed search appends to the files in its folder. A line for an epoch replaces all earlier lines for that epoch and later ones.
"""

from __future__ import annotations

import math
import os
import socket
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Dict, List, Mapping, NamedTuple, Optional, Tuple, Union

from ..core import files
from ..errors import RunError
from . import storage

FORMAT, SCHEMA = 'nni_darts_ext run', 1
CONFIG, EPOCHS, STATE, ARCHITECTURE = 'config.json', 'epochs.jsonl', 'state.json', 'architecture.json'
CHECKPOINTS, PICTURES = 'checkpoints', 'pictures'

RUNNING, DONE, FAILED, DEAD, UNKNOWN = STATUSES = ('running', 'done', 'failed', 'dead', 'unknown')
"""Running; finished; ended by an error; ended without writing its state, as when killed; cannot be determined from here."""

MAX_SIZE, MAX_EPOCHS_SIZE = 2 ** 24, 2 ** 30
"""Maximum size in bytes of each file, and of ``epochs.jsonl``. Larger files are refused."""
LONGEST = 10 ** 9
"""Maximum number of epochs of a search, and of seconds of an epoch."""

Name = Union[str, int]
PathLike = Union[str, 'os.PathLike[str]']


class InputRecord(NamedTuple):
    """An InputChoice, as ``config.json`` holds it."""

    choose_from: Tuple[str, ...]
    """The key of the LayerChoice behind each candidate, ``''`` where there is none."""
    n_chosen: Optional[int]
    """The number of candidates to choose; None for all."""


class SpaceRecord(NamedTuple):
    """A search space, as ``config.json`` holds it, in the order of the model's modules."""

    edges: Dict[str, Tuple[Name, ...]]
    """The names of the candidates of each LayerChoice."""
    inputs: Dict[str, InputRecord]

    def size(self, key: str) -> int:
        """The number of candidates of a choice, without the zero op."""
        return len(self.edges[key]) if key in self.edges else len(self.inputs[key].choose_from)

    @property
    def choices(self) -> List[str]:
        """The keys of all choices, edges first."""
        return [*self.edges, *self.inputs]


class Epoch(NamedTuple):
    """The state of a search after an epoch, a line of ``epochs.jsonl``."""

    epoch: int
    """Counted from 0."""
    seconds: float
    """Duration."""
    time: str
    """When it ended."""
    train: Dict[str, float]
    """Means of the loss and the metrics over the training batches."""
    valid: Dict[str, float]
    """Means of the loss and the metrics over the validation batches of the supernet."""
    weights: Dict[str, List[float]]
    """For each edge the n + 1 weights of its candidates and, last, of the zero op: probabilities, if no method makes others."""
    indicators: Dict[str, float]
    """Indicators of collapse: ``skip_share``, ``entropy``, ``movement`` and any others that are known."""
    architecture: Dict[str, List[int]]
    """For each choice the indices of the derived candidates, ascending; empty for a dropped edge.
    ``apply_fixed_architecture`` accepts this form."""


class State(NamedTuple):
    """The state of a run."""

    status: str
    """One of :data:`STATUSES`."""
    started: str
    resumed: List[str]
    """When it was resumed."""
    pid: int
    host: str
    ended: Optional[str]
    error: Optional[str]
    """The error that ended it, if it failed."""


class Run(NamedTuple):
    """A run as it was when it was read."""

    folder: Path
    state: State
    num_epochs: Optional[int]
    settings: Dict[str, Any]
    versions: Dict[str, str]
    space: SpaceRecord
    epochs: List[Epoch]
    """In ascending order."""

    @property
    def name(self) -> str:
        """The name of the folder."""
        return self.folder.resolve().name

    @classmethod
    def read(cls, folder: PathLike, by_writer: bool = False) -> Run:
        """Read the folder of a run, finished or not, also while another process writes it.

        Parameters
        ----------
        folder
            The folder of the run.
        by_writer
            Whether the caller holds the writer's lock, so that no other process writes the run. Default False.

        Raises
        ------
        RunError
            There is no run in the folder, or a newer version has written it, or one of its files is broken.
        """
        folder = Path(folder)
        _config(folder)  # first, because this raises if the folder holds no run
        state = _state(folder, by_writer)
        written = _content(folder / EPOCHS, MAX_EPOCHS_SIZE)
        config = _config(folder)  # after the epochs, because a writer updates the space before it writes the epoch's line
        try:
            space = _space(config['space'])
            _check_counts(config['num_epochs'], *(node.n_chosen for node in space.inputs.values()))
            run = cls(folder, state, config['num_epochs'], dict(config['settings']), dict(config['versions']), space, [])
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise _broken(folder / CONFIG, error) from error
        lines = written.split(b'\n')[:-1]  # a last line without newline is incomplete: still being written, or cut by a kill
        for number, line in enumerate(lines, 1):
            try:
                epoch = _epoch(files.parse(line), space)
            except (KeyError, TypeError, ValueError, AttributeError) as error:
                raise _broken(folder / EPOCHS, error, f' in line {number}') from error
            while run.epochs and run.epochs[-1].epoch >= epoch.epoch:
                run.epochs.pop()
            run.epochs.append(epoch)
        return run

    def since(self, key: str) -> Optional[int]:
        """The first epoch of the current decision of a choice; None before the first epoch has ended."""
        found = None
        for epoch in reversed(self.epochs):
            if epoch.architecture[key] != self.epochs[-1].architecture[key]:
                break
            found = epoch.epoch
        return found

    def decision(self, key: str, epoch: int = -1) -> str:
        """The names of the candidates that are derived for a choice, as text.

        Parameters
        ----------
        key
            The key of an edge or an input.
        epoch
            The index in ``epochs``. Default: the last.
        """
        chosen = self.epochs[epoch].architecture[key]
        if key in self.space.edges:
            return ', '.join(str(self.space.edges[key][i]) for i in chosen) or 'dropped'
        return ', '.join(self.space.inputs[key].choose_from[i] or f'input {i}' for i in chosen) or 'none'

    @property
    def seconds_left(self) -> Optional[float]:
        """Estimated time until the search ends, from the mean of the last five epochs; None if it is not running or the number of
        epochs is not known."""
        if self.num_epochs is None or not self.epochs or self.state.status not in (RUNNING, UNKNOWN):
            return None
        last = self.epochs[-5:]
        ahead = (self.num_epochs - 1 - last[-1].epoch) * sum(epoch.seconds for epoch in last) / len(last)
        return max(0.0, ahead - (datetime.now(timezone.utc) - moment(last[-1].time)).total_seconds())


def now() -> str:
    """The current time in the format of a run's files."""
    return datetime.now(timezone.utc).isoformat(timespec='seconds')


def moment(written: str) -> datetime:
    """Parse a time from a run's files."""
    parsed = datetime.fromisoformat(written)
    if parsed.tzinfo is None:
        raise ValueError(f'the time {written} has no time zone')
    return parsed


def _config(folder: Path) -> Dict[str, Any]:
    if not (folder / CONFIG).is_file():
        raise RunError(f'{folder} is not the run of a search: ' + (f'it has no {CONFIG}.' if folder.is_dir() else 'there is no '
                       'such folder.') + ' Pass the run_dir of DartsTrainer or of the strategy.')
    config = _json(folder / CONFIG)
    if not isinstance(config, dict) or config.get('format') != FORMAT:
        raise RunError(f'{folder} is not the run of a search: its {CONFIG} belongs to something else. Pass the run_dir of '
                       'DartsTrainer or of the strategy.')
    if config.get('schema') != SCHEMA:
        raise RunError(f'The run in {folder} has schema {config.get("schema")!r}; this version of nni_darts_ext reads {SCHEMA}. '
                       'Read it with the version that wrote it, or with a newer one.')
    return config


def _space(config: Mapping[str, Any]) -> SpaceRecord:
    space = SpaceRecord({key: tuple(names) for key, names in config['edges'].items()},
                  {key: InputRecord(tuple(node['choose_from']), node['n_chosen']) for key, node in config['inputs'].items()})
    for name in (name for names in space.edges.values() for name in names):
        if not isinstance(name, (str, int)):
            raise ValueError(f'a candidate is named {name!r}')
    for source in (source for node in space.inputs.values() for source in node.choose_from):
        if not isinstance(source, str):
            raise ValueError(f'a source is named {source!r}')
    return space


def _state(folder: Path, by_writer: bool) -> State:
    def is_written() -> bool:
        return not by_writer and storage.is_locked(folder / EPOCHS)
    was_written = is_written()
    written = _json(folder / STATE)
    try:
        if written['ended']:
            status = FAILED if written['error'] else DONE
        elif was_written or is_written():  # checked again, as a run may have started since the first check
            status = RUNNING
        else:
            status = DEAD if storage.LOCKS and written['host'] == socket.gethostname() else UNKNOWN
        for time_ in [written['started'], *written['resumed'], *([written['ended']] if written['ended'] else [])]:
            moment(time_)
        return State(status, written['started'], list(written['resumed']), int(written['pid']), str(written['host']),
                     written['ended'], written['error'])
    except (KeyError, TypeError, ValueError) as error:
        raise _broken(folder / STATE, error) from error


def _epoch(record: Mapping[str, Any], space: SpaceRecord) -> Epoch:
    epoch = Epoch(*(record[name] for name in Epoch._fields))
    moment(epoch.time)
    if epoch.epoch is None:
        raise ValueError('an epoch has no number')
    _check_counts(epoch.epoch)
    if not 0 <= _number('seconds', epoch.seconds) <= LONGEST:
        raise ValueError(f'seconds is {epoch.seconds!r}')
    for key, names in space.edges.items():
        if len(epoch.weights[key]) != len(names) + 1:
            raise ValueError(f'{key!r} has {len(epoch.weights[key])} weights, expected {len(names) + 1}')
        if not all(math.isfinite(_number(f'a weight of {key!r}', weight)) for weight in epoch.weights[key]):
            raise ValueError(f'the weights of {key!r} are not finite')
    for key in space.choices:
        if not isinstance(epoch.architecture[key], list):
            raise ValueError(f'{key!r} chooses {epoch.architecture[key]!r}, expected a list of indices')
        for chosen in epoch.architecture[key]:
            if type(chosen) is not int or not 0 <= chosen < space.size(key):
                raise ValueError(f'{key!r} chooses {chosen!r} of {space.size(key)} candidates')
    train, valid, indicators = ({name: _number(name, value) for name, value in numbers.items()}
                                for numbers in (epoch.train, epoch.valid, epoch.indicators))
    return epoch._replace(train=train, valid=valid, indicators=indicators)


def _check_counts(*counts: Any) -> None:
    for count in counts:
        if count is not None and (type(count) is not int or not 0 <= count <= LONGEST):
            raise ValueError(f'{count!r} is not an integer from 0 to {LONGEST}')


def _number(name: str, value: Any) -> float:
    if isinstance(value, str):
        value = storage.NOT_FINITE.get(value, value)
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        raise ValueError(f'{name} is {value!r}, expected a number')
    return float(value)


def _content(file: Path, limit: int) -> bytes:
    try:
        return files.read(file, limit)
    except (OSError, ValueError) as error:
        raise _broken(file, error) from error


def _json(file: Path) -> Any:
    try:
        return files.parse(_content(file, MAX_SIZE))
    except ValueError as error:
        raise _broken(file, error) from error


def _broken(file: Path, error: Exception, where: str = '') -> RunError:
    reason = f'{error.args[0]!r} is missing' if isinstance(error, KeyError) else str(error)
    return RunError(f'{file} is broken{where}: {reason}. Restore it from a backup, or start a new search.')
