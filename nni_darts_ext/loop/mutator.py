"""The interface of NNI's ``DartsMutator``, without a host behind it."""

from __future__ import annotations

import logging
from typing import Any, Dict, Iterable, List, Mapping, Optional, Sequence, Tuple

import torch
from torch import Tensor, nn

from ..core.bilevel.estimators import choose, unrolled_exact
from ..core.derivation import Derivation
from ..core.edge import compilation, recomputation
from ..core.edge.compilation import Compile, CompiledMixture
from ..core.logits import Logits
from ..core.relaxation import Relaxation, relax
from ..core.search import Search
from ..core.space import Choice, SearchSpace
from ..core.weights import Relaxed, numbers_of
from ..errors import TrainingError
from ..methods import Method, Methods

_logger = logging.getLogger(__name__)

FORGOTTEN = 10
"""After so many passes without it, a regulariser counts as forgotten."""


class MutatorInterface(Search):
    """What every host's ``DartsMutator`` offers; the host adds how the choices of a model are found and run.

    Attributes
    ----------
    form : str
        The form of :meth:`export` that the host itself takes.
    methods : Methods
        What the search does beyond plain DARTS.
    """

    form = 'classic'
    _relaxation: Relaxation
    _relaxed: Dict[str, Relaxed]
    _sampled: Dict[str, Tensor]
    _is_due = False
    """Whether the search is a copy of one that was reset."""

    methods: Methods
    _resets = 0
    """How often a pass was begun without the regularisers of the methods being asked for."""

    def _open(self, space: SearchSpace, zero_op_wins: bool, methods: Iterable[Method]) -> None:
        self.space = space
        space.warn_of_narrowing()
        self.zero_op_wins = zero_op_wins
        self._cache = {}
        self._relaxed = {}
        self.choices = Logits()
        for edge in space.edges.values():
            self.choices.add(edge.key, len(edge.names))
        self._relaxation = Relaxation(self.choices, space)
        of_search = Methods(methods, 'DartsMutator', has_epochs=False)
        of_search.attach(self)
        self.use(of_search)

    def use(self, methods: Methods) -> None:
        """Relax the edges as these methods, which are attached, do."""
        self.methods = methods
        self.of_methods = nn.ParameterList(methods.parameters())
        methods.install(self.choices, self._relaxation)

    def regularizer(self) -> Tensor:
        """The term that a training loop of one's own adds to the loss of the architecture step: a scalar; 0 without one."""
        self._resets = 0
        term = self.methods.regularizer()
        return torch.zeros((), device=self.device()) if term is None else term

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
        self._resets += 1
        if self._resets == FORGOTTEN and self.methods.regularizes and not self.methods.is_led:
            _logger.warning('The regulariser of methods=%r is in no loss. Add mutator.regularizer() to that of the architecture '
                            'step, or search with DartsTrainer or DARTS.', list(self.methods))
        self._relaxed = {}
        self._cache = self.sample_search()
        self._relaxation.begin(self._relaxed or None)  # None where somebody's own sample_search has not asked ours

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
        self._relaxed = self._relaxation.relax_all()
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
        return {key: numbers_of(key, weights) for key, weights in self._cache.items()}

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
        return Relaxed.of(weights, key)

    # Copies and pickles sample anew: graphs can be in neither, and those of the original would not reach the copy's logits.

    def __getstate__(self) -> Dict[str, Any]:
        return {**vars(self), '_sampled': {}, '_relaxed': {}, '_is_due': self._is_due or bool(self._sampled)}

    def __setstate__(self, state: Dict[str, Any]) -> None:
        super().__setstate__(state)  # type: ignore[misc]
        self.methods.belong_to(self)

    @property
    def _cache(self) -> Dict[str, Tensor]:
        """The decisions that NNI's choices ask for."""
        if self._is_due:
            self.reset()
        return self._sampled

    @_cache.setter
    def _cache(self, sampled: Dict[str, Tensor]) -> None:
        self._sampled, self._is_due = sampled, False


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
    methods
        What the search does beyond plain DARTS, a list of objects of :mod:`nni_darts_ext.methods`; those that need no epochs. Of
        methods with a regulariser, add ``mutator.regularizer()`` to the loss of the architecture step. Default: none.

    Raises
    ------
    SearchSpaceError
        The model is no search space for DARTS: see :class:`nni_darts_ext.core.space.SearchSpace`.
    MethodError
        Methods that cannot be combined, or that need epochs.
    """

    form = 'sample'

    def __init__(self, model: nn.Module, zero_op_wins: bool = False,
                 choose_from: Optional[Mapping[str, Sequence[str]]] = None, methods: Iterable[Method] = ()) -> None:
        super().__init__()
        space, choices = self.read_space(model, choose_from)
        # Not as submodules: the model's weights are not the mutator's.
        vars(self).update(model=model, _found=choices)
        self._open(space, zero_op_wins, methods)
        for module, choice in choices.items():
            relax(module, choice, self._relaxation)
        self._relaxation.watch(model)

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


def check_mutator(mutator: Any, arguments: Mapping[str, Any]) -> None:
    """Raise :class:`TrainingError` where a mutator of somebody else's cannot be searched with, or not with some arguments."""
    name = f'{type(mutator).__module__}.{type(mutator).__qualname__}'
    if not isinstance(mutator, nn.Module) or not hasattr(mutator, 'reset'):
        raise TrainingError(f'The mutator is a {name}. Expected an nn.Module with reset() and export(), whose parameters are the '
                            'logits: leave mutator out, or give a DartsMutator.')
    if next(mutator.parameters(), None) is None:
        raise TrainingError(f'The mutator, a {name}, has no parameters, and so there are no logits to learn. Leave mutator out, '
                            'or give a DartsMutator.')
    ours = [argument for argument, value in arguments.items() if value]
    if ours and not isinstance(mutator, MutatorInterface):
        raise TrainingError(f'{", ".join(ours)}: not with a {name}, of whose edges nobody here knows. Use the DartsMutator of '
                            'nni_darts_ext (leave mutator out), or leave these arguments out.')


def check_execution(recompute: bool, compile: Compile, unrolled: Any, methods: Methods) -> None:
    """Raise :class:`TrainingError` where edges cannot run so, for what needs second derivatives."""
    needs = f'unrolled={unrolled!r}' if choose(unrolled) is unrolled_exact else methods.needing_second_derivatives
    recomputation.check(recompute, needs)
    compilation.check(compile, needs)
