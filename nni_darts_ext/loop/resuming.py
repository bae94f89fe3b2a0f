"""Resuming a search: the states of its parts and of random generators, and the settings that must be the same as before."""

from __future__ import annotations

import logging
from typing import Any, Dict, List, Mapping, Optional, Sequence

import torch
from torch import Tensor, nn

from .. import __version__
from ..core import files
from ..core.random_states import random_states, set_random_states
from ..core.search import Search
from ..errors import CheckpointError, DartsExtError
from . import processes
from .checkpoint import Checkpoints, check
from .data import describe
from .stateful import lengths, state_of, stateful
from .steps import Steps

_logger = logging.getLogger(__name__)


class Resumable:
    """The part of a trainer that writes checkpoints and resumes from them."""

    model: nn.Module
    mutator: Any
    loss: Any
    metrics: Any
    optimizer: torch.optim.Optimizer
    ctrl_optim: torch.optim.Optimizer
    train_loader: Any
    valid_loader: Any
    test_loader: Any
    callbacks: List[Any]
    steps: Steps
    history: List[Dict[str, Any]]
    num_epochs: int

    def _open(self, folder: Optional[files.Path], settings: Mapping[str, Any]) -> None:
        """Called last in the constructor. A search can resume only with the same ``settings``."""
        self._epochs, self._is_between_epochs = 0, True
        own = {**settings, 'methods': self.steps.methods.settings(), **self._described()}
        self._settings, *_ = processes.gathered(own)  # rank 0's, as rank 0 writes the checkpoints
        self._checkpoints = None if folder is None else Checkpoints(folder)
        if self._checkpoints is not None:
            check(self.checkpoint())

    def _save(self, epochs: int) -> None:
        """Write a checkpoint after this number of epochs."""
        self._epochs, self._is_between_epochs = epochs, True
        if self._checkpoints is not None:
            state = {**self.checkpoint(), 'random': processes.gathered(random_states(self._loaders()))}
            save(self._checkpoints, epochs, state)

    def checkpoint(self) -> Dict[str, Any]:
        """The state of the search, as saved in ``checkpoint_dir``. Among others it contains the states of ``'model'``,
        ``'mutator'`` (the logits and cuts), ``'optimizer'`` and ``'ctrl_optim'``, and the version of ``'nni_darts_ext'`` that
        wrote it."""
        return {**{name: state_of(part) for name, part in self._parts().items()},
                'nni_darts_ext': __version__, 'settings': self._settings, 'epochs': self._epochs,
                'history': self.history, 'stopped': self.steps.stopped,
                'sources': self.mutator.sources_found() if isinstance(self.mutator, Search) else {},
                'readers': self.mutator.readers_found() if isinstance(self.mutator, Search) else None,
                'selected': self.mutator.selected if isinstance(self.mutator, Search) else None,
                'methods': self.steps.methods.state_dict(),
                'random': [random_states(self._loaders())]}

    def _resume(self) -> int:
        """Resume from this trainer's own last epoch, or else from the last checkpoint. Returns the number of finished epochs.

        Without checkpoints, a trainer that has finished all its epochs starts again with the first one, as NNI's does.
        """
        file: Any = 'the end of the last epoch'
        if self._checkpoints is not None and not (self._epochs and self._is_between_epochs):
            file = self._checkpoints.resume(self._restore)
            epochs = 0 if file is None else self._epochs
        else:
            is_complete = self._checkpoints is None and self._epochs >= self.num_epochs
            epochs = 0 if is_complete else self._epochs
        agreed(epochs)
        if not epochs or not processes.is_first():
            return epochs
        _logger.log(logging.INFO if self._epochs < self.num_epochs else logging.WARNING,
                    'Resuming from %s: %d of %d epochs are done%s.', file, self._epochs, self.num_epochs,
                    '' if self.steps.stopped is None else f', and the search ended there ({self.steps.stopped})')
        return epochs

    def _restore(self, state: Any) -> None:
        """Resume from a state that :meth:`checkpoint` has returned. Raises :class:`CheckpointError` if the state belongs to
        another search, or is not a state of a search."""
        try:
            were = with_methods(state['settings'])
            if None in (were['seed'], self._settings['seed']):
                were = {**were, 'seed': self._settings['seed']}
            different = differences(were, self._settings)
            parts = self._parts()
            for name in ('model', 'mutator', 'loss'):
                if name in parts and name in state:
                    different += differences(state[name], parts[name].state_dict())
            if different:
                raise CheckpointError(f'It belongs to another search: {"; ".join(different)}.')
            check_lengths(state, self._of_callbacks())
            history, stopped, epochs = state['history'], state['stopped'], state['epochs']
            if type(epochs) is not int or epochs < 0 or not (stopped is None or isinstance(stopped, str)) \
                    or not isinstance(history, list) or not all(isinstance(epoch, dict) for epoch in history):
                raise CheckpointError("Its 'epochs', 'history' or 'stopped' has a wrong type or value.")
            missing = [name for name in self._loss_and_metrics() if name not in state]
            if missing:
                _logger.warning('The checkpoint does not contain the state of %s, which keeps its current state.',
                                ', '.join(missing))
            for name, part in parts.items():
                if name not in missing:
                    part.load_state_dict(fitted(state[name], part) if isinstance(part, nn.Module) else state[name])
            if isinstance(self.mutator, Search):
                self.mutator.name_sources(state['sources'])
                self.mutator.name_readers(state.get('readers'))
                self.mutator.selected = state.get('selected')
            self.steps.methods.load_state_dict(state['methods'] if 'methods' in state else state['followers'])
            restore_random_states(state['random'], self._loaders())
            self.history, self.steps.stopped, self._epochs, self._is_between_epochs = history, stopped, epochs, True
        except DartsExtError:
            raise
        except Exception as error:  # PyTorch and callbacks raise various errors for a state that does not fit
            raise CheckpointError(f'It does not fit this search: {type(error).__name__}: {error}') from error

    def _parts(self) -> Dict[str, Any]:
        """Everything whose state is saved."""
        return {**self._stepped(), **self._loss_and_metrics(), **self._of_callbacks()}

    def _stepped(self) -> Dict[str, Any]:
        return {'model': self.model, 'mutator': self.mutator, 'optimizer': self.optimizer, 'ctrl_optim': self.ctrl_optim}

    def _loss_and_metrics(self) -> Dict[str, Any]:
        """The loss and the metrics, if they have a state. Checkpoints of early versions do not contain it."""
        found = stateful({'loss': self.loss, 'metrics': self.metrics}, [self, *self._stepped().values()])
        return {name: part for name, part in found.items() if part.state_dict()}

    def _of_callbacks(self) -> Dict[str, Any]:
        return stateful({f'callbacks[{i}]': callback for i, callback in enumerate(self.callbacks)},
                        [self, *self._stepped().values(), *self._loss_and_metrics().values()])

    def _updated(self) -> List[Any]:
        """What the steps change: everything except what belongs to callbacks only, such as a teacher model. Schedulers of the
        optimisers are included."""
        optimizers = {id(self.optimizer), id(self.ctrl_optim)}
        return [*self._stepped().values(), *self._loss_and_metrics().values(),
                *(part for part in self._of_callbacks().values() if id(getattr(part, 'optimizer', None)) in optimizers)]

    def _loaders(self) -> List[Any]:
        return [self.train_loader, self.valid_loader, self.test_loader]

    def _described(self) -> Dict[str, Any]:
        """What else must be the same for a search to resume, under the names that messages use."""
        seed = torch.initial_seed()
        found: Dict[str, Any] = {'seed': seed if seed < 2 ** 32 else None,  # PyTorch's own random seed has 64 bits
                                 'the number of processes': processes.size(),
                                 'the optimizer': type(self.optimizer).__name__,
                                 'what has a state': sorted([*self._stepped(), *self._of_callbacks()]),
                                 'what of loss and metrics has a state': sorted(self._loss_and_metrics())}
        for i, group in enumerate(self.optimizer.param_groups):
            found.update((f'{name} of group {i} of the optimizer', value) for name, value in group.items()
                         if isinstance(value, (bool, int, float, tuple)))
        for name, loader in zip(('training', 'validation', 'held-out'), self._loaders()):
            found[f'the {name} data'] = describe(loader)
        return {**found, **(described(self.mutator) if isinstance(self.mutator, Search) else {})}


