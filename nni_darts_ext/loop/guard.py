"""A loss that is NaN or infinite ends a search before it can spoil what was found."""

from __future__ import annotations

import copy
import logging
from typing import Any, Callable, Dict, List, NamedTuple, Sequence

import torch
from torch import Tensor

from ..core import logits
from ..errors import TrainingError
from . import processes
from .stateful import state_of

_logger = logging.getLogger(__name__)

EVERY = 50
"""How many steps lie between two readings on devices on which reading means waiting."""


class _Seen(NamedTuple):
    what: str
    epoch: int
    step: int
    value: Tensor


class Guard:
    """Looks at what the steps of a search are about to learn from.

    **On the CPU** each value is looked at before the optimiser steps: nothing learns from one that is not finite. Weights, logits
    and optimisers are as the values before it left them. (Running statistics have moved in the pass that gave it.)

    **On other devices** the host would have to wait for each value. There those of 50 steps, or of what an epoch has left, are
    read together; if one is not finite, everything goes back to how it was at the reading before: weights, running statistics,
    logits with their cuts, a loss that has a state, the optimisers and their schedulers. For that a copy of these is kept on
    their device.

    **Of several processes** each looks at its own losses and at the gradients that all step by. One that meets such a loss waits
    for the gradient, which it spoils for all of them, so that they end together.

    Parameters
    ----------
    device
        Where the search runs.
    parts
        Gives what the steps move and has a state: modules and optimisers.
    choices
        The logits. If they are no numbers themselves, that is what is reported.
    """

    def __init__(self, device: torch.device, parts: Callable[[], Sequence[Any]], choices: logits.Logits) -> None:
        self._at_once = device.type in logits.AT_ONCE
        self._parts, self._choices = parts, choices
        self._epoch, self._step = 0, 0
        self._unread: List[_Seen] = []
        self._missed = False
        self._kept: List[Dict[str, Any]] = []

    def begin_step(self, epoch: int, step: int) -> None:
        """Both count from 0."""
        self._epoch, self._step = epoch, step
        if not self._at_once and (step % EVERY == 0 or not self._kept):
            self.read()
            self._kept = [copy.deepcopy(state_of(part)) for part in self._parts()]

    def see(self, what: str, value: Tensor, shared: bool = False) -> Tensor:
        """Returns the value.

        Parameters
        ----------
        what
            What it is, for the message.
        shared
            Whether it is the same in every process.

        Raises
        ------
        TrainingError
            On the CPU: it is not finite.
        LogitsError
            Likewise, and neither are the logits.
        """
        self._unread.append(_Seen(what, self._epoch, self._step, value.detach()))
        if self._at_once and (shared or processes.size() == 1):
            self.read()
        return value

    def miss(self, what: str) -> None:
        """Warns, once in a search, of a loss that has no gradient though there are parameters that learn."""
        if not self._missed:
            self._missed = True
            _logger.warning('The %s in step %d of epoch %d (both count from 0) reaches nothing that learns, so nothing moves in '
                            'such a step. Is the loss computed without gradients, or on what the parameters do not reach?', what,
                            self._step, self._epoch)

    def read(self) -> None:
        """Read all that was seen since the last reading. Due at the end of an epoch.

        Raises
        ------
        TrainingError, LogitsError
            One of the values is not finite: names the first one, its step and its epoch.
        """
        unread, self._unread = self._unread, []
        if not unread or (self._at_once and all(_is_finite(seen.value) for seen in unread)):
            return
        device = unread[0].value.device
        finite = torch.stack([torch.isfinite(seen.value).all().to(device) for seen in unread]).tolist()
        if not all(finite):
            self._fail(unread[finite.index(False)])

    def _fail(self, bad: _Seen) -> None:
        where = 'Nothing has learned from it'
        if self._kept:
            where = f'Weights, logits and optimisers are back where they were, at most {EVERY} steps before'
            for part, state in zip(self._parts(), self._kept):
                part.load_state_dict(state)
        for key in self._choices:
            self._choices.read(key)
        raise TrainingError(
            f'The {bad.what} in step {bad.step} of epoch {bad.epoch} (both count from 0) is {bad.value.sum().item()}. {where}. '
            'Look for such values in the data, and for learning rates that are too high; clip the gradients.')


def _is_finite(value: Tensor) -> bool:
    return torch.equal(value - value, torch.zeros_like(value))  # NaN and infinities give NaN, which equals nothing
