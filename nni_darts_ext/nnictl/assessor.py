"""Stops searches that have collapsed, as an assessor of NNI."""

from __future__ import annotations

import logging
import math
from typing import Any, List, Mapping, Set

from nni.assessor import Assessor, AssessResult
from nni.utils import ClassArgsValidator

from .class_args import check_class_args, number, whole
from .task import Task

_logger = logging.getLogger(__name__)

STOPPED: Set[str] = set()
"""The stopped tasks. The tuner, which runs in the same process, reads them, because NNI tells it only that a trial ended."""


class DartsAssessor(Assessor):
    """Stops a search when skip connections dominate or its logits do not move.

    It reads the indicators that :mod:`nni_darts_ext.protocol` adds to the intermediate results of a search. Trials that do not
    report them are never stopped.

    Parameters
    ----------
    max_skip_share
        A search is stopped when skip connections take more than this share of the derived edges. Default 0.25: DARTS+ (Liang
        et al. 2019, section 3) stops at two of the eight edges of a cell.
    min_movement
        A search is stopped when no logit moves by more than this in an epoch. Default 1e-6: with Adam a single step moves a
        logit by about the learning rate, 3e-4 in the paper.
    patience
        The number of consecutive epochs for which this must hold. Default 3; DARTS+ uses 1, and 10 for its criterion of a stable
        ranking.
    start_step
        The number of epochs at the beginning that are ignored. Default 0.

    Raises
    ------
    ClassArgsError
        An argument is out of range.
    """

    def __init__(self, max_skip_share: float = 0.25, min_movement: float = 1e-6, patience: int = 3, start_step: int = 0) -> None:
        super().__init__()
        self.max_skip_share = number('max_skip_share', max_skip_share, 0, 1)
        self.min_movement = number('min_movement', min_movement, 0)
        self.patience = whole('patience', patience, 1)
        self.start_step = whole('start_step', start_step, 0)

    def assess_trial(self, trial_job_id: str, trial_history: List[Any]) -> AssessResult:
        """``Bad`` if one of the criteria holds for the last ``patience`` epochs, else ``Good``."""
        epochs = [result for result in trial_history[self.start_step:] if isinstance(result, Mapping) and 'skip_share' in result]
        last = epochs[-self.patience:]
        if len(last) < self.patience:
            return AssessResult.Good
        if all(epoch['skip_share'] > self.max_skip_share for epoch in last):
            why = f'skip connections take {last[-1]["skip_share"]:.0%} of the derived edges, more than {self.max_skip_share:.0%}'
        elif all(epoch.get('movement', math.inf) <= self.min_movement for epoch in last):
            why = f'no logit moves by more than {self.min_movement} in an epoch'
        else:
            return AssessResult.Good
        STOPPED.add(Task.of(last[-1].get('task')).key())
        _logger.warning('Trial %s is stopped: for %d epochs %s.', trial_job_id, self.patience, why)
        return AssessResult.Bad


class DartsAssessorValidator(ClassArgsValidator):
    """Lets ``nnictl`` check the arguments of :class:`DartsAssessor`."""

    def validate_class_args(self, **kwargs: Any) -> None:
        check_class_args(DartsAssessor, kwargs)
