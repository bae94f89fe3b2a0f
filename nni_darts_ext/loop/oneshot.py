"""What a one-shot strategy of any host adds to a model: the logits of its edges, and what they derive."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field, fields
from typing import Any, Dict, Iterable, Iterator, List, Mapping, Optional, Sequence, Tuple, Union

import torch
from torch import Tensor, nn

from ..core import files
from ..core.bilevel.curvature import dominant_eigenvalue, needing_second_derivatives
from ..core.bilevel.estimators import choose
from ..core.bilevel.gradients import all_but, check_holdings, check_steps, frozen, norm_of, set_gradients, stepping
from ..core.edge import compilation, memory_format, recomputation
from ..core.edge.compilation import Compile, CompiledMixture
from ..core.logits import Logits
from ..core.relaxation import Relaxation, relax
from ..core.search import Search
from ..core.space import NO_KEY, Choice, Name, SearchSpace, candidates_in
from ..errors import CheckpointError, SearchSpaceError, TrainingError
from . import processes
from .followers import of_search
from .following import Follower, after_epoch, load_states, states
from .guard import Guard
from .meters import RunningAverages
from .resuming import check_lengths, described, differences, fitted, go_on_at_random, random_states
from .shrinking import stages
from .unlogged import Unlogged

ZERO_OP = 'zero_op'
"""The zero op's name among the logged probabilities."""
CHECKPOINT = 'nni_darts_ext'
"""The key of what is ours in a checkpoint of Lightning's."""


@dataclass(frozen=True)
class Options:
    """The arguments of a strategy that are ours; ``DOCUMENTATION`` of :mod:`nni_darts_ext.loop.strategy` says what they mean."""

    zero_op_wins: bool = False
    choose_from: Optional[Mapping[str, Sequence[str]]] = None
    unrolled: Union[bool, str] = False
    channels_last: bool = False
    recompute: bool = False
    compile: Compile = False
    shrink: Optional[Mapping[int, int]] = None
    run_dir: Optional[files.Path] = None
    eigenvalue: bool = False
    early_stopping: bool = False
    cuts: List[Tuple[str, str, Name]] = field(default_factory=list, init=False)
    """The calls of ``cut`` and ``restore``, by name, before there was a model."""

    def __post_init__(self) -> None:
        needs = needing_second_derivatives(self.unrolled, self.eigenvalue, self.early_stopping)
        recomputation.check(self.recompute, needs)
        compilation.check(self.compile, needs)
        self.followers()

    def followers(self) -> List[Follower]:
        """What the options ask for beside the steps."""
        settings = {one.name: getattr(self, one.name) for one in fields(self) if one.init and one.name != 'run_dir'}
        return of_search(self.shrink, self.early_stopping, self.run_dir, settings)

    @classmethod
    def taken_from(cls, arguments: Dict[str, Any]) -> Options:
        """Those among a strategy's arguments, which are left with the host's."""
        return cls(**{one.name: arguments.pop(one.name) for one in fields(cls) if one.init and one.name in arguments})


