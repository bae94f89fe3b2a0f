"""A progress bar in the terminal: epoch, step, losses and remaining time."""

from __future__ import annotations

import sys
import time
from typing import Any, Iterable, Iterator, Optional, TypeVar

T = TypeVar('T')

EVERY = 1.0
"""Seconds between two readings of the losses, for which the host has to wait."""


def bar(batches: Iterable[T], total: Optional[int], title: str, means: Any, shown: Optional[bool] = None) -> Iterator[T]:
    """Yield the batches and draw a progress bar, if ``tqdm``, which NNI requires, is installed.

    ``total`` is the number of batches, None if unknown. ``title`` is the text before the bar, ``str(means)`` the text after it.
    ``shown`` says whether to draw it; default None: if standard error is a terminal.
    """
    tqdm = _tqdm() if shown or (shown is None and sys.stderr.isatty()) else None
    if tqdm is None:
        yield from batches
        return
    with tqdm(total=total, desc=title, unit='step', leave=False, dynamic_ncols=True) as drawn:
        last_reading = time.monotonic()
        for batch in batches:
            yield batch
            drawn.update()
            if time.monotonic() - last_reading > EVERY:
                drawn.set_postfix_str(str(means))
                last_reading = time.monotonic()


def _tqdm() -> Any:
    try:
        from tqdm import tqdm
    except ImportError:
        return None
    return tqdm
