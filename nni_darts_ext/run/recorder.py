"""What writes a search down epoch by epoch, whichever host runs it."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Dict, Iterable, Mapping, Optional, Type

from .. import __version__
from ..core.collapse import SKIP_CONNECTIONS, CollapseWatch
from ..core.search import Search
from . import Epoch, Input, PathLike, Space, now
from .writer import Writer

PACKAGES = ('nni', 'torch', 'pytorch_lightning', 'lightning')
"""Those whose versions a run records where the process has imported them."""


class Recorder:
    """Records a search in a run's folder. A context manager: what leaves it by an exception has failed.

    Parameters
    ----------
    folder
        The run's folder, made if there is none. See :mod:`nni_darts_ext.run`.
    search
        A mutator, or the ``search`` of a strategy.
    num_epochs
        How many epochs the search shall have; None if that is not known.
    settings
        Of the search, for the record.
    resume
        Whether to go on with the run that the folder holds. Default False: such a folder is refused.
    skip_connections
        The names of the candidates that count as skip connections. Default:
        :data:`nni_darts_ext.core.collapse.SKIP_CONNECTIONS`.

    Raises
    ------
    RunError
        The folder holds a run already (or, with ``resume``, that of another space), or another process is writing it.
    """

    def __init__(self, folder: PathLike, search: Search, num_epochs: Optional[int] = None,
                 settings: Optional[Mapping[str, Any]] = None, resume: bool = False,
                 skip_connections: Iterable[str] = SKIP_CONNECTIONS) -> None:
        self.folder = Path(folder)
        self._search = search
        self._space = space_of(search)
        self._writer = Writer(folder, self._space, settings, num_epochs, versions(), resume)
        self._watch = CollapseWatch(search, skip_connections)
        self._watch.read()  # from where the logits move in the first epoch
        self._since = time.monotonic()

    def epoch(self, epoch: int, train: Mapping[str, float], valid: Optional[Mapping[str, float]] = None,
              **indicators: Optional[float]) -> Epoch:
        """Record an epoch that has ended.

        Parameters
        ----------
        epoch
            Counted from 0.
        train, valid
            Means of the loss and the metrics; ``valid`` of the supernet's validation, if there was one.
        indicators
            Of collapse, beside those that :class:`nni_darts_ext.core.collapse.CollapseWatch` reads; None for what is not known.
        """
        now_known = space_of(self._search)
        if now_known != self._space:
            self._space = now_known
            self._writer.know(now_known)
        seconds, self._since = time.monotonic() - self._since, time.monotonic()
        read = {**self._watch.read()._asdict(), **indicators}
        choices = self._search.choices
        recorded = Epoch(
            epoch, seconds, now(), _numbers(train), _numbers(valid or {}),
            {key: choices.probabilities(key).detach().tolist() for key in now_known.edges},
            _numbers({name: value for name, value in read.items() if value is not None}),
            {key: [i for i, kept in enumerate(decision.tolist()) if kept]
             for key, decision in self._search.sample_final().items()})
        self._writer.epoch(recorded, self._search.architecture())
        return recorded

    def end(self, error: Optional[BaseException] = None) -> None:
        """Say that the search is done, or what ended it."""
        self._writer.end(error)

    def __enter__(self) -> Recorder:
        return self

    def __exit__(self, kind: Optional[Type[BaseException]], error: Optional[BaseException],
                 traceback: Optional[TracebackType]) -> None:
        self.end(error)


def space_of(search: Search) -> Space:
    """The space of a search in the words of a run, with the sources that are known by now."""
    space = search.space
    return Space({edge.key: tuple(edge.names) for edge in space.edges.values()},
                 {node.key: Input(tuple(space.sources[node.key]), node.n_chosen) for node in space.inputs.values()})


def versions() -> Dict[str, str]:
    """Of this package, of Python, and of what the process has imported of :data:`PACKAGES`."""
    imported = {name: getattr(sys.modules.get(name), '__version__', None) for name in PACKAGES}
    return {'nni_darts_ext': __version__, 'python': sys.version.split()[0],
            **{name: str(version) for name, version in imported.items() if version}}


def _numbers(values: Mapping[str, Any]) -> Dict[str, float]:
    return {name: float(value) for name, value in values.items()}
