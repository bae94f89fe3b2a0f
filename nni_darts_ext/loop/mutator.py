"""The ``DartsMutator`` of all hosts, without what is specific to a host."""

from __future__ import annotations

import logging
from contextlib import contextmanager
from typing import Any, Dict, Iterable, Iterator, List, Mapping, Optional, Sequence, Tuple, Union

import torch
from torch import Tensor, nn

from ..core.bilevel.estimators import choose, unrolled_exact
from ..core.decisions import Architecture
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
"""The number of passes without a call of ``regularizer()`` after which a warning is logged."""


class MutatorInterface(Search):
    """The methods of every host's ``DartsMutator``. The host adds how the choices of a model are found and run.

    Attributes
    ----------
    form : str
        The form of :meth:`export` that the host's own functions take.
    methods : Methods
        Additions to plain DARTS.
    own_methods : list of Method
        Those of them that the mutator was given. The others were given to its trainer.
    """

    form = 'classic'
    _relaxed: Dict[str, Relaxed]
    _sampled: Dict[str, Tensor]
    _is_due = False
    """Whether :meth:`reset` is due: in the copy of a mutator that was reset."""

    methods: Methods
    own_methods: List[Method]
    _resets = 0
    """The number of calls of :meth:`reset` since the last call of :meth:`regularizer`."""

    def _open(self, space: SearchSpace, zero_op_wins: bool, methods: Union[str, Iterable[Method]]) -> None:
        self.space = space
        space.warn_of_narrowing()
        self.zero_op_wins = zero_op_wins
        self._cache = {}
        self._relaxed = {}
        self.choices = Logits()
        for edge in space.edges.values():
            self.choices.add(edge.key, len(edge.names))
        self._relaxation = Relaxation(self.choices, space)
        attached = Methods(methods, 'DartsMutator', has_epochs=False)
        attached.attach(self)
        self.own_methods = attached.all
        self.use(attached)

    def use(self, methods: Methods) -> None:
        """Use these methods, which must be attached, from now on."""
        self.methods = methods
        self.of_methods = nn.ParameterList(methods.parameters())
        methods.install(self, self._relaxation)

    def regularizer(self) -> Tensor:
        """The sum of the methods' regularisers, a scalar tensor, 0 if there are none. In a training loop of your own, add it to
        the loss of the architecture step."""
        self._resets = 0
        term = self.methods.regularizer()
        return torch.zeros((), device=self.device()) if term is None else term

    def execute(self, recompute: bool = False, compile: Compile = False) -> None:
        """Set how the edges run. The arguments are those of :class:`nni_darts_ext.DartsTrainer`."""
        self._relaxation.recompute = recompute
        self._relaxation.compiled = CompiledMixture(compile) if compile else None

    @contextmanager
    def fixed(self, architecture: Architecture) -> Iterator[None]:
        kept = {name: vars(self)[name] for name in ('_sampled', '_relaxed', '_is_due')}
        try:
            with super().fixed(architecture):
                self._is_due = True
                yield
        finally:
            vars(self).update(kept)
    fixed.__doc__ = Search.fixed.__doc__

    def device(self) -> torch.device:
        """The device of the logits."""
        return self.choices.device

    def reset(self) -> None:
        """Compute the weights for the next forward pass from the logits. Call it before each pass, as NNI's trainers do.

        It also clears autocast's cache, in which PyTorch would otherwise keep casts of weights that have changed since.
        """
        torch.clear_autocast_cache()
        self._resets += 1
        if self._resets == FORGOTTEN and self.methods.regularizes and not self.methods.is_led:
            _logger.warning('The regulariser of methods=%r is unused. Add mutator.regularizer() to the loss of the architecture '
                            'step, or search with DartsTrainer or DARTS.', list(self.methods))
        self._relaxed = {}
        self._cache = self.sample_search()
        self._relaxation.begin(self._relaxed or None)  # None if a subclass overrides sample_search without calling this one

    def sample_search(self) -> Dict[str, Tensor]:
        """The relaxed decisions.

        Returns
        -------
        dict
            For each LayerChoice its weights, a float tensor of shape ``(n,)``, differentiable in the logits;
            for each InputChoice a bool tensor of shape ``(n_candidates,)``, all true.

        Raises
        ------
        LogitsError
            Logits have invalid values, see :meth:`nni_darts_ext.core.search.Search.probabilities`. On asynchronous devices the
            error is raised later, when the edges are read, see :class:`~nni_darts_ext.core.logits.Logits`.
        """
        self._relaxed = self._relaxation.relax_all()
        sampled = {key: relaxed.weights for key, relaxed in self._relaxed.items()}
        sampled.update((node.key, torch.ones(len(node.choose_from), dtype=torch.bool, device=self.device()))
                       for node in self.space.inputs.values())
        return sampled

    def export(self, form: str = 'classic') -> Dict[str, Any]:
        """See :meth:`~nni_darts_ext.core.search.Search.architecture`. This is NNI's name for it."""
        return self.architecture(form)

    def status(self) -> Dict[str, List[float]]:
        """The weights of the last :meth:`reset` as lists of numbers, for logging. Raises :class:`LogitsError` if a weight is NaN
        or infinite."""
        return {key: numbers_of(key, weights) for key, weights in self._cache.items()}

    def _derive(self) -> Derivation:
        for node in self.space.inputs.values():
            if node.n_chosen is not None and not self.space.is_fed(node.key):
                _logger.warning('InputChoice %r names no LayerChoice in choose_from%s: all its inputs are equally strong, and '
                                'the first %d are kept.', node.key,
                                ', and no forward pass has found one' if node.key in self.space.unnamed else '', node.n_chosen)
        return super()._derive()

    def _as_relaxed(self, key: str, weights: Tensor) -> Relaxed:
        """The relaxation to which the weights of an edge belong; a new one for weights that a subclass has sampled."""
        relaxed = self._relaxed.get(key)
        if relaxed is not None and relaxed.weights is weights:
            return relaxed
        return Relaxed.of(weights, key)

    # Copies and pickles sample again: they cannot contain graphs, and the original's graphs do not lead to the copy's logits.

    def __getstate__(self) -> Dict[str, Any]:
        return {**vars(self), '_sampled': {}, '_relaxed': {}, '_is_due': self._is_due or bool(self._sampled)}

    def __setstate__(self, state: Dict[str, Any]) -> None:
        super().__setstate__(state)  # type: ignore[misc]
        self.methods.belong_to(self)

    @property
    def _cache(self) -> Dict[str, Tensor]:
        """The relaxed decisions, under the name by which NNI's choices access them."""
        if self._is_due:
            self.reset()
        return self._sampled

    @_cache.setter
    def _cache(self, sampled: Dict[str, Tensor]) -> None:
        self._sampled, self._is_due = sampled, False


