"""The methods of one search together: which of them can be combined, and what their hooks give as a whole."""

from __future__ import annotations

import copy
import weakref
from contextlib import contextmanager
from typing import Any, Callable, Dict, Iterable, Iterator, List, Mapping, Optional, Sequence

import torch
from torch import Tensor, nn

from ..core.logits import Logits
from ..core.relaxation import Relaxation
from ..core.search import Search
from ..core.weights import softmax
from ..errors import CheckpointError, MethodError
from .base import READING, VALIDATION, WEIGHTS, At, EndOfEpoch, Method, overrides

OF_EPOCHS = ('takes_architecture_step', 'begin', 'before_epoch', 'after_epoch', 'record', 'end')
"""The hooks that a loop calls. What calls :meth:`~nni_darts_ext.methods.base.Method.select` is a loop that can evaluate."""


class Methods:
    """Methods of a search, in their order.

    Parameters
    ----------
    methods
        Objects of :class:`~nni_darts_ext.methods.base.Method`.
    host
        What they are given to, for messages.
    has_epochs
        Whether a loop of epochs calls their hooks. Default True.
    selects
        Whether the host lets them select the architecture. Default False.

    Raises
    ------
    MethodError
        One is no method, two cannot be combined, or one needs what the host lacks.
    """

    def __init__(self, methods: Iterable[Method] = (), host: str = 'the search', has_epochs: bool = True,
                 selects: bool = False) -> None:
        self.all = _checked(methods)
        for method in self.all:
            if not has_epochs and (method.needs_epochs or overrides(method, *OF_EPOCHS)):
                raise MethodError(f'{method!r} needs the epochs and steps of a search, of which {host} knows nothing. Give it to '
                                  'DartsTrainer or to the strategy DARTS.')
            if not selects and overrides(method, 'select'):
                raise MethodError(f'{method!r} selects the architecture by evaluating the supernet, which {host} does not offer. '
                                  'Give it to DartsTrainer.')
        self._relaxing = next((method for method in self.all if overrides(method, 'relax')), None)
        self._reweighing = [method for method in self.all if overrides(method, 'reweigh')]
        self._regularizing = [method for method in self.all if overrides(method, 'regularizer')]
        self._settings = copy.deepcopy({_name(method): method.settings() for method in self.all})  # before a search changes them
        self._search: Any = _nothing
        """Refers to what is searched, which copies of logits and models must not take with them."""
        self._at = At(None)
        self.is_led = False
        """Whether the steps of a loop say which phase it is."""

    def attach(self, search: Search) -> None:
        """Called once the space is known. Methods that are attached to this search already stay so.

        Raises
        ------
        MethodError
            One belongs to another search, whose state it has.
        """
        self.belong_to(search)
        for method in self.all:
            if '_owner' not in vars(method):
                vars(method)['_owner'] = self._search
                method.attach(search)
            elif vars(method)['_owner']() is not search:
                raise MethodError(f'{method!r} belongs to another search already. Build it anew for each search.')

    def belong_to(self, search: Search) -> None:
        """These methods, or the copies that they are, are those of this search."""
        self._search = weakref.ref(search)

    @property
    def at(self) -> At:
        """Where the search is."""
        return self._at._replace(search=self._search())

    def __getstate__(self) -> Dict[str, Any]:
        return {**vars(self), '_search': _nothing}

    def install(self, choices: Logits, relaxation: Relaxation) -> None:
        """Let the edges of a search be weighed by these methods."""
        choices.weigh, relaxation.weigh = self.read, self.weigh
        relaxation.samples = any(method.samples for method in self.all)

    def move(self, **where: Any) -> At:
        """The search has come to another phase, step or epoch."""
        self._at = self._at._replace(**where)
        return self.at

    def __iter__(self) -> Iterator[Method]:
        return iter(self.all)

    # The forward pass ------------------------------------------------------------------------------------------------------

    def read(self, logits: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """The weights that are derived from, logged and recorded."""
        if self._relaxing is None:
            return softmax(logits)
        return self._relaxing.relax(logits, self.at._replace(phase=READING, step=None))

    def weigh(self, logits: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """The weights of a forward pass."""
        at = self.at
        if not self.is_led:
            is_training = getattr(getattr(at.search, 'model', at.search), 'training', True)
            at = at._replace(phase=WEIGHTS if is_training else VALIDATION)
        weights = softmax(logits) if self._relaxing is None else self._relaxing.relax(logits, at)
        for method in self._reweighing:
            weights = method.reweigh(weights, at)
        return weights

    # The steps -------------------------------------------------------------------------------------------------------------

    @property
    def regularizes(self) -> bool:
        """Whether any has a regulariser."""
        return bool(self._regularizing)

    def regularizer(self) -> Optional[Tensor]:
        """The sum of the regularisers, None if there is none."""
        if not self._regularizing:
            return None
        logits = self.at.search.choices.effective(self.at.search.choices.keys())
        terms = [method.regularizer(logits, self.at) for method in self._regularizing]
        for method, term in zip(self._regularizing, terms):
            if term is not None and not (isinstance(term, Tensor) and term.numel() == 1 and term.is_floating_point()):
                raise MethodError(f'The regulariser of {method!r} is {term!r:.60}. Expected a floating-point tensor of one '
                                  'element, or None.')
        found = [term.reshape(()) for term in terms if term is not None]
        return torch.stack(found).sum() if found else None

    def takes_architecture_step(self) -> bool:
        """Whether all of them take it."""
        return all(self.call('takes_architecture_step'))

    # The search ------------------------------------------------------------------------------------------------------------

    def call(self, hook: str, *args: Any) -> List[Any]:
        """What the hook of each method returns for these arguments behind ``at``."""
        return [getattr(method, hook)(self.at, *args) for method in self.all]

    def after_epoch(self, end: EndOfEpoch) -> Optional[str]:
        """The first reason to end the search that a method has."""
        return next((reason for reason in self.call('after_epoch', end) if reason is not None), None)

    def select(self, evaluate: Callable[[], Mapping[str, float]]) -> Optional[Mapping[str, Sequence[bool]]]:
        """The decisions of the method that selects, None if there is none.

        Raises
        ------
        MethodError
            A decision is of no choice of the space, or has another shape.
        """
        for method in self.all:
            found = method.select(self.at._replace(phase=READING), evaluate) if overrides(method, 'select') else None
            if found is not None:
                decisions = {key: [bool(kept) for kept in of_choice] for key, of_choice in found.items()}
                space = self.at.search.space
                for key, of_choice in decisions.items():
                    n = len(space.edges[key].names) if key in space.edges else len(space.sources.get(key, ()))
                    if len(of_choice) != n or (key in space.edges and sum(of_choice) != 1):
                        raise MethodError(f'{method!r} selects {of_choice} for {key!r}. Expected a bool for each of {n} '
                                          'candidates, exactly one of them True for a LayerChoice.')
                return decisions
        return None

    def end(self, error: Optional[BaseException] = None) -> None:
        """The search has ended."""
        for method in self.all:
            method.end(error)

    @contextmanager
    def notified_of_end(self) -> Iterator[None]:
        """Tells all methods how the search in this context has ended."""
        try:
            yield
        except BaseException as error:
            self.end(error)
            raise
        self.end()

    # What they hold --------------------------------------------------------------------------------------------------------

    @property
    def needing_second_derivatives(self) -> Optional[str]:
        """One that needs them, None if none does."""
        return next((repr(method) for method in self.all if method.needs_second_derivatives), None)

    def parameters(self) -> List[nn.Parameter]:
        return [parameter for method in self.all for parameter in method.parameters()]

    def settings(self) -> Dict[str, Any]:
        """What must be the same for a search to resume, by the names of the methods."""
        return {name: of_method for name, of_method in sorted(self._settings.items()) if of_method is not None}

    def state_dict(self) -> Dict[str, Any]:
        return {_name(method): method.state_dict() for method in self.all}

    def load_state_dict(self, states: Mapping[str, Any]) -> None:
        """A method that the state does not name starts now. Raises :class:`CheckpointError` where a state does not fit."""
        for method in self.all:
            if _name(method) in states:
                try:
                    method.load_state_dict(states[_name(method)])
                except Exception as error:  # of a class that anybody may have written
                    raise CheckpointError(f'The state of {method!r} does not fit: {type(error).__name__}: {error}. Resume with '
                                          'the method that the search was started with.') from error


def _checked(methods: Iterable[Method]) -> List[Method]:
    if isinstance(methods, (str, Method)) or not isinstance(methods, Iterable):
        raise MethodError(f'methods={methods!r} is no list. Expected objects of nni_darts_ext.methods, such as '
                          'methods=[EarlyStopping()].')
    found = list(methods)
    for method in found:
        if isinstance(method, type) and issubclass(method, Method):
            raise MethodError(f'{method.__name__} in methods is a class. Expected an object: {method.__name__}(...).')
        if not isinstance(method, Method):
            raise MethodError(f'{method!r} in methods is no method. Expected an object whose class derives from '
                              'nni_darts_ext.methods.Method.')
    for i, method in enumerate(found):
        for other in found[:i]:
            both = f'{other!r} and {method!r} cannot be combined'
            if _name(method) == _name(other):
                raise MethodError(f'{both}: a search has one method of a name. Leave one of them out.')
            if _name(other) in method.conflicts or _name(method) in other.conflicts:
                raise MethodError(f'{both}. Leave one of them out.')
            for hook, what in (('relax', 'the weights of the candidates'), ('select', 'the architecture')):
                if overrides(method, hook) and overrides(other, hook):
                    raise MethodError(f'{both}: both decide {what}. Leave one of them out.')
    return found


def _nothing() -> None:
    return None


def _name(method: Method) -> str:
    return type(method).__name__
