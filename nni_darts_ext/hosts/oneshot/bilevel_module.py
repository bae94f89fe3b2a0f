"""The steps of a search in Lightning's loop, and its checkpoints."""

from __future__ import annotations

from contextlib import contextmanager
from typing import Any, Dict, Iterator, List, Mapping, Optional, Sequence, Tuple

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from ... import __version__
from ...core.bilevel.gradients import Gradients, check_holdings, check_steps
from ...core.edge import memory_format
from ...core.logits import Logits
from ...core.random_states import random_states
from ...core.space import candidates_in
from ...errors import CheckpointError, TrainingError
from ...loop import processes
from ...loop.guard import Guard
from ...loop.meters import RunningAverages
from ...loop.resuming import check_lengths, described, differences, fitted, restore_random_states, with_methods
from ...loop.steps import Host, Steps
from ...methods import WEIGHTS
from .callbacks import of_module
from .evaluation import evaluated
from .oneshot_search import OneShotSearch
from .options import Options
from .unlogged import Unlogged

CHECKPOINT = 'nni_darts_ext'
"""The key of the search's own entry in Lightning's checkpoints."""


class BilevelSteps(Host):
    """A mixin for NNI's one-shot Lightning modules: an architecture step and a weight step, each on its own parameters."""

    options: Options
    search: OneShotSearch
    trainer: Any
    stopped: Optional[str] = None
    """Why the search ended before its last epoch."""
    _saved: Dict[str, Any] = {}  # noqa: RUF012  never changed while it is the class's
    """From the checkpoint to resume from: the states of schedulers and methods, and the random states of all processes."""
    _steps: Optional[Steps] = None
    unlogged: Unlogged
    _index = 0
    """The index of the current batch."""

    # What a family of hosts defines ----------------------------------------------------------------------------------------

    def inner(self) -> Any:
        """The user's Lightning module, whose ``training_step`` gives the losses."""
        raise NotImplementedError

    def advance_weights(self, loss: Tensor, batch_idx: int) -> None:
        """Backward pass, clipping and optimiser step as in NNI's own module."""
        raise NotImplementedError

    # Lightning's loop ------------------------------------------------------------------------------------------------------

    def configure_callbacks(self) -> List[Any]:
        return of_module(self.trainer, self.options.progress)

    def configure_architecture_optimizers(self) -> torch.optim.Optimizer:
        return self.options.optimizer(self.arch_parameters(), self.arc_learning_rate)  # type: ignore[attr-defined]

    def configure_optimizers(self) -> Any:
        """Called by Lightning after it has read a checkpoint and before it restores schedulers from it. Raises
        :class:`CheckpointError` if a scheduler was made for another number of epochs or steps."""
        configured = super().configure_optimizers()  # type: ignore[misc]
        names = {f'lr_schedulers[{i}]': scheduler for i, scheduler in enumerate(_schedulers(configured))}
        check_lengths(dict(zip(names, self._saved.pop('schedules', ()))), names)
        return configured

    def on_fit_start(self) -> Any:
        result = super().on_fit_start()  # type: ignore[misc]
        self._restore_random_states()  # already here, as some versions of Lightning read data before on_train_start
        return result

    def on_train_start(self) -> Any:
        self._restore_random_states()
        check_steps(self.trainer.optimizers)
        check_holdings([self.architecture_optimizer()], [], self.arch_parameters(), self.inner())  # type: ignore[attr-defined]
        # Lightning appends the callbacks of a module to those of the user.
        self.trainer.callbacks = sorted(self.trainer.callbacks, key=lambda one: not getattr(one, 'comes_first', False))
        options, model, device = self.options, self.inner().model, self.device  # type: ignore[attr-defined]
        if device.type == 'cpu' and (options.channels_last or options.compile):
            memory_format.warn_of_overruns(model, candidates_in(model, self.search.space),
                                           'channels_last' if options.channels_last else 'compile')
        guard = Guard(device, lambda: [self, *self.trainer.optimizers], self.search.choices)
        vars(self).update(_steps=Steps(self, self.search, self.search.start(), options.unrolled, guard),
                          unlogged=Unlogged(self.inner()))
        self.steps.stopped = self.stopped
        self.steps.begin(None if self.trainer.max_epochs == -1 else self.trainer.max_epochs)
        self.steps.methods.load_state_dict(self._saved.pop('methods', {}))
        self.trainer.should_stop = self.trainer.should_stop or self.stopped is not None
        return super().on_train_start()  # type: ignore[misc]

    @property
    def steps(self) -> Steps:
        """The steps of this search, created when it starts."""
        assert self._steps is not None
        return self._steps

    def on_train_end(self) -> Any:
        self.steps.methods.end()
        return super().on_train_end()  # type: ignore[misc]

    def on_train_epoch_start(self) -> Any:
        self.steps.before_epoch(self.trainer.current_epoch)
        return super().on_train_epoch_start()  # type: ignore[misc]

    def on_validation_start(self) -> Any:
        if self._steps is not None:
            self.steps.begin_validation()
        return super().on_validation_start()  # type: ignore[misc]

    def end_epoch(self) -> None:
        """Called at the end of each epoch, before the callbacks of the user."""
        self.steps.after_epoch(self._metrics())
        self.stopped = self.steps.stopped
        self.trainer.should_stop = self.trainer.should_stop or self.stopped is not None

    def record_epoch(self) -> None:
        """Called after the callbacks of the user and before a checkpoint is written."""
        self.steps.record(self._metrics())

    def _metrics(self) -> Dict[str, Any]:
        means = RunningAverages()
        logged = {name: float(value) for name, value in self.trainer.callback_metrics.items() if not name.startswith('prob/')}
        for of_rank in processes.gathered(logged):
            means.add(of_rank)
        return {'train': means.values()}

    # Checkpoints: Lightning saves weights, logits, cuts, optimisers, schedulers and the epoch; the rest is added here ---------

    def on_save_checkpoint(self, checkpoint: Dict[str, Any]) -> None:
        super().on_save_checkpoint(checkpoint)  # type: ignore[misc]
        checkpoint[CHECKPOINT] = {'nni_darts_ext': __version__, 'settings': self._described(), 'stopped': self.stopped,
                                  'methods': self.search.methods.state_dict(), 'random': processes.gathered(random_states())}

    def on_load_checkpoint(self, checkpoint: Dict[str, Any]) -> None:
        """Called by Lightning before it loads weights, logits and optimisers. Raises :class:`CheckpointError` if the checkpoint
        was not written by this strategy, or belongs to another search."""
        its = checkpoint.get(CHECKPOINT)
        if its is None:
            raise CheckpointError('The checkpoint was not written by a search with nni_darts_ext.DARTS, so the search cannot '
                                  'resume from it. Pass one that such a search has written.')
        tensors = {name: value for name, value in checkpoint['state_dict'].items() if isinstance(value, Tensor)}
        different = differences({**tensors, **with_methods(its['settings'])},
                                {**self.state_dict(), **self._described()})  # type: ignore[attr-defined]
        if different:
            raise CheckpointError(f'The checkpoint belongs to another search: {"; ".join(different)}. Pass a checkpoint of this '
                                  'search, or no checkpoint to start from the beginning.')
        host: Any = self
        checkpoint['state_dict'] = fitted(checkpoint['state_dict'], host)
        super().on_load_checkpoint(checkpoint)  # type: ignore[misc]
        self._saved = {'schedules': checkpoint.get('lr_schedulers', ()), 'random': its['random'],
                       'methods': its['methods'] if 'methods' in its else its['followers']}
        self.stopped = its['stopped']

    def _described(self) -> Dict[str, Any]:
        """What must be the same for a search to resume."""
        return {**described(self.search), 'unrolled': self.options.unrolled, 'methods': self.search.methods.settings()}

    def _restore_random_states(self) -> None:
        if 'random' in self._saved:
            restore_random_states(self._saved.pop('random'))

    # The steps -------------------------------------------------------------------------------------------------------------

    def take_steps(self, batch: Any, batch_idx: int, with_architecture: bool = True) -> Any:
        """Take both steps, or only the weight step. Returns the output of the user's ``training_step`` for the training batch."""
        if self.options.channels_last:
            batch = memory_format.channels_last(batch)
        self._index = batch_idx
        if batch_idx == 0:  # some versions of Lightning do not call train() at the start of an epoch
            self.steps.look(self.trainer.current_epoch)
            self.unlogged.look()
            for module in self.modules():  # type: ignore[attr-defined]
                if isinstance(module, Logits):
                    module.train(module.training)
        with _without_reducer(self.trainer.model):
            return self.steps.take(batch_idx, batch['train'], batch['val'], with_architecture)

    def run_batch(self, batch: Any, phase: str) -> Tuple[Any, Tensor]:
        self.resample()  # type: ignore[attr-defined]
        outputs = self.inner().training_step(batch, 2 * self._index + (phase == WEIGHTS))
        return outputs, outputs['loss'] if isinstance(outputs, dict) else outputs

    def network(self) -> nn.Module:
        return self  # type: ignore[return-value]

    def architecture_optimizer(self) -> Any:
        return self.architecture_optimizers()  # type: ignore[attr-defined]

    def weight_optimizers(self) -> Sequence[torch.optim.Optimizer]:
        """The user's optimisers that take this step."""
        own = set(self.arch_parameters())  # type: ignore[attr-defined]
        found = [optimizer for optimizer in self.trainer.optimizers
                 if not own.issuperset(parameter for group in optimizer.param_groups for parameter in group['params'])]
        turn = getattr(self, '_optimizer_progress', None)  # some versions of NNI let several optimisers take turns
        return found if turn is None else [found[turn % len(found)]]

    def gradients(self, loss: Tensor, logits: Sequence[nn.Parameter]) -> Gradients:
        """Computed by Lightning's backward pass, which scales losses in 16-bit precision."""
        self.architecture_optimizer().zero_grad()
        self.manual_backward(loss)
        return [parameter.grad for parameter in logits]

    def step_weights(self, loss: Tensor, weights: Sequence[nn.Parameter]) -> None:
        self._weights = weights
        self.advance_weights(loss, self._index)
        self._weights = ()

    def set_training(self) -> None:
        self.train()  # type: ignore[attr-defined]

    def validated(self) -> Mapping[str, float]:
        self.eval()  # type: ignore[attr-defined]
        return evaluated(self, self._index + 1)

    _weights: Sequence[nn.Parameter] = ()
    """The weights of the weight step during its backward pass, else empty."""

    def on_after_backward(self) -> Any:
        """Averages the gradients of the weight step over all processes."""
        processes.average_gradients(self._weights)
        return super().on_after_backward()  # type: ignore[misc]

    def manual_backward(self, loss: Tensor, *args: Any, **kwargs: Any) -> None:
        super().manual_backward(loss, *args, **kwargs)  # type: ignore[misc]
        if self._weights:
            self.steps.see_gradient(self._weights)

    def backward(self, loss: Tensor, *args: Any, **kwargs: Any) -> None:
        if loss.requires_grad:
            super().backward(loss, *args, **kwargs)  # type: ignore[misc]
        elif self._weights or any(parameter.requires_grad for parameter in self.steps.logits):
            self.steps.guard.miss('loss')

    def is_scaled(self) -> bool:
        return getattr(getattr(self.trainer, 'precision_plugin', None), 'scaler', None) is not None


