"""The interface of NNI's ``DartsMutator``, without a host behind it."""

from __future__ import annotations

import logging
import math
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

import torch
from torch import Tensor, nn

from ..core.derivation import Derivation
from ..core.edge.compilation import Compile, CompiledMixture
from ..core.logits import Logits, Relaxed
from ..core.relaxation import Relaxation, relax
from ..core.search import Search
from ..core.space import Choice, SearchSpace
from ..errors import LogitsError

_logger = logging.getLogger(__name__)


class MutatorInterface(Search):
    """What every host's ``DartsMutator`` offers; the host adds how the choices of a model are found and run.

    Attributes
    ----------
    form : str
        The form of :meth:`export` that the host itself takes.
    """

    form = 'classic'
    _relaxation: Relaxation
    _cache: Dict[str, Tensor]
    _relaxed: Dict[str, Relaxed]

    def _open(self, model: nn.Module, space: SearchSpace, zero_op_wins: bool) -> None:
        self.space = space
        space.warn_of_narrowing()
        self.zero_op_wins = zero_op_wins
        self._cache = {}
        self._relaxed = {}
        self.choices = Logits()
        for edge in space.edges.values():
            self.choices.add(edge.key, len(edge.names))
        self._relaxation = Relaxation(self.choices, space)
        self._relaxation.watch(model)

    def execute(self, recompute: bool = False, compile: Compile = False) -> None:
        """How the edges run from now on: see :class:`nni_darts_ext.DartsTrainer`, whose arguments these are, too."""
        self._relaxation.recompute = recompute
        self._relaxation.compiled = CompiledMixture(compile) if compile else None

    def device(self) -> torch.device:
        """Where the logits are."""
        return self.choices.device

    def reset(self) -> None:
        """Take the weights for the next forward pass from the logits. Call it before each pass, as NNI's trainers do.

        Under ``torch.autocast`` the pass casts the model's own weights anew, too: PyTorch keeps casts until the context ends.
        """
        torch.clear_autocast_cache()
        self._cache = self.sample_search()

    def sample_search(self) -> Dict[str, Tensor]:
        """The relaxed decisions.

        Returns
        -------
        dict
            For each LayerChoice its weights, a float tensor of shape ``(n,)``, differentiable in the logits;
            for each InputChoice a bool tensor of ones, shape ``(n_candidates,)``.

        Raises
        ------
        LogitsError
            Logits have no answer, see :meth:`nni_darts_ext.core.search.Search.probabilities`. On devices for which the host would
            have to wait that is found out when the edges are read, see :class:`~nni_darts_ext.core.logits.Logits`.
        """
        self.choices.look()
        self._relaxed = {key: self.choices.relax(key) for key in self.space.edges}
        sampled = {key: relaxed.weights for key, relaxed in self._relaxed.items()}
        sampled.update((node.key, torch.ones(len(node.choose_from), dtype=torch.bool, device=self.device()))
                       for node in self.space.inputs.values())
        return sampled

    def export(self, form: str = 'classic') -> Dict[str, Any]:
        """:meth:`~nni_darts_ext.core.search.Search.architecture`, under the name that NNI gives it."""
        return self.architecture(form)

    def status(self) -> Dict[str, List[float]]:
        """The weights of the last :meth:`reset` as lists of numbers, for logging.

        Raises
        ------
        LogitsError
            They are no numbers.
        """
        return {key: _numbers(key, weights) for key, weights in self._cache.items()}

    def _derive(self) -> Derivation:
        for node in self.space.inputs.values():
            if node.n_chosen is not None and not self.space.is_fed(node.key):
                _logger.warning('InputChoice %r names no LayerChoice in choose_from%s: all its inputs are equally strong and '
                                'the first %d are kept.', node.key,
                                ', and no forward pass has shown any' if node.key in self.space.unnamed else '', node.n_chosen)
        return super()._derive()

    def _as_relaxed(self, key: str, weights: Tensor) -> Relaxed:
        """The relaxation that the weights of an edge are of. Weights that someone else has sampled must be read."""
        relaxed = self._relaxed.get(key)
        if relaxed is not None and relaxed.weights is weights:
            return relaxed
        return Relaxed(weights, tuple(i for i, weight in enumerate(_numbers(key, weights)) if weight != 0))

    # Copies and pickles sample anew: graphs can be in neither, and those of the original would not reach the copy's logits.

    def __getstate__(self) -> Dict[str, Any]:
        return {**vars(self), '_cache': {}, '_relaxed': {}, '_was_reset': bool(self._cache)}

    def __setstate__(self, state: Dict[str, Any]) -> None:
        was_reset = state.pop('_was_reset', False)
        super().__setstate__(state)  # type: ignore[misc]
        if was_reset:
            self.reset()


def _numbers(key: str, weights: Tensor) -> List[float]:
    numbers = [float(weight) for weight in weights.tolist()]
    if not all(map(math.isfinite, numbers)):
        raise LogitsError(f'The weights of {key!r} are {numbers}. Expected numbers: look for a learning rate that is too high or '
                          'a loss that is not finite.')
    return numbers


class InPlaceMutator(MutatorInterface, nn.Module):
    """The ``DartsMutator`` of hosts whose choices call no mutator: it makes them run their relaxation themselves.

    ``model(x)`` runs the supernet from now on; the training loop is yours. ``export('sample')`` gives what the host makes a
    network of: ``fixed_arch``, or ``freeze`` and ``model_context``.

    Parameters
    ----------
    model
        A model with the host's LayerChoice and InputChoice. Its choices are changed in place.
    zero_op_wins
        See :func:`nni_darts_ext.core.derivation.derive`. Default False, what classic NNI's class does.
    choose_from
        For InputChoices by label the sources of their candidates, where the model's own shall not count. Default: what
        :func:`nni_darts_ext.nn.InputChoice` was told, and what the first forward pass shows where it was told nothing.

    Raises
    ------
    SearchSpaceError
        The model is no search space for DARTS: see :class:`nni_darts_ext.core.space.SearchSpace`.
    """

    form = 'sample'

    def __init__(self, model: nn.Module, zero_op_wins: bool = False,
                 choose_from: Optional[Mapping[str, Sequence[str]]] = None) -> None:
        super().__init__()
        space, choices = self.read_space(model, choose_from)
        self._open(model, space, zero_op_wins)
        # Not as submodules: the model's weights are not the mutator's.
        vars(self).update(model=model, _found=choices)
        for module, choice in choices.items():
            relax(module, choice, self._relaxation)

    @staticmethod
    def read_space(model: nn.Module, choose_from: Optional[Mapping[str, Sequence[str]]]) \
            -> Tuple[SearchSpace, Dict[nn.Module, Choice]]:
        """How the host reads the search space of a model, and what each of its modules is in it."""
        raise NotImplementedError

    @property
    def mutables(self) -> List[nn.Module]:
        """The LayerChoices and InputChoices in the order of the model's modules, the first one of each key."""
        by_key: Dict[str, nn.Module] = {}
        for module, choice in vars(self)['_found'].items():
            by_key.setdefault(choice.key, module)
        return list(by_key.values())
