"""Those that follow a search: always, and because the arguments of a trainer or strategy ask for it."""

from __future__ import annotations

from typing import Any, List, Mapping, Optional

from ..core import files
from . import processes
from .early_stopping import EarlyStopping
from .following import Follower
from .shrinking import Shrinking
from .stillness import Stillness


def of_search(shrink: Optional[Mapping[int, int]], early_stopping: bool, run_dir: Optional[files.Path],
              settings: Mapping[str, Any]) -> List[Follower]:
    """New ones for each search. Raises what they raise for arguments that they cannot use.

    Parameters
    ----------
    settings
        Of the search, for the record in ``run_dir``, which one process writes.
    """
    followers: List[Follower] = [Stillness()]
    if shrink is not None:
        followers.append(Shrinking(shrink))
    if early_stopping:
        followers.append(EarlyStopping())
    if run_dir is not None and processes.is_first():
        from ..run.following import Recording  # for it in turn is about searches
        followers.append(Recording(run_dir, settings))  # last, for it is about what the others leave
    return followers