@contextmanager
def _without_reducer(model: nn.Module) -> Iterator[None]:
    """Keep ``DistributedDataParallel`` from averaging gradients in backward passes: it expects one over all parameters in each
    step, but a search has several, each over some parameters, and averages the gradients itself. Raises :class:`TrainingError` if
    there are several ranks, but the model that Lightning runs is not wrapped by it."""
    if isinstance(model, DistributedDataParallel):
        with model.no_sync():
            yield
        return
    if processes.size() > 1:
        raise TrainingError(f'The {processes.size()} processes run a {type(model).__name__}. A search needs the whole model in '
                            'each process: pass strategy="ddp", "ddp_spawn" or "ddp_fork" to the Trainer.')
    yield


def _schedulers(configured: Any) -> Iterator[Any]:
    """The schedulers in what ``configure_optimizers`` returned, in any form that Lightning or NNI allows."""
    if hasattr(configured, 'state_dict') and hasattr(configured, 'last_epoch'):
        yield configured
    elif isinstance(configured, (list, tuple)):
        for part in configured:
            yield from _schedulers(part)
    elif isinstance(configured, dict):
        yield from _schedulers(configured.get('lr_scheduler', configured.get('scheduler')))
    else:
        yield from _schedulers(getattr(configured, 'scheduler', ()))