def check_lengths(states: Mapping[str, Any], parts: Mapping[str, Any]) -> None:
    """Raise :class:`CheckpointError` if a scheduler was made for another number of epochs or steps than it is now. Loading its
    state would restore the old number, and a cosine schedule rises again after ``T_max``."""
    different = [f'{length} of {name} was {before} and is {now}' for name in parts if name in states
                 for (length, before), (_, now) in zip(lengths(states[name]), lengths(parts[name].state_dict())) if before != now]
    if different:
        raise CheckpointError(f'It belongs to a search with another schedule: {"; ".join(different)}. A schedule cannot be '
                              'lengthened or shortened during a search. Build it with the same number of epochs or steps as '
                              'before, even if num_epochs is another now, or start a new search.')


def with_methods(settings: Mapping[str, Any]) -> Dict[str, Any]:
    """Settings with ``'methods'``, for which checkpoints of early versions have arguments of the trainer."""
    if 'methods' in settings:
        return dict(settings)
    methods: Dict[str, Any] = {'EarlyStopping': {}} if settings.get('early_stopping') else {}
    if settings.get('shrink') is not None:
        methods['Shrinking'] = {'schedule': settings['shrink']}
    return {**settings, 'methods': methods}


def described(search: Search) -> Dict[str, Any]:
    """The choices, which must be the same for a search to resume, in plain values."""
    found: Dict[str, Any] = {'the keys of the choices': sorted(str(choice.key) for choice in search.space)}
    for key, edge in search.space.edges.items():
        found[f'LayerChoice {key!r}'] = [str(name) for name in edge.names]
    for key, node in search.space.inputs.items():
        found[f'InputChoice {key!r}'] = [len(node.choose_from), node.n_chosen]
        if key in search.space.given:
            found[f'choose_from of InputChoice {key!r}'] = [str(source) for source in search.space.given[key]]
    return found


