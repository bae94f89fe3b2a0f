"""A progress bar in the terminal: epoch, step, losses and remaining time."""

from __future__ import annotations

import sys
import time
from typing import Any, Iterable, Iterator, Optional, TypeVar

from ..run.text import duration

T = TypeVar('T')

EVERY = 1.0
"""Seconds between two readings of the losses, for which the host has to wait."""


def bar(batches: Iterable[T], total: Optional[int], title: str, means: Any, shown: Optional[bool] = None, epochs: int = 1
        ) -> Iterator[T]:
    """Yield the batches and draw a progress bar, if ``tqdm``, which NNI requires, is installed.

    ``total`` is the number of batches, None if unknown. ``title`` is the text before the bar, ``str(means)`` the text after it.
    ``shown`` says whether to draw it; default None: if standard error is a terminal. If this and other ``epochs`` are left, the
    text also has an estimate of the time that they will take, without validations.
    """
    tqdm = _tqdm() if shown or (shown is None and sys.stderr.isatty()) else None
    if tqdm is None:
        yield from batches
        return
    with tqdm(total=total, desc=title, unit='step', leave=False, dynamic_ncols=True) as drawn:
        began = last_reading = time.monotonic()
        for step, batch in enumerate(batches, 1):
            yield batch
            drawn.update()
            now = time.monotonic()
            if now - last_reading > EVERY:
                left = None if total is None or epochs < 2 else (now - began) / step * (total * epochs - step)
                drawn.set_postfix_str(str(means) if left is None else f'{means}, search: about {duration(left)} left')
                last_reading = now


def _tqdm() -> Any:
    try:
        from tqdm import tqdm
    except ImportError:
        return None
    return tqdm
