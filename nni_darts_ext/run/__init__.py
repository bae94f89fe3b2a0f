"""The folder of a search: written by trainer, strategy and trial, read by ``plot``, ``show`` and ``report``.

=====================  =========================================================================================================
``config.json``        ``format``, ``schema``, ``num_epochs`` (null: unknown), ``settings``, ``versions`` and ``space``: for each
                       edge its candidates, for each input its ``choose_from`` and ``n_chosen``; from the first forward pass on
                       ``costs``, see :class:`CostRecord`
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

import os
from datetime import datetime, timezone
from pathlib import Path
from types import MappingProxyType
from typing import Any, Dict, List, Mapping, NamedTuple, Optional, Sequence, Tuple, Union

from ..core import files
from ..core.derivation import Derivation, all_readers, without_reader
from ..core.ranking import RankedArchitecture, ranking
from . import storage

FORMAT, SCHEMA = 'nni_darts_ext run', 1
CONFIG, EPOCHS, STATE, ARCHITECTURE = 'config.json', 'epochs.jsonl', 'state.json', 'architecture.json'
CHECKPOINTS, PICTURES = 'checkpoints', 'pictures'

RUNNING, DONE, FAILED, DEAD, UNKNOWN = STATUSES = ('running', 'done', 'failed', 'dead', 'unknown')
"""Running; finished; ended by an error; ended without writing its state, as when killed; cannot be determined from here."""

MAX_EPOCHS_SIZE = 2 ** 30
"""Maximum size of ``epochs.jsonl`` in bytes. Larger files are refused."""
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
    def sources(self) -> Dict[str, Tuple[str, ...]]:
        """The ``choose_from`` of each input."""
        return {key: node.choose_from for key, node in self.inputs.items()}

    @property
    def choices(self) -> List[str]:
        """The keys of all choices, edges first."""
        return [*self.edges, *self.inputs]


class CostRecord(NamedTuple):
    """What the parts of a supernet cost, as ``config.json`` holds it: ``parameters``, or ``multiply_adds`` for one sample."""

    fixed: float
    """Of everything outside the LayerChoices."""
    candidates: Dict[str, List[float]]
    """For each edge its candidates, each in all LayerChoices with that key."""


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
    usage: Dict[str, float] = {}  # noqa: RUF012  it is not written to
    """What the search used of the machine, see :meth:`nni_darts_ext.run.usage.Usage.read`; runs of early versions have none."""


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


def now() -> str:
    """The current time in the format of a run's files."""
    return datetime.now(timezone.utc).isoformat(timespec='seconds')


def moment(written: str) -> datetime:
    """Parse a time from a run's files."""
    parsed = datetime.fromisoformat(written)
    if parsed.tzinfo is None:
        raise ValueError(f'the time {written} has no time zone')
    return parsed


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
    costs: Mapping[str, CostRecord] = MappingProxyType({})
    """``'parameters'`` and ``'multiply_adds'`` of the supernet's parts, where they are known."""

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
        from . import reading
        folder = Path(folder)
        reading.config(folder)  # first, because this raises if the folder holds no run
        state = reading.state(folder, by_writer)
        written = storage.read(folder / EPOCHS, MAX_EPOCHS_SIZE)
        config = reading.config(folder)  # after the epochs, because a writer updates the space before it writes the epoch's line
        try:
            space = reading.space_in(config['space'])
            reading.check_counts(config['num_epochs'], *(node.n_chosen for node in space.inputs.values()))
            run = cls(folder, state, config['num_epochs'], dict(config['settings']), dict(config['versions']), space, [],
                      reading.costs_in(config.get('costs', {}), space))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise storage.broken(folder / CONFIG, error) from error
        lines = written.split(b'\n')[:-1]  # a last line without newline is incomplete: still being written, or cut by a kill
        for number, line in enumerate(lines, 1):
            try:
                epoch = reading.epoch_in(files.parse(line), space)
            except (KeyError, TypeError, ValueError, AttributeError) as error:
                raise storage.broken(folder / EPOCHS, error, f' in line {number}') from error
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
        return self.named(key, self.epochs[epoch].architecture[key])

    def named(self, key: str, chosen: Sequence[int]) -> str:
        """The names of candidates of a choice, as text."""
        if key in self.space.edges:
            return ', '.join(str(self.space.edges[key][i]) for i in chosen) or 'dropped'
        return ', '.join(self.space.inputs[key].choose_from[i] or f'input {i}' for i in chosen) or 'none'

    def ranked(self, n: int = 10) -> List[RankedArchitecture]:
        """The ``n`` most probable architectures after the last epoch, the derived one first. Empty before the first epoch.

        They are in the form of ``Epoch.architecture``, and ranked by the recorded weights, see
        :mod:`nni_darts_ext.core.ranking`. The weights of inputs that ``EdgeNormalization`` learns are not recorded: inputs are
        ranked by their edges alone.
        """
        if not self.epochs:
            return []
        weights, architecture = self.epochs[-1].weights, self.epochs[-1].architecture
        decisions = {key: [i in architecture[key] for i in range(self.space.size(key))] for key in self.space.choices}
        best = {key: (architecture[key] or [of_edge.index(max(of_edge[:-1]))])[0] for key, of_edge in weights.items()}
        strengths = {key: [weights[source][best[source]] if source in best else 0.0 for source in sources]
                     for key, sources in self.space.sources.items()}
        readers = all_readers(self.space.edges, self.space.sources, None)
        for key in without_reader(readers, decisions):
            readers[key] = {None} if architecture[key] else readers[key]  # other readers than InputChoices are not recorded

        def write(one: Derivation) -> Dict[str, Any]:
            return {key: [i for i, is_kept in enumerate(one.decisions[key]) if is_kept] for key in self.space.choices}
        return ranking(n, Derivation(decisions, best, {}), weights, strengths, readers, write)

    @property
    def cost(self) -> Dict[str, float]:
        """What the network costs that is derived after the last epoch, as far as ``costs`` are known."""
        chosen = self.epochs[-1].architecture if self.epochs else None
        return {} if chosen is None else {name: of_all.fixed + sum(of_edge[i] for key, of_edge in of_all.candidates.items()
                                                                   for i in chosen[key]) for name, of_all in self.costs.items()}

    @property
    def seconds_left(self) -> Optional[float]:
        """Estimated time until the search ends, from the mean of the last five epochs; None if it is not running or the number of
        epochs is not known."""
        if self.num_epochs is None or not self.epochs or self.state.status not in (RUNNING, UNKNOWN):
            return None
        last = self.epochs[-5:]
        ahead = (self.num_epochs - 1 - last[-1].epoch) * sum(epoch.seconds for epoch in last) / len(last)
        since = (datetime.now(timezone.utc) - moment(last[-1].time)).total_seconds()  # negative after the clock was set back
        return max(0.0, ahead - max(0.0, since))
