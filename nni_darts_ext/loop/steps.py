"""The two steps of DARTS (Liu et al., algorithm 1) and the events of an epoch, for the trainer's loop and for Lightning's."""

from __future__ import annotations

import logging
from contextlib import nullcontext
from typing import Any, ContextManager, Dict, Iterable, List, Mapping, Optional, Sequence, Tuple, Union

import torch
from torch import Tensor, nn

from ..core import files
from ..core.bilevel.estimators import choose, first_order
from ..core.bilevel.gradients import Gradients, all_but, frozen, gradients_of, norm_of, set_gradients, stepping
from ..core.bilevel.side_effects import with_modes_restored
from ..core.search import Search
from ..errors import MethodError, TrainingError
from ..methods import ARCHITECTURE, READING, VALIDATION, WEIGHTS, EndOfEpoch, Method, Methods
from ..methods.base import overrides
from ..methods.unmoved_logits import UnmovedLogits
from ..run.recorder import Recording
from . import processes
from .guard import Guard
from .plain import PlainDarts

_logger = logging.getLogger(__name__)


class Host:
    """What the steps need from a loop: how to compute a loss and its gradients, and which optimisers step."""

    def run_batch(self, batch: Any, phase: str) -> Tuple[Any, Tensor]:
        """Run the supernet on a batch. Returns a result, which :meth:`Steps.take` returns in turn, and the loss."""
        raise NotImplementedError

    def network(self) -> nn.Module:
        """All modules that computing a loss runs."""
        raise NotImplementedError

    def architecture_optimizer(self) -> Any:
        """The optimiser of the logits, which are all its parameters."""
        raise NotImplementedError

    def weight_optimizers(self) -> Sequence[torch.optim.Optimizer]:
        """The optimisers that take the next weight step."""
        raise NotImplementedError

    def before_weight_pass(self) -> None:
        """Called before the forward pass of the weight step."""

    def step_weights(self, loss: Tensor, weights: Sequence[nn.Parameter]) -> None:
        """The backward pass of the weight step, clipping and the step of the optimiser."""
        raise NotImplementedError

    def gradients(self, loss: Tensor, logits: Sequence[nn.Parameter]) -> Gradients:
        """The gradients of the first order's architecture step, on this process alone."""
        return gradients_of(loss, logits)

    def penalized(self, loss: Tensor) -> Tensor:
        """The loss of the architecture step including the host's own penalty."""
        return loss

    def is_scaled(self) -> bool:
        """Whether a gradient scaler of 16-bit precision is used, which skips steps with gradients that are not finite."""
        return False

    def unlogged(self) -> ContextManager[Any]:
        """A context in which passes are not logged, for the architecture step."""
        return nullcontext()

    def set_training(self) -> None:
        """Put the supernet into training mode."""
        raise NotImplementedError

    def validated(self) -> Mapping[str, float]:
        """See :attr:`nni_darts_ext.methods.base.EndOfEpoch.evaluate`. Leaves the supernet in evaluation mode."""
        raise NotImplementedError


