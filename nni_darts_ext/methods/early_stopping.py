"""Early stopping: the search ends before its architectures generalise worse.

A. Zela et al., "Understanding and Robustifying Differentiable Architecture Search", ICLR 2020, arXiv 1909.09656, section 4.3.
"""

from __future__ import annotations

from typing import Any, Dict, List, Mapping, Optional

from .base import At, EndOfEpoch, Method
from .eigenvalue import eigenvalue_of
from .snapshot import restore, snapshot

WINDOW = 5
"""The number of epochs in an average of eigenvalues, and between the two averages that are compared. Source: the paper."""

RATIO = 0.75
"""The search ends when the average has grown by more than a factor of 1 / 0.75. Source: the paper."""


class EarlyStopping(Method):
    """Ends the search when the dominant eigenvalue grows too fast, and restores the logits from before.

    The absolute eigenvalues are averaged over the last 5 epochs. The search ends when the average of 5 epochs ago is less than
    0.75 times the current one, at the earliest after 10 epochs. Logits, cuts and the parameters of other methods are then those
    of 5 epochs ago.
    Eigenvalues are recorded as by :class:`~nni_darts_ext.methods.eigenvalue.Eigenvalue`.
    """

    needs_second_derivatives = True

    def __init__(self) -> None:
        self._values: List[float] = []
        self._snapshots: List[Dict[str, Any]] = []

    def after_epoch(self, at: At, end: EndOfEpoch) -> Optional[str]:
        assert at.epoch is not None
        self._values = [*self._values, abs(eigenvalue_of(at, end))][-2 * WINDOW:]
        self._snapshots = [*self._snapshots, snapshot(at, end)][-WINDOW - 1:]
        if len(self._values) < 2 * WINDOW:
            return None
        before, now = (sum(values) / WINDOW for values in (self._values[:WINDOW], self._values[WINDOW:]))
        if not before < RATIO * now:
            return None
        restore(self._snapshots[0], at, end)
        return (f'the dominant eigenvalue of the validation loss has grown from {before:.3g} to {now:.3g} within {WINDOW} epochs '
                f'(averages of {WINDOW}); the logits are those after epoch {at.epoch - WINDOW}')

    def state_dict(self) -> Dict[str, Any]:
        return {'values': self._values, 'snapshots': self._snapshots}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._values = list(state['values'])
        self._snapshots = (list(state['snapshots']) if 'snapshots' in state else  # of early versions
                           [{'logits': logits, 'stepped': []} for logits in state['logits']])
