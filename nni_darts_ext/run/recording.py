"""Records a search in the folder of its run, in the trainer and in the strategies."""

from __future__ import annotations

import importlib.util
from typing import Any, Mapping, Optional

from ..methods.base import At, EndOfEpoch, Method
from . import Epoch, PathLike, Run
from .recorder import Recorder

TENSORBOARD = 'tensorboard'
"""The subfolder for TensorBoard, written if TensorBoard is installed."""


class Recording(Method):
    """Records each epoch. Every search with a ``run_dir`` has this method.

    Parameters
    ----------
    folder
        The folder of the run. If it contains a run, a search that resumes continues it; a new search raises an error.
    settings
        The settings of the search to record.
    """

    def __init__(self, folder: PathLike, settings: Optional[Mapping[str, Any]] = None) -> None:
        self._folder, self._settings = folder, settings
        self._recorder: Optional[Recorder] = None
        self._board: Any = None

    def begin(self, at: At) -> None:
        self._recorder = self._board = None  # if the search has ended before, they are closed

    def before_epoch(self, at: At) -> None:
        if self._recorder is None:
            self._recorder = Recorder(self._folder, at.search, at.epochs, self._settings,
                                      resume=bool(at.epoch) or self._is_empty())
            self._board = _board(self._recorder.folder / TENSORBOARD)

    def _is_empty(self) -> bool:
        """Whether the folder contains a run without a finished epoch, which a new search may replace."""
        try:
            return not Run.read(self._folder).epochs
        except Exception:  # Recorder raises an error that says what is wrong
            return False

    def record(self, at: At, end: EndOfEpoch) -> None:
        assert self._recorder is not None and at.epoch is not None
        recorded = self._recorder.epoch(at.epoch, end.metrics.get('train', {}), end.metrics.get('valid'), **end.indicators)
        if self._board is not None:
            for name, value in _scalars(recorded).items():
                self._board.add_scalar(name, value, at.epoch)
            self._board.flush()

    def settings(self) -> None:
        return None

    def end(self, error: Optional[BaseException] = None) -> None:
        if self._recorder is not None:
            self._recorder.end(error)
        if self._board is not None:
            self._board.close()


def _scalars(epoch: Epoch) -> Mapping[str, float]:
    parts = {'train': epoch.train, 'valid': epoch.valid, 'collapse': epoch.indicators}
    return {f'{part}/{name}': value for part, values in parts.items() for name, value in values.items()}


def _board(folder: Any) -> Any:
    """TensorBoard's writer, None if TensorBoard is not installed or cannot be imported."""
    if importlib.util.find_spec('tensorboard') is None:
        return None
    try:
        from torch.utils.tensorboard import SummaryWriter
    except Exception:  # an old PyTorch raises various errors with a newer TensorBoard
        return None
    return SummaryWriter(str(folder))
