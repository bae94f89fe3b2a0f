"""What the files of a run hold, each a record."""

from __future__ import annotations

import os
from datetime import datetime, timezone
from typing import Dict, List, NamedTuple, Optional, Tuple, Union

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


def now() -> str:
    """The current time in the format of a run's files."""
    return datetime.now(timezone.utc).isoformat(timespec='seconds')


def moment(written: str) -> datetime:
    """Parse a time from a run's files."""
    parsed = datetime.fromisoformat(written)
    if parsed.tzinfo is None:
        raise ValueError(f'the time {written} has no time zone')
    return parsed
