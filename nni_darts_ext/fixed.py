"""Apply an architecture to a model of whatever NNI is installed."""

from __future__ import annotations

import logging
from typing import Mapping, Optional, Sequence

from torch import nn

from . import hosts
from .core import decisions, tracing

_logger = logging.getLogger(__name__)


def apply_fixed_architecture(model: nn.Module, architecture: decisions.Architecture, verbose: bool = True, *, strict: bool = True,
                             choose_from: Optional[Mapping[str, Sequence[str]]] = None) -> nn.Module:
    """Turn a search space into the network that an architecture describes, in place.

    Each LayerChoice gives way to the candidate that was chosen, with its weights; each InputChoice to the inputs that were.
    An edge whose output nothing reads leaves no parameters and computes nothing. It gives None, as NNI's does, or, where
    operations lie between it and an InputChoice, a tensor without numbers that these can take.

    What reads an edge is found by a symbolic trace of the model (:mod:`torch.fx`). In a model that cannot be traced, edges stay
    for which the architecture names a candidate, also where no InputChoice keeps them.

    Parameters
    ----------
    model
        The search space, fresh or searched.
    architecture
        What ``export()`` gave, a sample of NNI 3.0 or an export of NNI's own classes, or the name of a JSON file of it.
        From any family to any family.
    verbose
        Whether the log says what was applied. Default True (source: classic NNI, where it says how strict to be instead).
    strict
        Whether every choice must be decided and every key must be one of the model's. Default True.
    choose_from
        For InputChoices by key the sources of their candidates, where the model does not name them: without it, an
        architecture of NNI 3.0's form drops no edge there, and one that names sources cannot be read.

    Returns
    -------
    nn.Module
        The model; if the model itself is a LayerChoice or InputChoice, what was chosen.

    Raises
    ------
    ArchitectureError
        The file cannot be read, keys are missing or unexpected, a choice has no such candidate, or an InputChoice keeps what the
        architecture drops.
    SearchSpaceError
        The model is no search space.
    """
    space, choices = hosts.of_model(model).read_space(model, choose_from)
    architecture = decisions.read(architecture)
    flow = tracing.flow(model, choices)
    decided = decisions.decide(space, architecture, strict, flow.readers if flow else {})
    missed = [] if flow is None else decisions.missed(space, decided, flow.readers)
    if missed:
        _logger.warning('The architecture drops %s, which the model seems to read beside its InputChoices: what it computes from '
                        'them will have no numbers. The search cannot see reads without gradients, or in evaluation alone. Name '
                        'candidates for them if they are needed.', ', '.join(map(repr, missed)))
    as_none = flow.straight if flow else set()
    found = decisions.apply(model, choices, decided, as_none)
    if verbose:
        _logger.info('Applied the architecture %s.', dict(architecture))
    return found
