"""The callbacks of Lightning that a strategy needs."""

from __future__ import annotations

from typing import Any, List, Optional

from pytorch_lightning import Callback
from pytorch_lightning.callbacks import TQDMProgressBar


class AtEndOfEpoch(Callback):
    """Calls a method of the module, given by name, at the end of each epoch, before the callbacks of the user if it
    ``comes_first``, for which :mod:`nni_darts_ext.hosts.oneshot.bilevel_module` sorts them.

    The module's own hook would be too late: Lightning calls callbacks first, then writes checkpoints, then calls the module.
    """

    def __init__(self, method: str, comes_first: bool = False) -> None:
        self.method, self.comes_first = method, comes_first

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        getattr(pl_module, self.method)()


class Hidden(Callback):
    """Hides the progress bar of Lightning's trainer."""

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        for bar in _bars(trainer):
            bar.disable()


def of_module(trainer: Any, progress: Optional[bool]) -> List[Callback]:
    """The callbacks that a module needs. ``progress`` is whether to show a bar; None leaves it to Lightning's trainer."""
    bar: List[Callback] = [Hidden()] if progress is False else [TQDMProgressBar()] if progress and not _bars(trainer) else []
    return [*bar, AtEndOfEpoch('end_epoch', comes_first=True), AtEndOfEpoch('record_epoch')]


def _bars(trainer: Any) -> List[Any]:
    return [callback for callback in trainer.callbacks if isinstance(callback, TQDMProgressBar.__mro__[1])]
