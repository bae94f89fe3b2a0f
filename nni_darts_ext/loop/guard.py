"""End a search when a loss is NaN or infinite, before anything learns from it."""

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
"""The number of steps between two readings on devices where the host has to wait for a reading."""


class _Seen(NamedTuple):
    what: str
    epoch: int
    step: int
    value: Tensor


class Guard:
    """Checks the losses and gradients of a search.

    **On the CPU** each value is checked before the optimiser steps, so that nothing learns from a value that is not finite.
    Weights, logits and optimisers keep their state of before this step. (Running statistics were updated in its forward pass.)

    **On other devices** the host would have to wait for each value. There the values of 50 steps, or of the rest of an epoch, are
    read together. If one is not finite, the state of the previous reading is restored: weights, running statistics, logits with
    their cuts, the state of the loss, the optimisers and their schedulers. A copy of this state is kept on the device.

    **In several processes** each one checks its own losses and the averaged gradients. A process with such a loss raises only
    after the averaging, which makes the gradients of all processes NaN, so that all of them end.

    Parameters
    ----------
    device
        The device of the search.
    parts
        Returns all modules and optimisers that the steps change.
    choices
        The logits. If they are not finite themselves, this is reported instead.
    """

    def __init__(self, device: torch.device, parts: Callable[[], Sequence[Any]], choices: logits.Logits) -> None:
        self._at_once = device.type in logits.AT_ONCE
        self._parts, self._choices = parts, choices
        self._epoch, self._step = 0, 0
        self._unread: List[_Seen] = []
        self._missed = False
        self._kept: List[Dict[str, Any]] = []

    def begin_step(self, epoch: int, step: int) -> None:
        """Begin a step; epochs and steps count from 0."""
        self._epoch, self._step = epoch, step
        if not self._at_once and (step % EVERY == 0 or not self._kept):
            self.read()
            self._kept = [copy.deepcopy(state_of(part)) for part in self._parts()]

    def see(self, what: str, value: Tensor, shared: bool = False) -> Tensor:
        """Check a value, on the CPU at once. Returns the value.

        Parameters
        ----------
        what
            The name of the value, for the message.
        shared
            Whether the value is the same in every process. Default False.

        Raises
        ------
        TrainingError
            On the CPU: the value is not finite.
        LogitsError
            On the CPU: the logits are not finite either.
        """
        self._unread.append(_Seen(what, self._epoch, self._step, value.detach()))
        if self._at_once and (shared or processes.size() == 1):
            self.read()
        return value

    def miss(self, what: str) -> None:
        """Warn, once in a search, of a loss without gradient although there are parameters to train."""
        if not self._missed:
            self._missed = True
            _logger.warning('The %s in step %d of epoch %d (both count from 0) does not depend on any trained parameter, so '
                            'such a step changes nothing. Is it computed without gradients?', what, self._step, self._epoch)

    def read(self) -> None:
        """Check all values since the last reading. Must be called at the end of an epoch. Raises :class:`TrainingError` or
        :class:`LogitsError` if a value is not finite; the message names the first one, its step and its epoch."""
        unread, self._unread = self._unread, []
        if not unread or (self._at_once and all(_is_finite(seen.value) for seen in unread)):
            return
        device = unread[0].value.device
        finite = torch.stack([torch.isfinite(seen.value).all().to(device) for seen in unread]).tolist()
        if not all(finite):
            self._fail(unread[finite.index(False)])

    def _fail(self, bad: _Seen) -> None:
        state_now = 'Nothing has learned from it'
        if self._kept:
            state_now = f'Weights, logits and optimisers are restored to their state of at most {EVERY} steps before'
            for part, state in zip(self._parts(), self._kept):
                part.load_state_dict(state)
        for key in self._choices:
            self._choices.read(key)
        raise TrainingError(
            f'The {bad.what} in step {bad.step} of epoch {bad.epoch} (both count from 0) is {bad.value.sum().item()}. '
            f'{state_now}. Check the data for such values, lower the learning rates, or clip the gradients.')


def _is_finite(value: Tensor) -> bool:
    return torch.equal(value - value, torch.zeros_like(value))  # NaN and infinities give NaN, which is not equal to 0
