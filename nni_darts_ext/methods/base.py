"""The base class of methods, with the hooks by which they change a search."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Any, Callable, Dict, Iterable, Mapping, NamedTuple, Optional, Sequence

import torch
from torch import Tensor, nn

from ..core.bilevel.gradients import Average, Loss
from ..core.search import Search, Weights
from ..errors import MethodError

ARCHITECTURE, WEIGHTS, VALIDATION, READING = 'architecture', 'weights', 'validation', 'reading'
"""The phases of a search: passes for the loss of the logits, passes for the loss of the weights (also within the second order),
passes of a validation, and no pass: only the probabilities are read, for the export, the log and the record."""

PLAIN = (bool, int, float, str, tuple, list, dict, type(None))


class At(NamedTuple):
    """The current position of a search."""

    search: Any
    """The :class:`~nni_darts_ext.core.search.Search`, with its space, its logits and the architecture that they derive."""
    phase: str = READING
    """:data:`ARCHITECTURE`, :data:`WEIGHTS`, :data:`VALIDATION` or :data:`READING`. In a training loop of your own, all passes of
    a model in training mode have the phase :data:`WEIGHTS`, because the two steps cannot be distinguished."""
    epoch: Optional[int] = None
    """The epoch, from 0; None in a training loop of your own."""
    epochs: Optional[int] = None
    """The number of epochs; None if unknown."""
    step: Optional[int] = None
    """The step in the epoch, from 0; None outside of steps. In a training loop of your own: the number of passes so far."""
    seed: int = 0
    """The seed of the search: that of rank 0, ``torch.initial_seed()``. Saved in checkpoints."""

    @property
    def progress(self) -> float:
        """The share of the search before this epoch: from 0 in the first to ``1 - 1 / epochs`` in the last. 0 before the search.

        Raises
        ------
        MethodError
            The number of epochs is unknown.
        """
        if self.epoch is not None and self.epochs is None:
            raise MethodError('The methods of this search need its number of epochs, which is unknown here. Set max_epochs, '
                              'or call train().')
        return self.epoch / self.epochs if self.epoch and self.epochs else 0.0

    def generator(self, name: str) -> torch.Generator:
        """A source of random numbers on the CPU for this step.

        Its numbers depend on the seed, the epoch, the step, the phase and the name only: they are the same in all processes, in
        each pass of one phase in a step, and after resuming. The global random state is not touched.
        """
        position = repr((name, self.seed, self.phase, self.epoch, self.step)).encode()
        return torch.Generator().manual_seed(int.from_bytes(hashlib.sha256(position).digest()[:7], 'little'))


@dataclass
class EndOfEpoch:
    """What a method can use when an epoch has ended."""

    metrics: Mapping[str, Mapping[str, float]]
    """``{'train': {...}, 'valid': {...}}``: the means of the loss and the metrics; either may be missing."""
    validation_loss: Loss
    """Runs the supernet in training mode on the first validation batch of the epoch and returns the loss that the architecture
    step minimises. It changes running statistics and random states."""
    logits: Sequence[nn.Parameter]
    """The parameters that the architecture step updates: the logits, and on some hosts parameters of NNI's own choices."""
    network: nn.Module
    """All modules that computing the loss runs."""
    average: Average
    """Averages gradients over all processes."""
    architecture_steps: int = 1
    """The number of architecture steps in the epoch; 0 during a warm-up."""
    indicators: Dict[str, float] = field(default_factory=dict)
    """Indicators of a collapse. A method may add its own, which are recorded; later methods can read them."""
    evaluate: Callable[[], Mapping[str, float]] = dict
    """Runs the current supernet, in evaluation mode, on all validation data and returns the means of the loss, ``'loss'``, and
    the metrics over all processes. Nothing is updated or recorded, and each call has the same random numbers. The metrics are
    those of ``DartsTrainer``, and in a strategy the numbers that the evaluator's ``training_step`` logs."""


