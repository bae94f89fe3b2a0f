"""The methods of one search together: checks that they can be combined, and calls their hooks."""

from __future__ import annotations

import copy
import weakref
from contextlib import ExitStack, contextmanager
from typing import Any, Dict, Iterable, Iterator, List, Mapping, Optional, Sequence, Union

import torch
from torch import Tensor, nn

from ..core.relaxation import Relaxation
from ..core.search import Search, Weights
from ..core.weights import softmax
from ..errors import CheckpointError, MethodError
from .base import READING, VALIDATION, WEIGHTS, At, EndOfEpoch, Method, overrides
from .combination import checked, name_of

OF_EPOCHS = ('takes_architecture_step', 'begin', 'before_epoch', 'after_epoch', 'record', 'end')
"""The hooks that need a loop of epochs."""


class Methods:
    """Methods of a search, in their order.

    Parameters
    ----------
    methods
        Objects of :class:`~nni_darts_ext.methods.base.Method`, or ``'recommended'`` for those of
        :func:`~nni_darts_ext.methods.recommendation.recommended`.
    host
        The class or function that takes them, for messages.
    has_epochs
        Whether a loop of epochs calls their hooks. Default True.

    Raises
    ------
    MethodError
        An object is not a method, two cannot be combined, or one needs something that the host does not have.
    """

    def __init__(self, methods: Union[str, Iterable[Method]] = (), host: str = 'the search', has_epochs: bool = True) -> None:
        self.all = checked(methods)
        for method in self.all:
            if not has_epochs and (method.needs_epochs or overrides(method, *OF_EPOCHS)):
                raise MethodError(f'{method!r} needs the epochs and steps of a search, which are unknown to {host}. Pass it to '
                                  'DartsTrainer or to the strategy DARTS.')
        self._relaxing = next((method for method in self.all if overrides(method, 'relax')), None)
        self._weighing = next((method for method in self.all if overrides(method, 'weigh_inputs')), None)
        self._reweighing = [method for method in self.all if overrides(method, 'reweigh')]
        self._regularizing = [method for method in self.all if overrides(method, 'regularizer')]
        # Before a search changes them.
        self._settings = copy.deepcopy({name_of(method): method.settings() for method in self.all})
        self._search: Any = _no_search
        """A weak reference to the search, so that copies of logits and models do not copy the search."""
        self._relaxation: Any = None
        self._first_state: Optional[Dict[str, Any]] = None
        self._is_attached = False
        self._at = At(None, seed=torch.initial_seed())
        self._passes = 0
        self.is_led = False
        """Whether a loop sets the phase. Otherwise it is inferred from the mode of the model."""

    def attach(self, search: Search) -> None:
        """Attach the methods to a search, once its space is known. Methods that are already attached to it are skipped.

        Raises
        ------
        MethodError
            A method belongs to another search, whose state it has.
        """
        self._search, self._is_attached = weakref.ref(search), True
        for method in self.all:
            if '_owner' not in vars(method):
                vars(method)['_owner'] = self._search
                method.attach(search)
            elif vars(method)['_owner']() is not search:
                raise MethodError(f'{method!r} already belongs to another search. Build a new one for each search.')

    def belong_to(self, search: Search) -> None:
        """Set the search, also for copies of the methods, which keep what they made when they were attached."""
        self._search = weakref.ref(search)
        for method in self.all if self._is_attached else ():
            vars(method)['_owner'] = self._search

    @property
    def at(self) -> At:
        """The current position of the search."""
        return self._at._replace(search=self._search())

    def __getstate__(self) -> Dict[str, Any]:
        return {**vars(self), '_search': _no_search}

    def install(self, search: Search, relaxation: Relaxation) -> None:
        """Make these methods compute the weights of the edges, change their outputs, and derive the architecture."""
        self._relaxation = relaxation
        search.choices.weigh, relaxation.weigh = self.read, self.weigh
        relaxation.weigh_inputs = self.weigh_inputs
        relaxation.samples = any(method.samples for method in self.all)
        relaxation.finish = self.finish if any(overrides(method, 'edge') for method in self.all) else None
        relaxation.after_pass = self.after_pass if any(overrides(method, 'after_pass') for method in self.all) else None
        search.revise = self.revise if any(overrides(method, 'derive') for method in self.all) else None

    def move(self, **where: Any) -> At:
        """Set the phase, step or epoch of the search."""
        self._at = self._at._replace(**where)
        return self.at

    def __iter__(self) -> Iterator[Method]:
        return iter(self.all)

    def __repr__(self) -> str:
        return f'methods={self.all!r}'

    # The forward pass ------------------------------------------------------------------------------------------------------

    def read(self, logits: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """The weights from which the architecture is derived, and which are logged and recorded."""
        if self._relaxing is None:
            return softmax(logits)
        return self._relaxing.relax(logits, self.at._replace(phase=READING, step=None))

    def weigh(self, logits: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """The weights for a forward pass."""
        if not self.is_led:
            search = self._search()  # None in a copy of the model alone
            self._passes += search is None or len(logits) == len(search.choices)  # an edge alone runs what a pass did once more
        at = self._in_pass()
        weights = softmax(logits) if self._relaxing is None else self._relaxing.relax(logits, at)
        for method in self._reweighing:
            weights = method.reweigh(weights, at)
        return weights

    def finish(self, key: str, output: Any, inputs: Sequence[Any]) -> Any:
        """The output of an edge as the methods change it."""
        at = self._in_pass()
        for method in self.all:
            output = method.edge(output, inputs, key, at)
            if output is None:
                raise MethodError(f'edge() of {method!r} returned None for {key!r}. Expected the output of the edge.')
        return output

    def after_pass(self, model: nn.Module, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
        """Tell the methods that a pass has ended."""
        at = self._in_pass()
        for method in self.all if at.search is not None else ():  # None in a copy of the model alone
            method.after_pass(model, args, kwargs, at)

    def revise(self, weights: Weights) -> Weights:
        """The weights from which the architecture is derived, as the methods change them."""
        for method in self.all:
            found = method.derive(weights, self.at._replace(phase=READING, step=None))
            if not isinstance(found, Mapping) or any(len(found.get(key, ())) != len(weights[key]) for key in weights):
                raise MethodError(f'derive() of {method!r} returned {found!r:.80}. Expected as many weights for each edge as it '
                                  'was given.')
            weights = found
        return weights

    def _in_pass(self) -> At:
        """The position of the search in a forward pass."""
        at = self.at
        if not self.is_led or at.phase == READING:  # between steps, where users run the model themselves
            in_copy = at.search is None  # of the model alone, whose passes its copy of the relaxation has seen
            is_training = (self._relaxation.is_training if in_copy else
                           getattr(getattr(at.search, 'model', at.search), 'training', True))
            at = at._replace(phase=WEIGHTS if is_training else VALIDATION)
        return at if self.is_led else at._replace(step=self._passes)

    def weigh_inputs(self, key: str) -> Optional[Tensor]:
        """The weights of the candidates of an InputChoice; None for 1 each."""
        if self._weighing is None:
            return None
        weights, search = self._weighing.weigh_inputs(key), self._search()
        if weights is None or search is None:  # in a copy of the model alone
            return weights
        n = len(search.space.sources[key])
        if not (isinstance(weights, Tensor) and weights.shape == (n,)):
            raise MethodError(f'weigh_inputs({key!r}) of {self._weighing!r} returned {weights!r:.60}. Expected a tensor of shape '
                              f'({n},), the weights of the candidates, or None.')
        return weights

    # The steps -------------------------------------------------------------------------------------------------------------

    @property
    def regularizes(self) -> bool:
        """Whether a method has a regulariser."""
        return bool(self._regularizing)

    def regularizer(self) -> Optional[Tensor]:
        """The sum of the regularisers; None if there are none."""
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
        """Whether no method skips the architecture step."""
        taken = self.call('takes_architecture_step')
        if None in taken:
            raise MethodError(f'takes_architecture_step() of {self.all[taken.index(None)]!r} returned None. '
                              'Expected True or False.')
        return all(taken)

    # The search ------------------------------------------------------------------------------------------------------------

    def call(self, hook: str, *args: Any) -> List[Any]:
        """Call a hook of each method with ``at`` and these arguments. Returns the results."""
        return [getattr(method, hook)(self.at, *args) for method in self.all]

    def after_epoch(self, end: EndOfEpoch) -> Optional[str]:
        """Call the hook of each method. Returns the first reason to end the search, None to continue."""
        reasons = self.call('after_epoch', end)
        for method, reason in zip(self.all, reasons):
            if not (reason is None or isinstance(reason, str)):
                raise MethodError(f'after_epoch() of {method!r} returned {reason!r}. Expected why the search ends, a string, or '
                                  'None to continue.')
        return next((reason for reason in reasons if reason is not None), None)

    def end(self, error: Optional[BaseException] = None) -> None:
        """Notify all methods that the search has ended, also where one of them raises."""
        with ExitStack() as stack:
            for method in reversed(self.all):
                stack.callback(method.end, error)

    @contextmanager
    def notified_of_end(self) -> Iterator[None]:
        """Calls :meth:`end` when the context ends, with the error if there is one."""
        try:
            yield
        except BaseException as error:
            self.end(error)
            raise
        self.end()

    # What they hold --------------------------------------------------------------------------------------------------------

    @property
    def needing_second_derivatives(self) -> Optional[str]:
        """The first method that needs second derivatives, as a string for messages; None if there is none."""
        return next((repr(method) for method in self.all if method.needs_second_derivatives), None)

    def parameters(self) -> List[nn.Parameter]:
        found = {name_of(method): method.parameters() for method in self.all}
        for name, given in found.items():
            if isinstance(given, Tensor):
                raise MethodError(f'parameters() of {name} is a {type(given).__name__}. Expected a list of parameters.')
        return [parameter for given in found.values() for parameter in given]

    def settings(self) -> Dict[str, Any]:
        """What must be the same for a search to resume, by the names of the methods."""
        return {name: of_method for name, of_method in sorted(self._settings.items()) if of_method is not None}

    def state_dict(self) -> Dict[str, Any]:
        return {'seed': self._at.seed, **{name_of(method): method.state_dict() for method in self.all}}

    def start_anew(self) -> None:
        """Give the methods the state that they had when the first search with them began."""
        if self._first_state is not None:
            return self.load_state_dict(copy.deepcopy(self._first_state))
        self._first_state = copy.deepcopy({**self.state_dict(), 'seed': None})

    def load_state_dict(self, states: Mapping[str, Any]) -> None:
        """Restore the states of the methods; one without a saved state starts from the beginning. Raises
        :class:`CheckpointError` if a state does not fit."""
        if 'seed' in states and states['seed'] is not None:  # which checkpoints of early versions lack
            self.move(seed=states['seed'])
        for method in self.all:
            if name_of(method) in states:
                try:
                    method.load_state_dict(states[name_of(method)])
                except Exception as error:  # a user's class may raise anything
                    raise CheckpointError(f'The state of {method!r} does not fit: {type(error).__name__}: {error}. Resume with '
                                          'the method that the search was started with.') from error


def _no_search() -> None:
    return None
