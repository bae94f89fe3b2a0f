"""Apply an architecture to a model, or draw a random one, with any installed NNI."""

from __future__ import annotations

import logging
import os
from typing import Any, Dict, Mapping, Optional, Sequence, Union

from torch import Tensor, nn

from . import hosts
from .core import decisions, export, tracing
from .core.random_architecture import draw
from .errors import ArchitectureError
from .loop import checkpoint

Weights = Union[nn.Module, Mapping[str, Tensor], str, 'os.PathLike[str]']

_logger = logging.getLogger(__name__)


def apply_fixed_architecture(model: nn.Module, architecture: decisions.Architecture, verbose: bool = True, *, strict: bool = True,
                             choose_from: Optional[Mapping[str, Sequence[str]]] = None,
                             weights: Optional[Weights] = None) -> nn.Module:
    """Turn a search space into the network that an architecture describes, in place.

    Each LayerChoice is replaced by its chosen candidate, with its weights; each InputChoice by its chosen inputs. An edge whose
    output nothing reads leaves no parameters and computes nothing. It returns None, as NNI's does, or, if operations lie between
    it and an InputChoice, a tensor without data that these operations accept.

    A symbolic trace of the model (:mod:`torch.fx`) finds what reads each edge. In a model that cannot be traced, every edge stays
    for which the architecture names a candidate, even if no InputChoice keeps it.

    Parameters
    ----------
    model
        The search space, before or after a search.
    architecture
        The result of ``export()``, a sample of NNI 3.0, an export of NNI's own classes, or the name of a JSON file with one of
        these. It may come from another family of NNI than the model.
    verbose
        Whether to log the architecture. Default True (source: classic NNI, where it controls the strictness instead).
    strict
        Whether every choice must have a decision and every key must be a choice of the model. Default True.
    choose_from
        For InputChoices by key the sources of their candidates, if the model does not name them. Without it, a sample of
        NNI 3.0 drops no edge of such an InputChoice, and an architecture that names sources cannot be applied to it.
    weights
        The weights of the supernet, of which the network inherits those of what was chosen: the supernet itself, its
        ``state_dict()``, or the path of a checkpoint of ``DartsTrainer``, its ``checkpoint_dir`` or its ``run_dir``. BatchNorm's
        running statistics are then those of the supernet, in which candidates were mixed. Default: the model keeps its weights.

    Returns
    -------
    nn.Module
        The model; if the model itself is a LayerChoice or InputChoice, what was chosen.

    Raises
    ------
    ArchitectureError
        The file cannot be read, keys are missing or unexpected, a choice has no such candidate, or an InputChoice keeps an edge
        that the architecture drops. ``weights`` are not those of this model: some are missing, unexpected or of another shape.
    CheckpointError
        The checkpoint cannot be read.
    SearchSpaceError
        The model is not a search space.
    """
    space, choices = hosts.of_model(model).read_space(model, choose_from)
    architecture = decisions.load(architecture)
    flow = tracing.flow(model, choices)
    decided = decisions.decide(space, architecture, strict, flow.readers if flow else {})
    still_read = [] if flow is None else decisions.dropped_but_read(space, decided, flow.readers)
    if still_read:
        _logger.warning('The architecture drops %s, which the model seems to read outside its InputChoices: results that depend '
                        'on them will have no data. The search does not see reads without gradients, or only in evaluation mode. '
                        'Name candidates for them if they are needed.', ', '.join(map(repr, still_read)))
    as_none = flow.straight if flow else set()
    if weights is not None:
        _load(model, weights)
    found = decisions.apply(model, choices, decided, as_none)
    if verbose:
        _logger.info('Applied the architecture %s: %s parameters.', dict(architecture),
                     f'{sum(parameter.numel() for parameter in found.parameters()):,}')
    return found


def random_architecture(model: nn.Module, seed: int, form: str = 'classic', *,
                        choose_from: Optional[Mapping[str, Sequence[str]]] = None) -> Dict[str, Any]:
    """Draw an architecture from a search space, uniformly: to compare what a search has found with random ones.

    For each LayerChoice one of its candidates is drawn, without the zero op; for each InputChoice ``n_chosen`` of its inputs. As
    in a derived architecture, edges whose outputs nothing reads are dropped. Candidates that a method or ``mutator.cut`` has cut
    may be drawn. The model is not changed.

    Parameters
    ----------
    model
        The search space, before or after a search.
    seed
        The same seed draws the same architecture of the same space. PyTorch's random numbers are neither read nor changed.
    form
        See :meth:`nni_darts_ext.core.search.Search.architecture`. Default ``'classic'``.
    choose_from
        See :func:`apply_fixed_architecture`.

    Returns
    -------
    dict
        The architecture, for :func:`apply_fixed_architecture` and ``json.dump``.

    Raises
    ------
    SearchSpaceError
        The model is not a search space.
    """
    space, choices = hosts.of_model(model).read_space(model, choose_from)
    flow = tracing.flow(model, choices)
    space.readers = flow.readers if flow else None
    return export.in_form(form, space, draw(space, seed))


def _load(model: nn.Module, weights: Weights) -> None:
    """Load the weights of a supernet, all or none of them."""
    if isinstance(weights, (str, os.PathLike)):
        weights = checkpoint.weights_in(weights)
    given = _without_logits(weights.state_dict() if isinstance(weights, nn.Module) else weights)
    own = _without_logits(model.state_dict())
    missing, unexpected = [name for name in own if name not in given], [name for name in given if name not in own]
    misfits = [f'{name} {tuple(given[name].shape)} instead of {tuple(value.shape)}' for name, value in own.items()
               if isinstance(value, Tensor) and name in given and given[name].shape != value.shape]
    if missing or unexpected or misfits:
        raise ArchitectureError(f'The weights do not fit this model: {missing} are missing, {unexpected} are unexpected, and '
                                f'these have another shape: {misfits}. Pass the weights of the supernet, and build the model '
                                'with the same arguments as the supernet.')
    model.load_state_dict(given, strict=False)


def _without_logits(state: Mapping[str, Any]) -> Dict[str, Any]:
    """The state of a supernet without what a one-shot strategy has added to it."""
    return {name: value for name, value in state.items() if not name.startswith('_darts.') and '._arch_alpha.' not in name}
