"""Writes a run's folder."""

from __future__ import annotations

import errno
import os
import socket
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Any, Dict, Mapping, Optional, Type
from weakref import WeakSet

from ..errors import RunError
from . import (
    ARCHITECTURE,
    CONFIG,
    EPOCHS,
    FORMAT,
    SCHEMA,
    STATE,
    CostRecord,
    Epoch,
    InputRecord,
    PathLike,
    Run,
    SpaceRecord,
    now,
)
from .storage import cut_torn_line, dumps, lock, write_json


class Writer:
    """Writes a run's folder. Every file is complete at any time, except for the last line of ``epochs.jsonl`` after a kill.

    As a context manager, it marks the run as failed, with the message of the exception, if the block raises one. It writes only
    in the process that created it; in forked processes it is closed.

    The arguments and errors are those of :class:`nni_darts_ext.run.recorder.Recorder`; ``versions`` has those of the software, by
    name. Settings that JSON cannot represent are written as ``str(value)``.
    """

    def __init__(self, folder: PathLike, space: SpaceRecord, settings: Optional[Mapping[str, Any]] = None,
                 num_epochs: Optional[int] = None, versions: Optional[Mapping[str, str]] = None, resume: bool = False) -> None:
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self._config = {'format': FORMAT, 'schema': SCHEMA, 'num_epochs': num_epochs, 'settings': dict(settings or {}),
                        'versions': dict(versions or {})}
        self.costs: Dict[str, CostRecord] = {}
        self._lines = open(self.folder / EPOCHS, 'ab', buffering=0)  # noqa: SIM115  closed by end()
        try:
            if not lock(self._lines):
                raise RunError(f'Another process is writing the run in {self.folder}. Pass another folder, or wait for its end.')
            before = self._run_to_resume(space, resume)
            cut_torn_line(self._lines)
            for name in (CONFIG, STATE, ARCHITECTURE):  # temporary files of a process that was killed while it wrote
                for left in self.folder.glob(f'.{name}.*.tmp'):
                    left.unlink()
        except BaseException:
            self._lines.close()
            raise
        _open.add(self)
        self._state = {'started': before.state.started if before else now(),
                       'resumed': [*before.state.resumed, now()] if before else [],
                       'pid': os.getpid(), 'host': socket.gethostname(), 'ended': None, 'error': None}
        write_json(self.folder / STATE, self._state)
        self.update_space(_with_sources(space, before.space) if before else space, before.costs if before else {})

    def _run_to_resume(self, space: SpaceRecord, resume: bool) -> Optional[Run]:
        """The run in the folder; None if there is none."""
        if not (self.folder / CONFIG).exists():
            if self._lines.tell():
                raise RunError(f'{self.folder} has an {EPOCHS} without a {CONFIG}: it is not a run. Pass another folder.')
            return None
        before = Run.read(self.folder, by_writer=True)
        if not resume:
            raise RunError(f'{self.folder} already holds a run of {len(before.epochs)} epochs ({before.state.status}). '
                           'Pass another folder, or resume that run.')
        old, new = _shape(_with_sources(before.space, space)), _shape(_with_sources(space, before.space))
        if old != new:
            differ = sorted(key for key in {**old, **new} if old.get(key) != new.get(key))
            raise RunError(f'The run in {self.folder} searches another space: {differ} differ. Resume it with the model that it '
                           'was started with, or pass another folder.')
        return before

    def update_space(self, space: SpaceRecord, costs: Mapping[str, CostRecord] = MappingProxyType({})) -> None:
        """Record the space again, when the sources of inputs that the model does not name, or costs, have become known."""
        self.costs.update(costs)
        edges = {key: list(names) for key, names in space.edges.items()}
        inputs = {key: {'choose_from': list(node.choose_from), 'n_chosen': node.n_chosen} for key, node in space.inputs.items()}
        write_json(self.folder / CONFIG, {**self._config, 'space': {'edges': edges, 'inputs': inputs},
                                          'costs': {name: of_all._asdict() for name, of_all in self.costs.items()}})

    def epoch(self, epoch: Epoch, architecture: Optional[Mapping[str, Any]] = None) -> None:
        """Append an epoch, and write ``architecture.json``. If the disk is full, an incomplete line is removed."""
        line = dumps(epoch._asdict()) + b'\n'
        size = self._lines.tell()
        try:
            if self._lines.write(line) != len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.folder / EPOCHS))
            os.fsync(self._lines.fileno())
        except OSError:
            self._lines.truncate(size)
            raise
        write_json(self.folder / ARCHITECTURE, epoch.architecture if architecture is None else architecture, sort_keys=True)

    def end(self, error: Optional[BaseException] = None) -> None:
        """Record that the run has finished, or the error that ended it. The writer is closed."""
        if not self._lines.closed:
            message = None if error is None else f'{type(error).__name__}: {error}'.rstrip(': ')
            write_json(self.folder / STATE, {**self._state, 'ended': now(), 'error': message})
            self._lines.close()

    def __enter__(self) -> Writer:
        return self

    def __exit__(self, kind: Optional[Type[BaseException]], error: Optional[BaseException],
                 traceback: Optional[TracebackType]) -> None:
        self.end(error)


_open: WeakSet[Writer] = WeakSet()


def _close_in_child() -> None:
    """A forked process, such as a worker of a DataLoader, must not keep the run locked after the search was killed."""
    for writer in list(_open):
        writer._lines.close()


if hasattr(os, 'register_at_fork'):
    os.register_at_fork(after_in_child=_close_in_child)


def _shape(space: SpaceRecord) -> Dict[str, Any]:
    """The parts of a space that a resumed search must have in common with the run."""
    return {**{key: tuple(map(str, names)) for key, names in space.edges.items()},
            **{key: (tuple(map(str, node.choose_from)), node.n_chosen) for key, node in space.inputs.items()}}


def _with_sources(space: SpaceRecord, other: SpaceRecord) -> SpaceRecord:
    """A space whose inputs without known sources take them from another record of the same space."""
    def known(key: str, node: InputRecord) -> InputRecord:
        sources = other.inputs.get(key, node).choose_from
        return node if any(node.choose_from) or len(sources) != len(node.choose_from) else node._replace(choose_from=sources)
    return space._replace(inputs={key: known(key, node) for key, node in space.inputs.items()})