def fitted(state: Mapping[str, Any], module: nn.Module) -> Dict[str, Any]:
    """Adapt a state to a module in which some tensors have other second names, or none.

    NNI 2.9 and 2.10 register the first candidate of a LayerChoice under a second name. Second names that the module does not
    have are removed, and those that only the module has are added.
    """
    own = module.state_dict(keep_vars=True)  # with keep_vars, a tensor with two names is the same object under both
    first = {id(value): name for name, value in reversed(list(own.items())) if name in state}
    put_in = {name: state[first[id(value)]] for name, value in own.items() if name not in state and id(value) in first}
    return {**{name: value for name, value in state.items() if name in own or not _is_second(name, state, own)}, **put_in}


def _is_second(name: str, state: Mapping[str, Any], own: Mapping[str, Any]) -> bool:
    """Whether a name that the module has differs in only one part, and has the same values: ``a.first.b`` for ``a.second.b``."""
    value, parts = state[name], name.split('.')
    for other, its in state.items():
        others = other.split('.')
        differing = [one for one, another in zip(parts, others) if one != another]
        if other in own and len(parts) == len(others) and len(differing) == 1 and isinstance(value, Tensor) \
                and isinstance(its, Tensor) and torch.equal(value, its):
            return True
    return False


def save(checkpoints: Checkpoints, epochs: int, state: Any) -> None:
    """Write a checkpoint, by rank 0. The others wait for it, also if it fails."""
    try:
        if processes.is_first():
            checkpoints.save(epochs, state)
    finally:
        processes.barrier()


def agreed(epochs: int) -> int:
    """The number of finished epochs of this rank. Raises :class:`CheckpointError` if other ranks have found another one."""
    done = processes.gathered(epochs)
    if len(set(done)) > 1:
        raise CheckpointError(f'The processes found checkpoints of different numbers of epochs: {done}. Use a checkpoint_dir '
                              'on a file system that all processes share.')
    return epochs


def restore_random_states(states: Sequence[Mapping[str, Any]], loaders: Sequence[Any] = ()) -> None:
    """Set the random states of this process. ``states`` are those of all processes that searched before, by rank."""
    if len(states) == processes.size():
        set_random_states(states[processes.rank()], loaders)
    else:
        _logger.warning('The checkpoint was written by %d processes, but there are %d now: random states are not restored.',
                        len(states), processes.size())


def differences(were: Mapping[str, Any], are: Mapping[str, Any]) -> List[str]:
    """Descriptions of the settings, or tensors, that are in both mappings and differ."""
    return [f'{name} was {_shown(were[name])} and is {_shown(are[name])}' for name in were
            if name in are and _shown(were[name]) != _shown(are[name])]


def _shown(value: Any) -> str:
    return f'a {value.dtype} of shape {tuple(value.shape)}' if isinstance(value, Tensor) else repr(value)
