"""Restrict what a LightningModule logs to the batches on which the weights are trained."""

from __future__ import annotations

import copy
import sys
from contextlib import contextmanager
from typing import Any, Dict, Iterator, List, Tuple

from torch import nn


class Unlogged:
    """A context in which the user's LightningModule logs nothing: calls of ``log`` and ``log_dict`` are ignored, and its
    submodules of ``torchmetrics``, which accumulate values until the end of the epoch, are replaced by copies."""

    def __init__(self, module: Any) -> None:
        self._module = module
        self._copies: Dict[nn.Module, nn.Module] = {}
        self._places: List[Tuple[nn.Module, str]] = []

    def look(self) -> None:
        """Find the metrics. Called once in an epoch, as it would take too long in each step."""
        torchmetrics = sys.modules.get('torchmetrics')
        kinds = (torchmetrics.Metric, torchmetrics.MetricCollection) if torchmetrics else ()
        self._places = [(parent, name) for parent in self._module.modules() if not isinstance(parent, kinds)
                        for name, child in parent._modules.items() if isinstance(child, kinds)]

    @contextmanager
    def __call__(self) -> Iterator[Dict[str, Any]]:
        """Gives a dict of what would have been logged, by name."""
        attributes, kept_back = vars(self._module), {}
        log = attributes.get('log')

        def keep_back(name: str, value: Any, *args: Any, **kwargs: Any) -> None:
            kept_back[name] = value
        attributes['log'] = keep_back
        kept = [(parent._modules, name, parent._modules[name]) for parent, name in self._places]
        try:
            for modules, name, metric in kept:
                modules[name] = self._copy(metric)
            yield kept_back
        finally:
            for modules, name, metric in kept:
                modules[name] = metric
            if log is None:
                del attributes['log']
            else:
                attributes['log'] = log

    def _copy(self, metric: Any) -> Any:
        """An empty copy of a metric, reused because copying is slow if the metric holds all values of the epoch."""
        if metric not in self._copies:
            self._copies[metric] = copy.deepcopy(metric)
        found: Any = self._copies[metric]
        found.reset()
        return found
