"""Apply an architecture to a model of whatever NNI is installed."""

from __future__ import annotations

import logging
from typing import Mapping, Optional, Sequence

from torch import nn

from . import hosts
from .core import fixed

_logger = logging.getLogger(__name__)


def apply_fixed_architecture(model: nn.Module, architecture: fixed.Architecture, verbose: bool = True, *, strict: bool = True,
                             choose_from: Optional[Mapping[str, Sequence[str]]] = None) -> nn.Module:
    """Turn a search space into the network that an architecture describes, in place.

    Each LayerChoice gives way to the candidate that was chosen, with its weights; each InputChoice to the inputs that were.
    An edge that nothing selected leaves no parameters, computes nothing and gives None, as NNI's does.

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
        The model.

    Raises
    ------
    ArchitectureError
        The file cannot be read, keys are missing or unexpected, or a choice has no such candidate.
    SearchSpaceError
        The model is no search space.
    """
    space, choices = hosts.of_model(model).read_space(model, choose_from)
    architecture = fixed.read(architecture)
    fixed.apply(model, choices, fixed.decide(space, architecture, strict))
    if verbose:
        _logger.info('Applied the architecture %s.', dict(architecture))
    return model
