"""Ends a search before its architectures stop generalising.

A. Zela et al., "Understanding and Robustifying Differentiable Architecture Search", ICLR 2020, arXiv 1909.09656, section 4.3.
"""

from __future__ import annotations

from typing import Any, Dict, List, Mapping, Optional

import torch
from torch import Tensor

from ..core.search import Search
from .following import Follower

WINDOW = 5
"""Over how many epochs eigenvalues are averaged, and how many lie between the averages that are compared. Source: the paper."""

RATIO = 0.75
"""The search ends when the average has grown by more than a factor of 1 / 0.75. Source: the paper."""


class EarlyStopping(Follower):
    """Ends the search when the dominant eigenvalue grows too fast, and puts the logits back to where they were before it did.

    With the average of an epoch being that of the eigenvalue after it and after the 4 epochs before it, the search ends when the
    average of the epoch 5 epochs ago is less than 0.75 of that of the epoch now. Logits and cuts are then those after the epoch
    5 epochs ago. That takes 10 epochs at least. Eigenvalues count by their absolute values.
    """

    def __init__(self) -> None:
        self._values: List[float] = []
        self._logits: List[Dict[str, Tensor]] = []

    def begin(self, search: Search, epochs: Optional[int]) -> None:
        self._search = search

    def after_epoch(self, epoch: int, metrics: Mapping[str, Any]) -> Optional[str]:
        self._values = [*self._values, abs(metrics['collapse']['eigenvalue'])][-2 * WINDOW:]
        self._logits = [*self._logits, {name: values.clone() for name, values in self._search.choices.state_dict().items()}]
        self._logits = self._logits[-WINDOW - 1:]
        if len(self._values) < 2 * WINDOW:
            return None
        before, now = (sum(values) / WINDOW for values in (self._values[:WINDOW], self._values[WINDOW:]))
        if not before < RATIO * now:
            return None
        with torch.no_grad():
            self._search.choices.load_state_dict(self._logits[0])
        return (f'the dominant eigenvalue of the validation loss has grown from {before:.3g} to {now:.3g} within {WINDOW} epochs '
                f'(averages of {WINDOW}); the logits are those after epoch {epoch - WINDOW}')

    def state(self) -> Dict[str, Any]:
        return {'values': self._values, 'logits': self._logits}

    def load_state(self, state: Mapping[str, Any]) -> None:
        self._values, self._logits = list(state['values']), list(state['logits'])