class Method:
    """The base class of additions to plain DARTS. Every hook does nothing by default; a method overrides those that it needs.

    ``DartsTrainer``, ``DARTS`` and ``DartsMutator`` take methods as ``methods=[...]`` and call each hook in this order. An object
    can be used in one search only; build a new one for each search.

    Attributes
    ----------
    needs_edges : bool
        Whether it reads ``at.search``. Default True: it does not work with other mutators, such as NNI's own.
    needs_epochs : bool
        Whether it reads ``at.epoch`` or ``at.epochs``, which are unknown in a training loop of your own. Default False. Methods
        with hooks for epochs or steps need them in any case.
    needs_second_derivatives : bool
        Whether it takes second derivatives of the loss, which are not available with ``compile`` and, before PyTorch 2.1, with
        ``recompute``. Default False.
    samples : bool
        Whether different weights of :meth:`relax` and :meth:`reweigh` are exactly 0 in each pass, as in a random sample. Default
        False. Candidates whose weight is exactly 0 do not run.
    conflicts : sequence of str
        The class names of methods with which it cannot be combined. Default: none. Two methods of one class, and two that
        override :meth:`relax` or :meth:`weigh_inputs`, can never be combined.
    """

    needs_edges: bool = True
    needs_epochs: bool = False
    needs_second_derivatives: bool = False
    samples: bool = False
    conflicts: Sequence[str] = ()

    # The forward pass ------------------------------------------------------------------------------------------------------

    def relax(self, logits: Mapping[str, Tensor], at: At) -> Mapping[str, Tensor]:
        """The weights of the candidates: the continuous relaxation. Called once per forward pass, for all edges.

        Outside of a forward pass of the whole model, as when activations are recomputed, it is called for single edges.

        Parameters
        ----------
        logits
            For each edge its logits, shape ``(n + 1,)``, with the zero op last; ``-inf`` for candidates that are cut.
        at
            The position of the search. In phase ``'reading'`` the weights are used to derive, log and record the architecture.

        Returns
        -------
        mapping
            For each edge its weights, shape ``(n + 1,)``, with the zero op last, differentiable in the logits. They need not sum
            to 1. Candidates whose weight is exactly 0 do not run.
        """
        raise NotImplementedError

    def reweigh(self, weights: Mapping[str, Tensor], at: At) -> Mapping[str, Tensor]:
        """Change the weights of :meth:`relax` for the forward pass only. Not called in phase ``'reading'``."""
        return weights

    def edge(self, output: Any, inputs: Sequence[Any], key: str, at: At) -> Any:
        """Change the output of an edge, which is the sum of its candidates times their weights.

        Called for each LayerChoice in each forward pass. The result must not have been written over ``output`` or the inputs.

        Parameters
        ----------
        output
            A tensor, or a structure of tensors.
        inputs
            The positional arguments of the LayerChoice.
        key
            That of the edge.
        at
            The position of the search.
        """
        return output

    def after_pass(self, model: nn.Module, args: Sequence[Any], kwargs: Mapping[str, Any], at: At) -> None:
        """A forward pass of the supernet has ended, that of the loss included in which :meth:`regularizer` is asked for next.

        Parameters
        ----------
        model
            The supernet. A method may run it, or parts of it, without side effects.
        args, kwargs
            What it was called with; before PyTorch 2.0 ``kwargs`` is empty.
        at
            The position of the search.
        """

    def weigh_inputs(self, key: str) -> Optional[Tensor]:
        """The weights of the candidates of the InputChoice ``key``, shape ``(n_candidates,)``; None for 1 each.

        The InputChoice reduces its candidates times these weights. When the architecture is derived, they multiply the strengths
        of the edges that it chooses from: they must be the same then. Not called for an InputChoice that no LayerChoice feeds.
        """
        return None

    # The steps -------------------------------------------------------------------------------------------------------------

    def regularizer(self, logits: Mapping[str, Tensor], at: At) -> Optional[Tensor]:
        """A term to add to the loss of the architecture step, in the first and the second order: a scalar tensor, or None.

        ``logits`` are those of :meth:`relax`, with the same ``-inf``, which must not make the term infinite. In a training loop
        of your own, add ``mutator.regularizer()`` to the loss.
        """
        return None

    def takes_architecture_step(self, at: At) -> bool:
        """Whether the architecture step is taken now. Default True. The weight step is always taken."""
        return True

    # The search ------------------------------------------------------------------------------------------------------------

    def attach(self, search: Search) -> None:
        """The space is known, and the logits exist. Called once, before the optimisers are created."""

    def begin(self, at: At) -> None:
        """The search starts or resumes; called before :meth:`load_state_dict`."""

    def before_epoch(self, at: At) -> None:
        """An epoch starts."""

    def after_epoch(self, at: At, end: EndOfEpoch) -> Optional[str]:
        """An epoch has ended. Called before the callbacks of the user.

        Returns
        -------
        str or None
            Why the search ends now; None to continue.
        """
        return None

    def record(self, at: At, end: EndOfEpoch) -> None:
        """An epoch has ended. Called after the callbacks of the user and before a checkpoint is written."""

    def derive(self, weights: Weights, at: At) -> Weights:
        """Change the weights from which the architecture is derived, wherever it is: for the export, the record, in epochs.

        Recorded and logged weights stay as they are.

        Parameters
        ----------
        weights
            For each edge the weights of :meth:`relax` as n + 1 numbers, with the zero op last. They must not be written over.
        at
            The position of the search. ``at.search.derive(weights)`` is the architecture of any weights.
        """
        return weights

    def end(self, error: Optional[BaseException] = None) -> None:
        """The search has ended, with ``error`` if an error ended it."""

    # What it holds ---------------------------------------------------------------------------------------------------------

    def parameters(self) -> Iterable[nn.Parameter]:
        """Parameters that the architecture step updates together with the logits, created in :meth:`attach`. Default: none.

        They move to other devices with the logits, and are the same in all processes.
        """
        return ()

    def state_dict(self) -> Dict[str, Any]:
        """The state to save in checkpoints, in plain values and tensors. Default: nothing."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore a state that :meth:`state_dict` has returned."""

    def settings(self) -> Optional[Dict[str, Any]]:
        """What must be the same for a search to resume, in plain values; None if a search may resume with or without the method.

        Default: the attributes with plain values whose names do not start with an underscore.
        """
        return {name: value for name, value in vars(self).items() if not name.startswith('_') and isinstance(value, PLAIN)}

    def __getstate__(self) -> Dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != '_owner'}

    def __repr__(self) -> str:
        arguments = ', '.join(f'{name}={value!r}' for name, value in (Method.settings(self) or {}).items())
        return f'{type(self).__name__}({arguments})'


def overrides(method: Method, *hooks: str) -> bool:
    """Whether a method overrides one of these hooks."""
    return any(getattr(type(method), hook) is not getattr(Method, hook) for hook in hooks)
