"""Records a search epoch by epoch, whichever host runs it: in a loop of the user, or as a method of a search."""

from __future__ import annotations

import importlib.util
import logging
import sys
import time
from contextlib import suppress
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Any, Dict, Iterable, Mapping, Optional, Sequence, Type

from torch import nn

from .. import __version__
from ..core import costs
from ..core.collapse import SKIP_CONNECTIONS, CollapseWatch
from ..core.search import Search
from ..core.weights import numbers_of
from ..methods.base import At, EndOfEpoch, Method
from . import DONE, EPOCHS, CostRecord, Epoch, InputRecord, PathLike, Run, SpaceRecord, now
from .usage import Usage
from .writer import Writer

_logger = logging.getLogger(__name__)

PACKAGES = ('nni', 'torch', 'pytorch_lightning', 'lightning')
"""The packages whose versions a run records, if the process has imported them."""
TENSORBOARD = 'tensorboard'
"""The subfolder for TensorBoard, written if TensorBoard is installed."""


class Recorder:
    """Records a search in a run's folder. As a context manager, it marks the run as failed if the block raises an exception.

    Parameters
    ----------
    folder
        The run's folder, created if missing. See :mod:`nni_darts_ext.run`.
    search
        A mutator, or the ``search`` of a strategy.
    num_epochs
        The number of epochs of the search; None (default) if it is not known.
    settings
        The settings of the search, recorded as they are. Default: none.
    resume
        Whether to resume the run in the folder, if there is one. Default False: a folder with a run is refused.
    skip_connections
        The names of the candidates that count as skip connections. Others than the default are recorded in the settings. Default:
        :data:`nni_darts_ext.core.criteria.SKIP_CONNECTIONS`.

    Raises
    ------
    RunError
        The folder already holds a run (or, with ``resume``, a run of another space), another process is writing it, or it cannot
        be written.
    """

    def __init__(self, folder: PathLike, search: Search, num_epochs: Optional[int] = None,
                 settings: Optional[Mapping[str, Any]] = None, resume: bool = False,
                 skip_connections: Iterable[str] = SKIP_CONNECTIONS) -> None:
        self.folder = Path(folder)
        self._search = search
        self._space = space_of(search)
        skip_connections = set(skip_connections)
        if skip_connections != SKIP_CONNECTIONS:
            settings = {**(settings or {}), 'skip_connections': sorted(skip_connections)}
        self._writer = Writer(folder, self._space, settings, num_epochs, versions(), resume)
        self._watch, self._usage = CollapseWatch(search, skip_connections), Usage()
        try:
            self._watch.read()  # movement in the first epoch is measured from here
        except BaseException as error:
            self._writer.end(error)
            raise
        self._since = time.monotonic()

    def count(self, model: nn.Module, args: Sequence[Any], kwargs: Mapping[str, Any] = MappingProxyType({})) -> None:
        """Record what the candidates cost, unless the run knows it already. Trainer and strategies do so in the first pass.

        Parameters
        ----------
        model
            The supernet.
        args, kwargs
            What it is called with, once more, to count multiply-adds without side effects. They are left out where it cannot run
            so, and where several processes search, as its passes may wait for all of them.
        """
        if self._writer.costs:
            return
        found = {'parameters': costs.parameters(self._search, model)}
        if not costs.has_others():
            try:
                found['multiply_adds'] = costs.multiply_adds(self._search, model, args, kwargs)
            except Exception as error:  # a user's model may raise anything, which must not end the search
                _logger.info('Multiply-adds are not recorded: %s: %s', type(error).__name__, error)
        self._writer.update_space(self._space, {name: CostRecord(*of_all) for name, of_all in found.items()})

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
            Indicators of collapse besides those of :class:`nni_darts_ext.core.collapse.CollapseWatch`; None if not known.
        """
        space = space_of(self._search)
        if space != self._space:
            self._space = space
            self._writer.update_space(space)
        seconds, self._since = time.monotonic() - self._since, time.monotonic()
        all_indicators = {**self._watch.read()._asdict(), **indicators}
        choices = self._search.choices
        recorded = Epoch(
            epoch, seconds, now(), _numbers(train), _numbers(valid or {}),
            {key: numbers_of(key, weights.detach()) for key, weights in choices.all_probabilities().items()},
            _numbers({name: value for name, value in all_indicators.items() if value is not None}),
            {key: [i for i, kept in enumerate(decision.tolist()) if kept]
             for key, decision in self._search.sample_final().items()}, self._usage.read())
        self._writer.epoch(recorded, self._search.architecture())
        return recorded

    def end(self, error: Optional[BaseException] = None) -> None:
        """Record that the search has finished, or the error that ended it."""
        self._writer.end(error)

    def __enter__(self) -> Recorder:
        return self

    def __exit__(self, kind: Optional[Type[BaseException]], error: Optional[BaseException],
                 traceback: Optional[TracebackType]) -> None:
        self.end(error)


class Recording(Method):
    """Records each epoch. Every search with a ``run_dir`` has this method. If the folder contains a run, a search that resumes
    continues it; a new search raises an error."""

    def __init__(self, folder: PathLike, settings: Optional[Mapping[str, Any]] = None) -> None:
        self._folder, self._settings = folder, settings
        self._recorder: Optional[Recorder] = None
        self._board: Any = None

    def begin(self, at: At) -> None:
        self._recorder = self._board = None  # if the search has ended before, they are closed

    def before_epoch(self, at: At) -> None:
        if self._recorder is None:
            self._recorder = Recorder(self._folder, at.search, at.epochs, self._settings,
                                      resume=bool(at.epoch) or self._is_barely_begun())
            self._board = _board(self._recorder.folder / TENSORBOARD)

    def after_pass(self, model: nn.Module, args: Sequence[Any], kwargs: Mapping[str, Any], at: At) -> None:
        if self._recorder is not None:
            self._recorder.count(model, args, kwargs)

    def _is_barely_begun(self) -> bool:
        """Whether the folder contains a run whose search failed before its first checkpoint, which a new search may replace."""
        try:
            run = Run.read(self._folder)
            return len(run.epochs) <= (run.state.status != DONE)
        except Exception:  # Recorder raises an error that says what is wrong
            return False

    def record(self, at: At, end: EndOfEpoch) -> None:
        assert self._recorder is not None and at.epoch is not None
        recorded = self._recorder.epoch(at.epoch, end.metrics.get('train', {}), end.metrics.get('valid'), **end.indicators)
        if self._board is None:
            return
        try:
            for part, values in (('train', recorded.train), ('valid', recorded.valid), ('collapse', recorded.indicators)):
                for name, value in values.items():
                    self._board.add_scalar(f'{part}/{name}', value, at.epoch)
            self._board.flush()
        except OSError as error:
            _logger.warning("TensorBoard's scalars are no longer written: %s. They are also in %s.", error, EPOCHS)
            self._board = None

    def settings(self) -> None:
        return None

    def __getstate__(self) -> Dict[str, Any]:  # a copy of the model records nothing
        return {**super().__getstate__(), '_recorder': None, '_board': None}

    def end(self, error: Optional[BaseException] = None) -> None:
        if self._recorder is not None:
            self._recorder.end(error)
        if self._board is not None:
            with suppress(OSError):  # it was flushed after the last epoch
                self._board.close()


def space_of(search: Search) -> SpaceRecord:
    """The record of a search's space, with the sources that are known so far."""
    space = search.space
    return SpaceRecord({edge.key: tuple(edge.names) for edge in space.edges.values()},
                 {node.key: InputRecord(tuple(space.sources[node.key]), node.n_chosen) for node in space.inputs.values()})


def versions() -> Dict[str, str]:
    """The versions of this package, of Python, and of those :data:`PACKAGES` that the process has imported."""
    imported = {name: getattr(sys.modules.get(name), '__version__', None) for name in PACKAGES}
    return {'nni_darts_ext': __version__, 'python': sys.version.split()[0],
            **{name: str(version) for name, version in imported.items() if version}}


def _numbers(values: Mapping[str, Any]) -> Dict[str, float]:
    return {name: float(value) for name, value in values.items()}


def _board(folder: Any) -> Any:
    """TensorBoard's writer, None if TensorBoard is not installed or cannot be imported."""
    if importlib.util.find_spec('tensorboard') is None:
        return None
    try:
        from torch.utils.tensorboard import SummaryWriter
    except Exception:  # an old PyTorch raises various errors with a newer TensorBoard
        return None
    return SummaryWriter(str(folder))