class Steps:
    """The steps and epochs of a search.

    Parameters
    ----------
    host
        The loop.
    search
        A :class:`nni_darts_ext.core.search.Search`, or a mutator from elsewhere, such as NNI's own.
    methods
        The methods of the search. The steps update their position (:class:`~nni_darts_ext.methods.base.At`) and call their hooks.
    unrolled
        The order, see :func:`nni_darts_ext.core.bilevel.estimators.choose`.
    guard
        Ends the search when a loss is not finite.
    """

    def __init__(self, host: Host, search: Any, methods: Methods, unrolled: Union[bool, str], guard: Guard) -> None:
        self._host, self._search, self.methods, self.guard = host, search, methods, guard
        self._unrolled = choose(unrolled)
        self.stopped: Optional[str] = None
        self.logits: List[nn.Parameter] = []
        self.weights: List[nn.Parameter] = []
        """All other parameters of the network or of its optimisers. Cached, as finding them in each step would be slow."""
        self._first: Any = None
        self._architecture_steps = 0
        self._end: Optional[EndOfEpoch] = None
        methods.attach(search)
        methods.is_led = True

    # Epochs ----------------------------------------------------------------------------------------------------------------

    def begin(self, epochs: Optional[int]) -> None:
        """The search starts or resumes. ``epochs`` is the total number of epochs, None if unknown."""
        seed, *_ = processes.gathered(torch.initial_seed())
        self.methods.move(epochs=epochs, epoch=None, step=None, phase=READING, seed=seed)
        self.methods.call('begin')

    def start_anew(self) -> None:
        """Called after :meth:`begin` in a search that does not resume: forget what an earlier search has found."""
        self.methods.start_anew()
        if isinstance(self._search, Search):
            self._search.selected = None

    def before_epoch(self, epoch: int) -> None:
        """An epoch, counted from 0, starts."""
        self.methods.move(epoch=epoch, step=None, phase=READING)
        self.methods.call('before_epoch')

    def look(self, epoch: int, is_alone: bool = False) -> None:
        """Find the parameters that the steps of an epoch update. Called before its first step.

        Raises
        ------
        MethodError
            The epoch is alone, outside of a whole search, and a method needs hooks that are not called then.
        """
        for method in self.methods if is_alone else ():
            if overrides(method, 'before_epoch', 'after_epoch', 'record') and not isinstance(method, (UnmovedLogits, PlainDarts)):
                what = 'run_dir' if isinstance(method, Recording) else repr(method)
                raise MethodError(f'{what} has no effect in an epoch that is called for by itself. Call train(), or leave it '
                                  'out.')
        self.methods.move(epoch=epoch)
        self._architecture_steps = 0
        self.logits = [parameter for group in self._host.architecture_optimizer().param_groups for parameter in group['params']]
        held = (parameter for optimizer in self._host.weight_optimizers() for group in optimizer.param_groups
                for parameter in group['params'])
        own = set(self.logits)
        self.weights = list(dict.fromkeys([*all_but(self.logits, self._host.network()),
                                           *(parameter for parameter in held if parameter not in own)]))

    def after_epoch(self, metrics: Mapping[str, Any]) -> Dict[str, float]:
        """An epoch has ended; called before the callbacks of the user. Sets ``stopped``. Returns the collapse indicators."""
        self.guard.read()
        at = self.methods.move(step=None, phase=READING)
        self._end = EndOfEpoch(metrics, self._loss_on_first_batch, self.logits, self._host.network(), processes.average,
                               self._architecture_steps, evaluate=self.evaluate)
        self.stopped = self.methods.after_epoch(self._end)
        self.methods.move(phase=READING)
        if self.stopped is not None and processes.is_first():
            _logger.warning('The search ends after epoch %d: %s.', at.epoch, self.stopped)
        return self._end.indicators

    def evaluate(self) -> Mapping[str, float]:
        """See :attr:`nni_darts_ext.methods.base.EndOfEpoch.evaluate`."""
        try:
            with with_modes_restored(self._host.network()):
                self.begin_validation()
                return self._host.validated()
        finally:
            self.methods.move(phase=READING)

    def record(self, metrics: Mapping[str, Any]) -> None:
        """Called after the callbacks of the user."""
        assert self._end is not None
        self._end.metrics = metrics
        self.methods.call('record', self._end)

    # Steps -----------------------------------------------------------------------------------------------------------------

    def take(self, step: int, training: Any, validation: Any, with_architecture: bool = True) -> Any:
        """An architecture step on a validation batch and a weight step on a training batch.

        Parameters
        ----------
        step
            The index of the step in the epoch, from 0.
        with_architecture
            Whether to take the architecture step; it is not taken if a method skips it either. Default True.

        Returns
        -------
        Any
            The result of :meth:`Host.run_batch` for the training batch, in the weight step.
        """
        at = self.methods.move(step=step, phase=ARCHITECTURE)
        assert at.epoch is not None
        self.guard.begin_step(at.epoch, step)
        if step == 0:
            self._first = validation
        if isinstance(self._search, Search) and self._search.choices.forget(self._host.architecture_optimizer()):
            set_gradients(self.weights, [None] * len(self.weights))  # some hosts would leave zeros, with which optimisers step
        if self.methods.takes_architecture_step() and with_architecture:
            with self._host.unlogged():
                self._architecture_step(training, validation)
        self._host.before_weight_pass()
        with frozen(self.logits):
            result, loss = self._forward(training, WEIGHTS)
            self.see('training loss', loss)
            with stepping(self.weights):
                self._host.step_weights(loss, [weight for weight in self.weights if weight.requires_grad])
        torch.clear_autocast_cache()  # its casts are of the weights before this step
        return result

    def _architecture_step(self, training: Any, validation: Any) -> None:
        host, optimizer = self._host, self._host.architecture_optimizer()
        self._architecture_steps += 1

        def training_loss() -> Tensor:
            return self.see('training loss', self._forward(training, WEIGHTS)[1])

        def validation_loss() -> Tensor:
            return self.see('validation loss', self._objective(validation))
        if self._unrolled is None:
            gradients = first_order(validation_loss, self.logits, host.network(), processes.average, self.weights, host.gradients)
        elif host.is_scaled():
            raise TrainingError('The second order needs gradients of gradients, which the scaled losses of float16 training do '
                                'not give. Train in bfloat16 or in full precision, or use unrolled=False.')
        else:
            gradients = self._unrolled(training_loss, validation_loss, self.logits, host.weight_optimizers(), host.network(),
                                       processes.average)
        self.see('norm of the gradient of the logits', norm_of([part for part in gradients if part is not None]), shared=True)
        set_gradients(self.logits, gradients)
        optimizer.step()

    def _objective(self, batch: Any) -> Tensor:
        """The loss that the architecture step minimises."""
        _, loss = self._forward(batch, ARCHITECTURE)
        loss, term = self._host.penalized(loss), self.methods.regularizer()
        return loss if term is None else loss + self.see('regulariser', term).to(loss)

    def _loss_on_first_batch(self) -> Tensor:
        with with_modes_restored(self._host.network()), self._host.unlogged():
            self._host.set_training()
            return self._objective(self._first)

    def _forward(self, batch: Any, phase: str) -> Tuple[Any, Tensor]:
        self.methods.move(phase=phase)
        torch.clear_autocast_cache()  # weights have changed since they were cast, or were cast without a graph
        return self._host.run_batch(batch, phase)

    def see(self, what: str, value: Tensor, shared: bool = False) -> Tensor:
        """:meth:`nni_darts_ext.loop.guard.Guard.see`, unless a gradient scaler handles values that are not finite."""
        return value if self._host.is_scaled() else self.guard.see(what, value, shared)

    def see_gradient(self, weights: Sequence[nn.Parameter]) -> None:
        """Check the gradient of the weights before it is clipped."""
        norm = norm_of([weight.grad for weight in weights if weight.grad is not None])
        self.see('norm of the gradient of the weights', norm, shared=True)

    def begin_validation(self) -> None:
        """A validation starts: the next passes take no steps."""
        self.methods.move(phase=VALIDATION, step=None)


def of_search(given: Iterable[Method], has_edges: bool, run_dir: Optional[files.Path], settings: Mapping[str, Any]) -> Methods:
    """The methods of a search: the given ones, and those that every search has.

    Parameters
    ----------
    has_edges
        Whether the edges are known; they are not with a mutator from elsewhere.
    run_dir
        The folder in which rank 0 records the run; None to record nothing.
    settings
        The settings of the search to record.
    """
    given = list(given)
    has_it = any(isinstance(method, UnmovedLogits) for method in given)
    always: List[Method] = [UnmovedLogits()] if has_edges and not has_it else []
    if has_edges and not given and processes.is_first():
        always.append(PlainDarts())
    last: List[Method] = [Recording(run_dir, settings)] if run_dir is not None and processes.is_first() else []
    return Methods([*always, *given, *last])
