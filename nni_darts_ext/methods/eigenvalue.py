"""The dominant eigenvalue of the validation loss' Hessian in the logits, after each epoch.

A. Zela et al., "Understanding and Robustifying Differentiable Architecture Search", ICLR 2020, arXiv 1909.09656, section 4.
"""

from __future__ import annotations

from typing import Any, Dict, Optional

from ..core.bilevel.curvature import dominant_eigenvalue
from .base import At, EndOfEpoch, Method


class Eigenvalue(Method):
    """Computes the eigenvalue on the first validation batch of each epoch and records it as an indicator of collapse.

    See :func:`nni_darts_ext.core.bilevel.curvature.dominant_eigenvalue`. The search itself does not change.
    """

    needs_edges = False
    needs_second_derivatives = True

    def after_epoch(self, at: At, end: EndOfEpoch) -> Optional[str]:
        eigenvalue_of(at, end)
        return None

    def settings(self) -> Optional[Dict[str, Any]]:
        return None


def eigenvalue_of(at: At, end: EndOfEpoch) -> float:
    """The eigenvalue of an epoch, computed only once if several methods use it."""
    if 'eigenvalue' not in end.indicators:
        end.indicators['eigenvalue'] = dominant_eigenvalue(end.validation_loss, end.logits, end.network, end.average)
    return end.indicators['eigenvalue']
