"""Writes a run's folder."""

from __future__ import annotations

import errno
import os
import socket
from pathlib import Path
from types import TracebackType
from typing import Any, Dict, Mapping, Optional, Type
from weakref import WeakSet

from ..errors import RunError
from . import ARCHITECTURE, CONFIG, EPOCHS, FORMAT, SCHEMA, STATE, Epoch, Input, PathLike, Run, Space, now
from .storage import cut_torn_line, dumps, lock, write_json


class Writer:
    """Writes a run's folder. Every file is whole at every moment, but for a last line of ``epochs.jsonl`` that a kill tears.

    A context manager: a run that leaves it by an exception has failed, with what the exception says. It writes in the process
    that made it alone; in one that is forked off it is closed.

    Parameters
    ----------
    folder
        Made if there is none.
    space
        What is searched.
    settings
        Of the search, for the record. What JSON does not know is written as ``str`` gives it.
    num_epochs
        How many epochs the search shall have; None if that is not known.
    versions
        Of the software, by name.
    resume
        Whether to go on with the run that the folder holds, if it holds one. Default False: such a folder is refused.

    Raises
    ------
    RunError
        The folder holds a run already (or, with ``resume``, that of another space), or another process is writing it.
    """

    def __init__(self, folder: PathLike, space: Space, settings: Optional[Mapping[str, Any]] = None,
                 num_epochs: Optional[int] = None, versions: Optional[Mapping[str, str]] = None, resume: bool = False) -> None:
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self._config = {'format': FORMAT, 'schema': SCHEMA, 'num_epochs': num_epochs, 'settings': dict(settings or {}),
                        'versions': dict(versions or {})}
        self._lines = open(self.folder / EPOCHS, 'ab', buffering=0)  # noqa: SIM115  for as long as the writer lives
        try:
            if not lock(self._lines):
                raise RunError(f'Another process is writing the run in {self.folder}. Give another folder, or wait for its end.')
            before = self._taken_up(space, resume)
            cut_torn_line(self._lines)
            for name in (CONFIG, STATE, ARCHITECTURE):  # by a process that was killed while it wrote
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
        self.know(_with_sources(space, before.space) if before else space)

    def _taken_up(self, space: Space, resume: bool) -> Optional[Run]:
        """The run that is gone on with."""
        if not (self.folder / CONFIG).exists():
            if self._lines.tell():
                raise RunError(f'{self.folder} has an {EPOCHS} without a {CONFIG}: it is no run to write into. Give another '
                               'folder.')
            return None
        before = Run.read(self.folder, by_writer=True)
        if not resume:
            raise RunError(f'{self.folder} holds a run already, of {len(before.epochs)} epochs ({before.state.status}). '
                           'Give another folder, or resume that run.')
        old, new = _shape(_with_sources(before.space, space)), _shape(_with_sources(space, before.space))
        if old != new:
            differ = sorted(key for key in {**old, **new} if old.get(key) != new.get(key))
            raise RunError(f'The run in {self.folder} searches another space: {differ} differ. Resume it with the model that it '
                           'was started with, or give another folder.')
        return before

    def know(self, space: Space) -> None:
        """Record what has become known of the space: the sources of inputs that the model does not name."""
        edges = {key: list(names) for key, names in space.edges.items()}
        inputs = {key: {'choose_from': list(node.choose_from), 'n_chosen': node.n_chosen} for key, node in space.inputs.items()}
        write_json(self.folder / CONFIG, {**self._config, 'space': {'edges': edges, 'inputs': inputs}})

    def epoch(self, epoch: Epoch, architecture: Optional[Mapping[str, Any]] = None) -> None:
        """Add an epoch, and write the architecture for people and hosts. What a full disk leaves of a line is taken back."""
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
        """Say that the run is done, or what ended it. No more can be written then."""
        if not self._lines.closed:
            said = None if error is None else f'{type(error).__name__}: {error}'.rstrip(': ')
            write_json(self.folder / STATE, {**self._state, 'ended': now(), 'error': said})
            self._lines.close()

    def __enter__(self) -> Writer:
        return self

    def __exit__(self, kind: Optional[Type[BaseException]], error: Optional[BaseException],
                 traceback: Optional[TracebackType]) -> None:
        self.end(error)


_open: WeakSet[Writer] = WeakSet()


def _close_in_child() -> None:
    """A loader's worker, say, which outlives a search that was killed, must not hold the lock of its run."""
    for writer in list(_open):
        writer._lines.close()


if hasattr(os, 'register_at_fork'):
    os.register_at_fork(after_in_child=_close_in_child)


def _shape(space: Space) -> Dict[str, Any]:
    """What stays the same while a space is searched, once the sources of inputs are known."""
    return {**{key: tuple(map(str, names)) for key, names in space.edges.items()},
            **{key: (tuple(map(str, node.choose_from)), node.n_chosen) for key, node in space.inputs.items()}}


def _with_sources(space: Space, other: Space) -> Space:
    """A space with the sources that another one like it knows, where it names none itself yet."""
    def known(key: str, node: Input) -> Input:
        sources = other.inputs.get(key, node).choose_from
        return node if any(node.choose_from) or len(sources) != len(node.choose_from) else node._replace(choose_from=sources)
    return space._replace(inputs={key: known(key, node) for key, node in space.inputs.items()})
