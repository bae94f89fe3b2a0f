"""A warning about logits that do not change."""

from __future__ import annotations

import logging
from typing import Any, Dict, List, Optional

import torch
from torch import Tensor

from .base import At, EndOfEpoch, Method

_logger = logging.getLogger(__name__)


class UnmovedLogits(Method):
    """Warns after an epoch in which logits have not changed at all, and again if other logits have not. Every search has it."""

    def __init__(self) -> None:
        self._before: Dict[str, Tensor] = {}
        self._warned: List[str] = []

    def before_epoch(self, at: At) -> None:
        self._before = {key: logits.detach().clone() for key, logits in at.search.choices.items()}

    def after_epoch(self, at: At, end: EndOfEpoch) -> Optional[str]:
        choices = at.search.choices
        unmoved = [key for key, logits in choices.items() if end.architecture_steps and logits.requires_grad
                   and len(logits) - len(choices.cuts(key)) > 1 and torch.equal(logits, self._before[key])]
        if unmoved and unmoved != self._warned:
            _logger.warning('In epoch %d the logits of %s have not changed. Check that the architecture learning rate is not 0, '
                            'that their optimiser holds them, and that the output of the model depends on the edges.', at.epoch,
                            'all edges' if len(unmoved) == len(choices) else ', '.join(map(repr, unmoved)))
        self._warned = unmoved
        return None

    def settings(self) -> Optional[Dict[str, Any]]:
        return None
