"""What follows a search epoch by epoch, in whichever loop it runs."""

from __future__ import annotations

import logging
from contextlib import contextmanager
from typing import Any, Dict, Iterable, Iterator, Mapping, Optional

from ..core.search import Search
from . import processes

_logger = logging.getLogger(__name__)


class Follower:
    """Each method does nothing by default."""

    def begin(self, search: Search, epochs: Optional[int]) -> None:
        """The search begins, or goes on, for so many epochs in all (None if nobody knows)."""

    def before_epoch(self, epoch: int) -> None:
        """Epochs count from 0."""

    def after_epoch(self, epoch: int, metrics: Mapping[str, Any]) -> Optional[str]:
        """Called before the callbacks of the user. Returns why the search shall end here, None for it to go on.

        Parameters
        ----------
        epoch
            The one that has ended.
        metrics
            ``{'train': {...}, 'valid': {...}, 'collapse': {...}}``: the means of loss and metrics, and the indicators that are no
            matter of the logits alone. Any of them may be missing.
        """
        return None

    def record(self, epoch: int, metrics: Mapping[str, Any]) -> None:
        """Called after them, when nothing moves any more, before a checkpoint is written."""

    def end(self, error: Optional[BaseException] = None) -> None:
        """The search has ended, by itself or by an error."""

    def state(self) -> Dict[str, Any]:
        """What a checkpoint must hold: plain values and tensors."""
        return {}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Go on from what :meth:`state` gave; called after :meth:`begin`."""


@contextmanager
def followed(followers: Iterable[Follower]) -> Iterator[None]:
    """Tell all followers how what runs in it has ended."""
    try:
        yield
    except BaseException as error:
        for follower in followers:
            follower.end(error)
        raise
    for follower in followers:
        follower.end()


def after_epoch(followers: Iterable[Follower], epoch: int, metrics: Mapping[str, Any]) -> Optional[str]:
    """Tell all followers, and return the first reason to end the search that one of them has."""
    reasons = [follower.after_epoch(epoch, metrics) for follower in followers]
    stopped = next((reason for reason in reasons if reason is not None), None)
    if stopped is not None and processes.is_first():
        _logger.warning('The search ends after epoch %d: %s.', epoch, stopped)
    return stopped


def states(followers: Iterable[Follower]) -> Dict[str, Any]:
    """For a checkpoint, by type."""
    return {type(follower).__name__: follower.state() for follower in followers}


def load_states(followers: Iterable[Follower], states: Mapping[str, Any]) -> None:
    """Let followers go on from what :func:`states` gave; one that was not there begins now."""
    for follower in followers:
        if type(follower).__name__ in states:
            follower.load_state(states[type(follower).__name__])
