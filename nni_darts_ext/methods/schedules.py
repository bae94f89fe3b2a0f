"""Values that change from epoch to epoch."""

from __future__ import annotations

from typing import Tuple

from ..errors import MethodError
from .base import At, Method


def epoch_of(method: Method, at: At) -> Tuple[int, int]:
    """The epoch, from 0, and the number of epochs; 0 of 1 before the search begins.

    Raises
    ------
    MethodError
        The number of epochs is unknown.
    """
    if at.epoch is None:
        return 0, 1
    if at.epochs is None:
        raise MethodError(f'{method!r} needs the number of epochs, which is unknown here. Set max_epochs.')
    return at.epoch, at.epochs
