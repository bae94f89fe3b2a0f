"""The two steps of DARTS (Liu et al., algorithm 1) and what surrounds them, in whichever host's loop or our own."""

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
from ..errors import TrainingError
from ..methods import ARCHITECTURE, READING, VALIDATION, WEIGHTS, EndOfEpoch, Method, Methods
from ..methods.unmoved_logits import UnmovedLogits
from ..run.recording import Recording
from . import processes
from .guard import Guard

_logger = logging.getLogger(__name__)


class Host:
    """What a loop tells the steps: how a loss is computed, how its gradients are, and whose optimisers step."""

    def run_batch(self, batch: Any, phase: str) -> Tuple[Any, Tensor]:
        """Run the supernet as it is on a batch. Returns a result, which :meth:`Steps.take` passes on, and the loss."""
        raise NotImplementedError

    def network(self) -> nn.Module:
        """All that a loss runs."""
        raise NotImplementedError

    def logits(self) -> List[nn.Parameter]:
        """What the architecture step moves."""
        raise NotImplementedError

    def architecture_optimizer(self) -> Any:
        """Steps the logits."""
        raise NotImplementedError

    def weight_optimizers(self) -> Sequence[torch.optim.Optimizer]:
        """Those that step next."""
        raise NotImplementedError

    def before_weight_pass(self) -> None:
        """Called before the forward pass of the weight step."""

    def step_weights(self, loss: Tensor, weights: Sequence[nn.Parameter]) -> None:
        """The backward pass of the weight step, clipping and the optimiser."""
        raise NotImplementedError

    def gradients(self, loss: Tensor, logits: Sequence[nn.Parameter]) -> Gradients:
        """Those of the first order's architecture step, of this process."""
        return gradients_of(loss, logits)

    def penalized(self, loss: Tensor) -> Tensor:
        """The loss of the architecture step, with what the host adds."""
        return loss

    def is_scaled(self) -> bool:
        """Whether a scaler of 16-bit floats deals with losses that are not finite, by leaving steps out."""
        return False

    def unlogged(self) -> ContextManager[Any]:
        """The context of an architecture step, whose passes are not to be logged."""
        return nullcontext()

    def set_training(self) -> None:
        """Put the supernet into training mode."""
        raise NotImplementedError


