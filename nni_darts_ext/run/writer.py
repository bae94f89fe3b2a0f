"""Writes a run's folder."""

from __future__ import annotations

import errno
import logging
import os
import socket
from contextlib import suppress
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Any, Callable, Dict, Mapping, Optional, Type
from weakref import WeakSet

from ..core import files
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

_logger = logging.getLogger(__name__)


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
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._lines = open(self.folder / EPOCHS, 'a+b', buffering=0)  # noqa: SIM115  closed by end()
        except OSError as error:
            raise self._unwritable('The search', error) from error
        try:
            if not lock(self._lines):
                raise RunError(f'Another process is writing the run in {self.folder}. Pass another folder, or wait for its end.')
            before = self._run_to_resume(space, resume)
            cut_torn_line(self._lines)
            for name in (CONFIG, STATE, ARCHITECTURE):  # temporary files of a process that was killed while it wrote
                for left in self.folder.glob(f'.{name}.*.tmp'):
                    files.remove(left)
            self._state = {'started': before.state.started if before else now(),
                           'resumed': [*before.state.resumed, now()] if before else [],
                           'pid': os.getpid(), 'host': socket.gethostname(), 'ended': None, 'error': None}
            self.costs = dict(before.costs) if before else {}
            self._config = {'format': FORMAT, 'schema': SCHEMA, 'num_epochs': num_epochs, 'settings': dict(settings or {}),
                            'versions': dict(versions or {}),
                            **self._described(_with_sources(space, before.space) if before else space)}
            self._write_descriptions()
        except BaseException as error:
            self._lines.close()
            if isinstance(error, OSError):
                raise self._unwritable('The search', error) from error
            raise
        _open.add(self)

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
        """Record the space again, when the sources of inputs that the model does not name, or costs, have become known. Raises
        :class:`RunError` as :meth:`epoch` does."""
        self.costs.update(costs)
        self._config.update(self._described(space))
        self._write('The space', self._write_descriptions)

    def epoch(self, epoch: Epoch, architecture: Optional[Mapping[str, Any]] = None) -> None:
        """Append an epoch, and write ``architecture.json``.

        If the folder was removed, the run is written again. Raises :class:`RunError` if the folder cannot be written, which is
        tried for :data:`nni_darts_ext.core.files.DISK_PATIENCE` seconds; the epochs before remain.
        """
        line, size = dumps(epoch._asdict()) + b'\n', self._lines.seek(0, os.SEEK_END)

        def append() -> None:
            self._lines.truncate(size)  # removes what a failed attempt has written
            if self._lines.write(line) != len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.folder / EPOCHS))
            os.fsync(self._lines.fileno())
        try:
            self._write(f'Epoch {epoch.epoch}', append)
        except RunError:
            with suppress(OSError):
                self._lines.truncate(size)
            raise
        derived = epoch.architecture if architecture is None else architecture
        self._write(f'The architecture of epoch {epoch.epoch}',
                    lambda: write_json(self.folder / ARCHITECTURE, derived, sort_keys=True))

    def end(self, error: Optional[BaseException] = None) -> None:
        """Record that the run has finished, or the error that ended it. The writer is closed. If this cannot be recorded, it is
        logged: the epochs are, and ``error`` must not be hidden."""
        if self._lines.closed:
            return
        message = None if error is None else f'{type(error).__name__}: {error}'.rstrip(': ')
        self._state.update(ended=now(), error=message)
        try:
            self._write_again_if_removed()
            write_json(self.folder / STATE, self._state)
        except (OSError, RunError) as failure:
            _logger.error('%s does not tell that the search has ended: %s', self.folder / STATE, failure)
        finally:
            self._lines.close()

    def _described(self, space: SpaceRecord) -> Dict[str, Any]:
        return {'space': {'edges': {key: list(names) for key, names in space.edges.items()},
                          'inputs': {key: {'choose_from': list(node.choose_from), 'n_chosen': node.n_chosen}
                                     for key, node in space.inputs.items()}},
                'costs': {name: of_all._asdict() for name, of_all in self.costs.items()}}

    def _write_descriptions(self) -> None:
        write_json(self.folder / STATE, self._state)
        write_json(self.folder / CONFIG, self._config)

    def _write(self, what: str, write: Callable[[], None]) -> None:
        """Write in a folder that may have been removed, or be on a full disk."""
        def attempt() -> None:
            self._write_again_if_removed()
            write()
        try:
            files.persistently(attempt, f'{what} in {self.folder}')
        except OSError as error:
            raise self._unwritable(what, error) from error

    def _write_again_if_removed(self) -> None:
        file = self.folder / EPOCHS
        if files.OPEN_FILES_ARE_HELD:  # nobody can have removed it
            return
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(self._lines.fileno()), os.stat(file)):
                return
            raise RunError(f'{self.folder} was removed during the search, and another run was put there. Start the search again '
                           'in another folder.')
        _logger.warning('%s was removed during the search. The run is written again.', self.folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self._write_descriptions()
        self._lines.seek(0)
        files.write(file, self._lines.read())
        lines = open(file, 'a+b', buffering=0)  # noqa: SIM115  if it cannot be opened now, the old one is still there
        lock(lines)
        self._lines.close()
        self._lines = lines

    def _unwritable(self, what: str, error: OSError) -> RunError:
        return RunError(f'{what} cannot be recorded in {self.folder}: {error}. What was recorded before is whole. Free some '
                        'space or make the folder writable, and resume the search, or pass another folder for a new one.')

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
