"""Stops searches that have collapsed, as an assessor of NNI."""

from __future__ import annotations

import logging
from typing import Any, List, Mapping, Set

from nni.assessor import Assessor, AssessResult
from nni.utils import ClassArgsValidator

from ..core.criteria import Criteria
from .class_args import check_class_args, number, whole
from .task import Task

_logger = logging.getLogger(__name__)

_RULE = Criteria()
STOPPED: Set[str] = set()
"""The stopped tasks. The tuner, which runs in the same process, reads them, because NNI tells it only that a trial ended."""


class DartsAssessor(Assessor):
    """Stops a search that has collapsed: skip connections dominate, or the probabilities do not move.

    It applies the rule of ``nni-darts-ext show`` (:class:`nni_darts_ext.core.criteria.Criteria`, which has the reasons of the
    defaults) to the indicators that :mod:`nni_darts_ext.protocol` adds to the intermediate results of a search. Trials that do
    not report them are never stopped.

    Parameters
    ----------
    max_skip_share
        A search is stopped when skip connections take more than this share of the derived edges of a cell. Default 0.5.
    min_movement
        A search is stopped when no probability changes by more than this in an epoch although edges are undecided. Default 1e-6.
    patience
        The number of consecutive epochs for which this must hold. Default 3.
    start_step
        The number of epochs at the beginning that are ignored. Default 0.

    Raises
    ------
    ClassArgsError
        An argument is out of range.
    """

    def __init__(self, max_skip_share: float = _RULE.max_skip_share, min_movement: float = _RULE.min_movement,
                 patience: int = _RULE.patience, start_step: int = 0) -> None:
        super().__init__()
        self.criteria = Criteria(number('max_skip_share', max_skip_share, 0, 1), number('min_movement', min_movement, 0),
                                 whole('patience', patience, 1))
        self.start_step = whole('start_step', start_step, 0)

    def assess_trial(self, trial_job_id: str, trial_history: List[Any]) -> AssessResult:
        """``Bad`` if one of the criteria holds for the last ``patience`` epochs, else ``Good``."""
        epochs = [result for result in trial_history[self.start_step:] if isinstance(result, Mapping) and 'skip_share' in result]
        rule = self.criteria
        if rule.dominated(epochs) >= rule.patience:
            why = (f'skip connections take {epochs[-1]["skip_share"]:.0%} of the derived edges of a cell, more than '
                   f'{rule.max_skip_share:.0%}')
        elif rule.unmoved(epochs) >= rule.patience:
            why = f'no probability changes by more than {rule.min_movement} in an epoch'
        else:
            return AssessResult.Good
        STOPPED.add(Task.of(epochs[-1].get('task')).key())
        _logger.warning('Trial %s is stopped: for %d epochs %s.', trial_job_id, rule.patience, why)
        return AssessResult.Bad


class DartsAssessorValidator(ClassArgsValidator):
    """Lets ``nnictl`` check the arguments of :class:`DartsAssessor`."""

    def validate_class_args(self, **kwargs: Any) -> None:
        check_class_args(DartsAssessor, kwargs)