class Steps:
    """The steps of a search, and its epochs.

    Parameters
    ----------
    host
        The loop.
    search
        What is searched: an object of :class:`nni_darts_ext.core.search.Search`, or a mutator of other origin.
    methods
        Those of the search. The steps tell them where the search is.
    unrolled
        Which order, see :func:`nni_darts_ext.core.bilevel.estimators.choose`.
    guard
        Ends the search when a loss is not finite.
    """

    def __init__(self, host: Host, search: Any, methods: Methods, unrolled: Union[bool, str], guard: Guard) -> None:
        self._host, self._search, self.methods, self.guard = host, search, methods, guard
        self._unrolled = choose(unrolled)
        self.stopped: Optional[str] = None
        self.logits: List[nn.Parameter] = []
        self.weights: List[nn.Parameter] = []
        """All other parameters that a loss runs or the optimisers hold; to look for them in each step would take longer than many
        a candidate."""
        self._first: Any = None
        self._architecture_steps = 0
        self._end: Optional[EndOfEpoch] = None
        methods.attach(search)
        methods.is_led = True

    # Epochs ----------------------------------------------------------------------------------------------------------------

    def begin(self, epochs: Optional[int]) -> None:
        """The search starts or resumes, for so many epochs in all (None if it is not known)."""
        self.methods.move(epochs=epochs, epoch=None, step=None, phase=READING)
        self.methods.call('begin')

    def before_epoch(self, epoch: int) -> None:
        """An epoch, counted from 0, starts."""
        self.methods.move(epoch=epoch, step=None, phase=READING)
        self.methods.call('before_epoch')

    def look(self, epoch: int) -> None:
        """Look for what the steps of an epoch move. To be called before the first one."""
        self.methods.move(epoch=epoch)
        self._architecture_steps = 0
        self.logits = self._host.logits()
        held = (parameter for optimizer in self._host.weight_optimizers() for group in optimizer.param_groups
                for parameter in group['params'])
        own = set(self.logits)
        self.weights = list(dict.fromkeys([*all_but(self.logits, self._host.network()),
                                           *(parameter for parameter in held if parameter not in own)]))

    def after_epoch(self, metrics: Mapping[str, Any]) -> Dict[str, float]:
        """An epoch has ended, before the callbacks of the user. Sets ``stopped`` and returns the indicators of a collapse."""
        self.guard.read()
        at = self.methods.move(step=None, phase=READING)
        self._end = EndOfEpoch(metrics, self._loss_on_first_batch, self.logits, self._host.network(), processes.average,
                               self._architecture_steps)
        self.stopped = self.methods.after_epoch(self._end)
        self.methods.move(phase=READING)
        if self.stopped is not None and processes.is_first():
            _logger.warning('The search ends after epoch %d: %s.', at.epoch, self.stopped)
        return self._end.indicators

    def record(self, metrics: Mapping[str, Any]) -> None:
        """The callbacks of the user have been called."""
        assert self._end is not None
        self._end.metrics = metrics
        self.methods.call('record', self._end)

    # Steps -----------------------------------------------------------------------------------------------------------------

    def take(self, step: int, training: Any, validation: Any, with_architecture: bool = True) -> Any:
        """An architecture step on a validation batch and a weight step on a training batch.

        Parameters
        ----------
        step
            In the epoch, counted from 0.
        with_architecture
            Whether the host takes an architecture step. Default True. The methods must agree.

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
            set_gradients(self.weights, [None] * len(self.weights))  # some hosts would leave zeros for what was cut
        if self.methods.takes_architecture_step() and with_architecture:
            with self._host.unlogged():
                self._architecture_step(training, validation)
        self._host.before_weight_pass()
        with frozen(self.logits):
            result, loss = self._forward(training, WEIGHTS)
            self.see('training loss', loss)
            with stepping(self.weights):
                self._host.step_weights(loss, [weight for weight in self.weights if weight.requires_grad])
        torch.clear_autocast_cache()  # for the next one to run the model, a validation say
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
            raise TrainingError('The second order takes gradients of gradients, which the scaled losses of 16-bit floats do not '
                                'give. Train in bfloat16 or in full precision, or use unrolled=False.')
        else:
            gradients = self._unrolled(training_loss, validation_loss, self.logits, host.weight_optimizers(), host.network(),
                                       processes.average)
        self.see('norm of the gradient of the logits', norm_of([part for part in gradients if part is not None]), shared=True)
        set_gradients(self.logits, gradients)
        optimizer.step()

    def _objective(self, batch: Any) -> Tensor:
        """What the architecture step minimises."""
        _, loss = self._forward(batch, ARCHITECTURE)
        loss, term = self._host.penalized(loss), self.methods.regularizer()
        return loss if term is None else loss + term.to(loss)

    def _loss_on_first_batch(self) -> Tensor:
        with with_modes_restored(self._host.network()), self._host.unlogged():
            self._host.set_training()
            return self._objective(self._first)

    def _forward(self, batch: Any, phase: str) -> Tuple[Any, Tensor]:
        self.methods.move(phase=phase)
        torch.clear_autocast_cache()  # weights have moved since they were cast, or were cast without a graph
        return self._host.run_batch(batch, phase)

    def see(self, what: str, value: Tensor, shared: bool = False) -> Tensor:
        """:meth:`nni_darts_ext.loop.guard.Guard.see`, unless the host deals with such values."""
        return value if self._host.is_scaled() else self.guard.see(what, value, shared)

    def see_gradient(self, weights: Sequence[nn.Parameter]) -> None:
        """Look at the gradient that the weights are about to step by, before clipping."""
        norm = norm_of([weight.grad for weight in weights if weight.grad is not None])
        self.see('norm of the gradient of the weights', norm, shared=True)

    def begin_validation(self) -> None:
        """The passes to come are without steps."""
        self.methods.move(phase=VALIDATION, step=None)


def of_search(given: Iterable[Method], has_edges: bool, run_dir: Optional[files.Path], settings: Mapping[str, Any]) -> Methods:
    """The methods of a search: those that are given, and those that every search has.

    Parameters
    ----------
    has_edges
        Whether the edges of what is searched are known.
    run_dir
        Where the run is recorded, by one process; None for nowhere.
    settings
        Of the search, for the record.
    """
    given = list(given)
    has_it = any(isinstance(method, UnmovedLogits) for method in given)
    always: List[Method] = [UnmovedLogits()] if has_edges and not has_it else []
    last: List[Method] = [Recording(run_dir, settings)] if run_dir is not None and processes.is_first() else []
    return Methods([*always, *given, *last], selects=True)
