"""Those that follow a search because the arguments of a trainer or strategy ask for it."""

from __future__ import annotations

from typing import List, Mapping, Optional

from .following import Follower
from .shrinking import Shrinking


def asked_for(shrink: Optional[Mapping[int, int]]) -> List[Follower]:
    """New ones for each search. Raises what they raise for arguments that they cannot use."""
    return [] if shrink is None else [Shrinking(shrink)]
