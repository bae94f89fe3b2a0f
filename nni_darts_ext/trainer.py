"""DARTS' trainer on whatever NNI is installed."""

from __future__ import annotations

from typing import Any

from torch import nn

from . import hosts
from .loop.search_trainer import SearchTrainer


class DartsTrainer(SearchTrainer, *hosts.every('Trainer')):  # type: ignore[misc]
    """NNI's classic ``DartsTrainer`` and Retiarii's in one, on every NNI, without their faults.

    It is a trainer of NNI's where NNI has one: classic callbacks take it, and ``RetiariiExperiment(model, trainer).run()`` and
    ``export_top_models()``.
    """

    def make_mutator(self, model: nn.Module) -> Any:
        return hosts.of_model(model).DartsMutator(model)


if DartsTrainer.__doc__ and SearchTrainer.__doc__:  # python -OO leaves none
    DartsTrainer.__doc__ = f'{DartsTrainer.__doc__}\n{SearchTrainer.__doc__.split("together.", 1)[1]}'
