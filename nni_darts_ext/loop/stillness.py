"""Tells of logits that do not move."""

from __future__ import annotations

import logging
from typing import Any, Dict, List, Mapping, Optional

import torch
from torch import Tensor

from ..core.logits import Logits
from ..core.search import Search
from .following import Follower

_logger = logging.getLogger(__name__)


class Stillness(Follower):
    """Warns after an epoch in which logits have not moved at all, and again when it is others."""

    def __init__(self) -> None:
        self._choices = Logits()
        self._before: Dict[str, Tensor] = {}
        self._warned: List[str] = []

    def begin(self, search: Search, epochs: Optional[int]) -> None:
        if isinstance(search, Search):  # not a mutator of somebody else's
            self._choices = search.choices

    def before_epoch(self, epoch: int) -> None:
        self._before = {key: logits.detach().clone() for key, logits in self._choices.items()}

    def after_epoch(self, epoch: int, metrics: Mapping[str, Any]) -> Optional[str]:
        choices = self._choices
        still = [key for key, logits in choices.items()
                 if logits.requires_grad  # else the host is warming up
                 and len(logits) - len(choices.cuts(key)) > 1 and torch.equal(logits, self._before[key])]
        if still and still != self._warned:
            _logger.warning('In epoch %d the logits of %s have not moved. Is the architecture learning rate 0, does the '
                            'optimiser of the logits hold them, and does the output of the model depend on the edges?', epoch,
                            'all edges' if len(still) == len(choices) else ', '.join(map(repr, still)))
        self._warned = still
        return None