class OneShotSearch(Search, nn.Module):
    """The edges and inputs that a strategy has taken up in a model; none before :meth:`take`."""

    def __init__(self, options: Options) -> None:
        super().__init__()
        self._options = options
        self.zero_op_wins = options.zero_op_wins
        self.choices = Logits()
        self.space = SearchSpace([], may_lack_edges=True)
        self.is_taken = False
        self.is_begun = False
        self.followers: List[Follower] = []

    def take(self, model: nn.Module, taken: Mapping[nn.Module, Choice], labels: Iterable[str]) -> None:
        """Check what was taken up, draw its logits and relax it.

        Parameters
        ----------
        model
            The model that they are in.
        taken
            The choices by module; those that are :class:`FedInputs` relax themselves.
        labels
            All labels of the model, which ``choose_from`` may name.
        """
        self.is_taken = True
        self.space = SearchSpace(taken.values(), labels, choose_from=self._options.choose_from, may_lack_edges=True)
        self.space.warn_of_narrowing()
        for edge in self.space.edges.values():
            if ZERO_OP in edge.names:
                raise SearchSpaceError(f'LayerChoice {edge.key!r} has a candidate named {ZERO_OP!r}, the name under which the '
                                       'zero op is logged. Give the candidate another name.')
            self.choices.add(edge.key, len(edge.names))
        for change, key, candidate in self._options.cuts:
            getattr(self, change)(key, candidate)
        relaxation = Relaxation(self.choices, self.space, self._options.recompute,
                                CompiledMixture(self._options.compile) if self._options.compile else None)
        relaxation.watch(model)
        for module, choice in taken.items():
            if isinstance(module, FedInputs):
                module.relaxation = relaxation
            else:
                relax(module, choice, relaxation)

    def get_extra_state(self) -> Dict[str, Any]:
        """What the first forward pass has found out, for a process that makes none; plain strings, whatever labels are."""
        return {'sources': self.sources_found(), 'readers': self.readers_found()}

    def set_extra_state(self, state: Mapping[str, Any]) -> None:
        self.name_sources(state['sources'])
        self.name_readers(state.get('readers'))

    def named_probabilities(self) -> Dict[str, Dict[Any, Tensor]]:
        """For each edge its candidates' probabilities by name and the zero op's; differentiable scalars."""
        return {key: dict(zip((*self.space.edges[key].names, ZERO_OP), self.choices.probabilities(key).unbind()))
                for key in self.space.edges}

    def numbers(self) -> Dict[str, Dict[Any, float]]:
        """:meth:`named_probabilities` as plain numbers, all read at once."""
        probabilities = self.named_probabilities()
        tensors = [p for of_edge in probabilities.values() for p in of_edge.values()]
        numbers = iter(torch.stack(tensors).tolist() if tensors else [])
        return {label: {name: next(numbers) for name in of_edge} for label, of_edge in probabilities.items()}


class FedInputs:
    """Put before a host's own mixed InputChoice, whose logits decide unless the first forward pass shows edges behind it."""

    relaxation: Relaxation
    label: str
    how: str
    """The reduction of the InputChoice. Some hosts have a method of that name."""

    @classmethod
    def instead_of(cls, module: Any, name: str, memo: Dict[str, Any], mutate_kwargs: Dict[str, Any]) -> Any:
        """The host's mixed InputChoice for one that names no sources and that the host can mix, else None."""
        named = any(source != NO_KEY for source in getattr(module, 'choose_from', ()))
        if named or module.reduction not in ('sum', 'mean'):
            return None
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')  # of n_chosen, which is put right below
            try:
                mixed = cls.mutate(module, name, memo, mutate_kwargs)  # type: ignore[attr-defined]
            except ValueError:  # it is not like another one of its label: the search space will say in what
                return None
        if mixed is not None:
            mixed.n_chosen, mixed.how = module.n_chosen, module.reduction
        return mixed

    def forward(self, inputs: List[Any]) -> Any:
        self.relaxation.note(self.label, inputs)
        if self.relaxation.is_fed(self.label):
            return self.relaxation.inputs(self.label, inputs, self.how)
        return super().forward(inputs)  # type: ignore[misc]

    def export(self, memo: Dict[str, Any]) -> Dict[str, Any]:
        return {} if self.relaxation.is_fed(self.label) else super().export(memo)  # type: ignore[misc]

    def export_probs(self, memo: Dict[str, Any]) -> Dict[str, Any]:
        return {} if self.relaxation.is_fed(self.label) else super().export_probs(memo)  # type: ignore[misc]


