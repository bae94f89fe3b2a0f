"""A bar in the terminal: epoch, step, losses and the time that is left."""

from __future__ import annotations

import sys
import time
from typing import Any, Iterable, Iterator, Optional, TypeVar

T = TypeVar('T')

EVERY = 1.0
"""Seconds between two readings of the losses, for which the host waits."""


def bar(batches: Iterable[T], total: Optional[int], title: str, means: Any, shown: Optional[bool] = None) -> Iterator[T]:
    """The batches as they are, with a bar in the terminal as they go.

    Parameters
    ----------
    total
        How many they are; None where nobody knows.
    title
        Stands before the bar.
    means
        Its ``str`` stands behind the bar.
    shown
        Default None: where standard error is a terminal and ``tqdm``, which NNI brings, is there.
    """
    tqdm = _tqdm() if shown or (shown is None and sys.stderr.isatty()) else None
    if tqdm is None:
        yield from batches
        return
    with tqdm(total=total, desc=title, unit='step', leave=False, dynamic_ncols=True) as drawn:
        read = time.monotonic()
        for batch in batches:
            yield batch
            drawn.update()
            if time.monotonic() - read > EVERY:
                drawn.set_postfix_str(str(means))
                read = time.monotonic()


def _tqdm() -> Any:
    try:
        from tqdm import tqdm
    except ImportError:
        return None
    return tqdm