class InPlaceMutator(MutatorInterface, nn.Module):
    """The ``DartsMutator`` of hosts whose choices call no mutator. It changes them to run their relaxation themselves.

    From now on ``model(x)`` runs the supernet, in a training loop of your own. ``fixed_arch``, or ``freeze`` and
    ``model_context``, take the result of ``export('sample')``.

    Parameters
    ----------
    model
        A model with the host's LayerChoice and InputChoice. Its choices are changed in place.
    zero_op_wins
        See :func:`nni_darts_ext.core.derivation.derive`. Default False (source: classic NNI).
    choose_from
        The sources of the candidates of InputChoices, by label; they take precedence over those that the model names. Default:
        those given to :func:`nni_darts_ext.nn.InputChoice`; where there are none, they are found in the first forward pass.
    methods
        Additions to plain DARTS, a list of objects of :mod:`nni_darts_ext.methods` that need no epochs. If one has a regulariser,
        add ``mutator.regularizer()`` to the loss of the architecture step. Default: none.

    Raises
    ------
    SearchSpaceError
        DARTS cannot search the model, see :class:`nni_darts_ext.core.space.SearchSpace`.
    MethodError
        Methods cannot be combined, or need epochs.
    """

    form = 'sample'

    def __init__(self, model: nn.Module, zero_op_wins: bool = False,
                 choose_from: Optional[Mapping[str, Sequence[str]]] = None, methods: Union[str, Iterable[Method]] = ()) -> None:
        super().__init__()
        space, choices = self.read_space(model, choose_from)
        # Not registered as submodules, because the model's weights are not parameters of the mutator.
        vars(self).update(model=model, _found=choices)
        self._open(space, zero_op_wins, methods)
        for module, choice in choices.items():
            relax(module, choice, self._relaxation)
        self._relaxation.watch(model)

    @staticmethod
    def read_space(model: nn.Module, choose_from: Optional[Mapping[str, Sequence[str]]]) \
            -> Tuple[SearchSpace, Dict[nn.Module, Choice]]:
        """The search space of a model, and the description of each module that is a choice. Defined by the host."""
        raise NotImplementedError

    @property
    def mutables(self) -> List[nn.Module]:
        """The LayerChoices and InputChoices in the order of the model's modules; of several with one key, only the first."""
        by_key: Dict[str, nn.Module] = {}
        for module, choice in vars(self)['_found'].items():
            by_key.setdefault(choice.key, module)
        return list(by_key.values())


def check_mutator(mutator: Any, arguments: Mapping[str, Any]) -> None:
    """Raise :class:`TrainingError` if a mutator from elsewhere cannot be used, or not with some of the trainer's arguments."""
    name = f'{type(mutator).__module__}.{type(mutator).__qualname__}'
    if not isinstance(mutator, nn.Module) or not hasattr(mutator, 'reset'):
        raise TrainingError(f'The mutator is a {name}. Expected an nn.Module with reset() and export(), whose parameters are the '
                            'logits. Leave mutator out, or pass a DartsMutator.')
    if next(mutator.parameters(), None) is None:
        raise TrainingError(f'The mutator, a {name}, has no parameters, so there are no logits to train. Leave mutator out, or '
                            'pass a DartsMutator.')
    ours = [argument for argument, value in arguments.items() if value]
    if ours and not isinstance(mutator, MutatorInterface):
        raise TrainingError(f'{", ".join(ours)}: does not work with a {name}, whose edges are unknown. Leave mutator out to use '
                            'the DartsMutator of nni_darts_ext, or leave out what does not work.')


def check_execution(recompute: bool, compile: Compile, unrolled: Any, methods: Methods) -> None:
    """Raise :class:`TrainingError` if ``recompute`` or ``compile`` is combined with something that needs second derivatives."""
    needs = f'unrolled={unrolled!r}' if choose(unrolled) is unrolled_exact else methods.needing_second_derivatives
    recomputation.check(recompute, needs)
    compilation.check(compile, needs)