class BilevelSteps:
    """Put before a host's one-shot Lightning module: an architecture step and a weight step that keep to their own parameters."""

    options: Options
    search: OneShotSearch
    trainer: Any
    stopped: Optional[str] = None
    """Why the search ended before its last epoch."""
    _states: Mapping[str, Any] = {}
    """The states of the followers in a checkpoint that the search is about to go on from."""
    _schedules: Sequence[Mapping[str, Any]] = ()
    """Those of the schedulers in it."""
    _random: Optional[Sequence[Mapping[str, Any]]] = None
    """The random states in it, of every process."""
    _collapse: Mapping[str, Any] = {}
    """The indicators of the epoch that are no matter of the logits alone."""
    _of_step: Sequence[nn.Parameter] = ()
    """All parameters. To look for them takes as long as many a candidate, and so they are looked for once in each step."""

    def _inner(self) -> Any:
        """The user's Lightning module, whose ``training_step`` gives the losses."""
        raise NotImplementedError

    def _advance_weights(self, loss: Tensor, batch_idx: int) -> None:
        """The host's way through backward pass, clipping and optimiser."""
        raise NotImplementedError

    def _penalized(self, loss: Tensor) -> Tensor:
        """The loss of the architecture step."""
        return loss

    def followers(self) -> List[Follower]:
        """Those of this search, made when it begins."""
        if not self.search.is_begun:
            self.search.followers, self.search.is_begun = self.options.followers(), True
        return self.search.followers

    def configure_optimizers(self) -> Any:
        """Called by Lightning after it has read a checkpoint and before it restores schedulers from it.

        Raises
        ------
        CheckpointError
            A scheduler was made for another number of epochs or steps.
        """
        configured = super().configure_optimizers()  # type: ignore[misc]
        names = {f'lr_schedulers[{i}]': scheduler for i, scheduler in enumerate(_schedulers(configured))}
        check_lengths(dict(zip(names, self._schedules)), names)
        self._schedules = ()
        return configured

    def on_fit_start(self) -> Any:
        result = super().on_fit_start()  # type: ignore[misc]
        self._go_on_at_random()  # here, for some Lightning begin to read the data before the training starts
        return result

    @property
    def guard(self) -> Guard:
        """That of this search, made when it begins."""
        if '_guard' not in vars(self):
            vars(self)['_guard'] = Guard(self.device, lambda: [self, *self.trainer.optimizers],  # type: ignore[attr-defined]
                                         self.search.choices)
        return vars(self)['_guard']

    @property
    def unlogged(self) -> Unlogged:
        """What keeps the architecture steps out of what the user's module logs."""
        if '_unlogged' not in vars(self):
            vars(self)['_unlogged'] = Unlogged(self._inner())
        return vars(self)['_unlogged']

    def on_train_start(self) -> Any:
        self._go_on_at_random()
        epochs = self.trainer.max_epochs
        logits = self.arch_parameters()  # type: ignore[attr-defined]
        steps = self.architecture_optimizers()  # type: ignore[attr-defined]
        check_steps(self.trainer.optimizers)
        check_holdings([steps], [], logits, self._inner())
        # Lightning appends the callbacks of a module to those of the user.
        self.trainer.callbacks = sorted(self.trainer.callbacks, key=lambda one: not getattr(one, 'comes_first', False))
        options, model = self.options, self._inner().model
        if self.device.type == 'cpu' and (options.channels_last or options.compile):  # type: ignore[attr-defined]
            memory_format.warn_of_overruns(model, candidates_in(model, self.search.space),
                                    'channels_last' if options.channels_last else 'compile')
        for follower in self.followers():
            follower.begin(self.search, None if epochs == -1 else epochs)
        load_states(self.followers(), self._states)
        self._states = {}
        self.trainer.should_stop = self.trainer.should_stop or self.stopped is not None
        return super().on_train_start()  # type: ignore[misc]

    def on_train_end(self) -> Any:
        for follower in self.followers():
            follower.end()
        return super().on_train_end()  # type: ignore[misc]

    def on_train_epoch_start(self) -> Any:
        for follower in self.followers():
            follower.before_epoch(self.trainer.current_epoch)
        return super().on_train_epoch_start()  # type: ignore[misc]

    def end_epoch(self) -> None:
        """To be called at the end of each epoch, before the callbacks of the user."""
        self.guard.read()
        self._collapse = {'collapse': {'eigenvalue': self._eigenvalue()}} if self._watches_curvature() else {}
        self.stopped = after_epoch(self.followers(), self.trainer.current_epoch, self._of_epoch())
        self.trainer.should_stop = self.trainer.should_stop or self.stopped is not None

    def record_epoch(self) -> None:
        """To be called after them, before a checkpoint is written."""
        of_epoch = self._of_epoch()
        for follower in self.followers():
            follower.record(self.trainer.current_epoch, of_epoch)

    def _of_epoch(self) -> Dict[str, Any]:
        metrics = RunningAverages()
        logged = {name: float(value) for name, value in self.trainer.callback_metrics.items() if not name.startswith('prob/')}
        for of_rank in processes.gathered(logged):
            metrics.add(of_rank)
        return {'train': metrics.values(), **self._collapse}

    # Lightning's checkpoints hold weights, logits, cuts, optimisers, schedulers and the epoch. They get the rest here.

    def on_save_checkpoint(self, checkpoint: Dict[str, Any]) -> None:
        super().on_save_checkpoint(checkpoint)  # type: ignore[misc]
        checkpoint[CHECKPOINT] = {'settings': self._described(), 'stopped': self.stopped,
                                  'followers': states(self.followers()),
                                  'random': processes.gathered(random_states())}

    def on_load_checkpoint(self, checkpoint: Dict[str, Any]) -> None:
        """Called by Lightning before it loads weights, logits and optimisers.

        Raises
        ------
        CheckpointError
            The checkpoint is none of this strategy, or of another search space.
        """
        its = checkpoint.get(CHECKPOINT)
        if its is None:
            raise CheckpointError('The search cannot go on from a checkpoint that another strategy or a plain training wrote. '
                                  'Give one of nni_darts_ext.DARTS.')
        tensors = {name: value for name, value in checkpoint['state_dict'].items() if isinstance(value, Tensor)}
        different = differences({**tensors, **its['settings']},
                                {**self.state_dict(), **self._described()})  # type: ignore[attr-defined]
        if different:
            raise CheckpointError(f'The checkpoint is of another search: {"; ".join(different)}. Give one of this search, or '
                                  'none to start anew.')
        host: Any = self
        checkpoint['state_dict'] = fitted(checkpoint['state_dict'], host)
        super().on_load_checkpoint(checkpoint)  # type: ignore[misc]
        self._schedules = checkpoint.get('lr_schedulers', ())
        self.stopped, self._states, self._random = its['stopped'], its['followers'], its['random']

    def _described(self) -> Dict[str, Any]:
        """What must be the same for a search to go on."""
        options = self.options
        return {**described(self.search), 'unrolled': options.unrolled, 'early_stopping': options.early_stopping,
                'shrink': None if options.shrink is None else stages(options.shrink)}

    def _go_on_at_random(self) -> None:
        if self._random is not None:
            go_on_at_random(self._random)
        self._random = None

    def take_steps(self, batch: Any, batch_idx: int, with_architecture: bool = True) -> Any:
        """Both steps, or the weight step alone. Returns what the user's ``training_step`` gave for the training batch."""
        host: Any = self
        logits = self.arch_parameters()  # type: ignore[attr-defined]
        weights = all_but(logits, host)
        self._of_step = [*logits, *weights]
        self.guard.begin_step(self.trainer.current_epoch, batch_idx)
        if self.options.channels_last:
            batch = memory_format.channels_last(batch)
        if batch_idx == 0:  # of an epoch: not every Lightning calls train() then
            self._watched = batch['val'] if self._watches_curvature() else None
            self.unlogged.look()
            for module in self.modules():  # type: ignore[attr-defined]
                if isinstance(module, Logits):
                    module.train(module.training)
        if self.search.choices.forget(self.architecture_optimizers()):  # type: ignore[attr-defined]
            set_gradients(weights, [None] * len(weights))  # of what was cut: some hosts and versions of PyTorch would leave zeros
        with processes.without_reducer(self.trainer.model):
            if with_architecture:
                self._architecture_step(batch, batch_idx, logits, weights)
            with frozen(logits):
                outputs = self._outputs(batch['train'], 2 * batch_idx + 1)
                loss = self._seen('training loss', _loss(outputs))
                with stepping(weights):
                    self._advance_weights(loss, batch_idx)
        torch.clear_autocast_cache()  # for those who run the model next, in a validation say
        return outputs

    def on_after_backward(self) -> Any:
        """The gradients of this step, whose parameters alone are not frozen, become those of all processes."""
        processes.average_gradients(parameter for parameter in self._of_step if parameter.requires_grad)
        return super().on_after_backward()  # type: ignore[misc]

    def _architecture_step(self, batch: Any, batch_idx: int, logits: List[nn.Parameter], weights: List[nn.Parameter]) -> None:
        host: Any = self

        def training() -> Tensor:
            with self.unlogged():
                return self._seen('training loss', _loss(self._outputs(batch['train'], 2 * batch_idx + 1)))

        def validation() -> Tensor:
            with self.unlogged():
                loss = _loss(self._outputs(batch['val'], 2 * batch_idx))
            return self._seen('validation loss', self._penalized(loss))

        optimizer = host.architecture_optimizers()
        optimizer.zero_grad()
        unrolled = choose(self.options.unrolled)
        if unrolled is None:
            with frozen(weights):
                host.manual_backward(validation())
        else:
            if self._is_scaled():
                raise TrainingError('The second order takes gradients of gradients, which the scaled losses of 16-bit floats '
                                    'do not give. Train in bfloat16 or in full precision, or use unrolled=False.')
            set_gradients(logits, unrolled(training, validation, logits, self._weight_optimizers(logits), host,
                                           processes.average))
            self._see_gradient()
        optimizer.step()

    def _watches_curvature(self) -> bool:
        return self.options.eigenvalue or self.options.early_stopping

    def _eigenvalue(self) -> float:
        """On the first validation batch of the epoch, as the architecture steps see it."""
        def validation() -> Tensor:
            with self.unlogged():
                return self._penalized(_loss(self._outputs(self._watched, 0)))
        host: Any = self
        host.train()
        return dominant_eigenvalue(validation, self.arch_parameters(), host, processes.average)  # type: ignore[attr-defined]

    def manual_backward(self, loss: Tensor, *args: Any, **kwargs: Any) -> None:
        super().manual_backward(loss, *args, **kwargs)  # type: ignore[misc]
        self._see_gradient()

    def backward(self, loss: Tensor, *args: Any, **kwargs: Any) -> None:
        if loss.requires_grad:
            super().backward(loss, *args, **kwargs)  # type: ignore[misc]
        elif any(parameter.requires_grad for parameter in self._of_step):
            self.guard.miss('loss')

    def _see_gradient(self) -> None:
        """That of the step under way: what the other step owns is frozen."""
        gradients = [p.grad for p in self._of_step if p.requires_grad and p.grad is not None]
        self._seen('norm of the gradient', norm_of(gradients), shared=True)

    def _seen(self, what: str, value: Tensor, shared: bool = False) -> Tensor:
        return value if self._is_scaled() else self.guard.see(what, value, shared)

    def _is_scaled(self) -> bool:
        """Whether a scaler of 16-bit floats looks after values that are not finite, by leaving steps out."""
        return getattr(getattr(self.trainer, 'precision_plugin', None), 'scaler', None) is not None

    def _outputs(self, batch: Any, batch_idx: int) -> Any:
        torch.clear_autocast_cache()  # of casts of weights that have moved since, or that were made without a graph
        self.resample()  # type: ignore[attr-defined]
        return self._inner().training_step(batch, batch_idx)

    def _weight_optimizers(self, logits: List[nn.Parameter]) -> List[torch.optim.Optimizer]:
        """Those of the user's optimisers that step next."""
        own = set(logits)
        found = [optimizer for optimizer in self.trainer.optimizers
                 if not own.issuperset(parameter for group in optimizer.param_groups for parameter in group['params'])]
        turn = getattr(self, '_optimizer_progress', None)  # where the host lets several take turns
        return found if turn is None else [found[turn % len(found)]]


def _loss(outputs: Any) -> Tensor:
    return outputs['loss'] if isinstance(outputs, dict) else outputs


def _schedulers(configured: Any) -> Iterator[Any]:
    """The schedulers in whatever ``configure_optimizers`` of Lightning, or NNI in its place, may return."""
    if hasattr(configured, 'state_dict') and hasattr(configured, 'last_epoch'):
        yield configured
    elif isinstance(configured, (list, tuple)):
        for part in configured:
            yield from _schedulers(part)
    elif isinstance(configured, dict):
        yield from _schedulers(configured.get('lr_scheduler', configured.get('scheduler')))
    else:
        yield from _schedulers(getattr(configured, 'scheduler', ()))
