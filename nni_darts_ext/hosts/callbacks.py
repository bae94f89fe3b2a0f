"""Lightning's callbacks for the strategies."""

from __future__ import annotations

from typing import Any, List

from pytorch_lightning import Callback


class AtEndOfEpoch(Callback):
    """Calls a method of the module at the end of each epoch: among the callbacks, for Lightning calls these before the module and
    writes checkpoints between the two.

    Parameters
    ----------
    method
        Its name.
    comes_first
        Whether the callbacks of the user come after it: :class:`nni_darts_ext.loop.oneshot.BilevelSteps` sees to that.
    """

    def __init__(self, method: str, comes_first: bool = False) -> None:
        self.method, self.comes_first = method, comes_first

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        getattr(pl_module, self.method)()


def end_of_epoch() -> List[Callback]:
    """Those that a module of ours needs."""
    return [AtEndOfEpoch('end_epoch', comes_first=True), AtEndOfEpoch('record_epoch')]
