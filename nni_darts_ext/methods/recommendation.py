"""The methods that are recommended against the collapse of DARTS into skip connections."""

from __future__ import annotations

from typing import List

from .base import Method

RECOMMENDED = 'recommended'
"""What a search takes as ``methods`` in place of a list: those of :func:`recommended`."""


def recommended() -> List[Method]:
    """New objects of the recommended methods, with their defaults, for one search.

    To add others, pass ``methods=[*recommended(), EarlyStopping()]``.
    """
    from .beta_decay import BetaDecay
    return [BetaDecay()]
