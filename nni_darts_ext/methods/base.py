"""What a method of a search is: the hooks by which it changes the search, each of which does nothing by default."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Callable, Dict, Iterable, Mapping, NamedTuple, Optional, Sequence

from torch import Tensor, nn

from ..core.bilevel.gradients import Average, Loss
from ..core.search import Search

ARCHITECTURE, WEIGHTS, VALIDATION, READING = 'architecture', 'weights', 'validation', 'reading'
"""The phases of a search: the loss of the logits, that of the weights (also where the second order computes it), a pass without a
step, and no pass at all but probabilities for the export, the log and the record."""

PLAIN = (bool, int, float, str, tuple, list, dict, type(None))


class At(NamedTuple):
    """Where a search is."""

    search: Any
    """The :class:`~nni_darts_ext.core.search.Search`: its space, its logits and what they derive."""
    phase: str = READING
    """:data:`ARCHITECTURE`, :data:`WEIGHTS`, :data:`VALIDATION` or :data:`READING`. In a training loop of one's own the first two
    cannot be told apart: all passes of a model in training mode are of phase :data:`WEIGHTS`."""
    epoch: Optional[int] = None
    """The epoch, counted from 0; None in a training loop of one's own."""
    epochs: Optional[int] = None
    """The number of epochs; None if it is not known."""
    step: Optional[int] = None
    """The step in the epoch, counted from 0; None outside of steps."""


@dataclass
class EndOfEpoch:
    """What is known when an epoch has ended."""

    metrics: Mapping[str, Mapping[str, float]]
    """``{'train': {...}, 'valid': {...}}``: the means of the loss and the metrics; either may be missing."""
    validation_loss: Loss
    """Runs the supernet in training mode on the first validation batch of the epoch and returns what the architecture step
    minimises. It leaves traces in running statistics and random states."""
    logits: Sequence[nn.Parameter]
    """What the architecture step moves: the logits, and on some hosts parameters of choices of NNI's own."""
    network: nn.Module
    """All that the loss runs."""
    average: Average
    """The mean of gradients over all processes."""
    architecture_steps: int = 1
    """How many there were; 0 in an epoch of a warm-up."""
    indicators: Dict[str, float] = field(default_factory=dict)
    """Signs of a collapse. What a method adds is recorded, and methods that come later can read it."""


class Method:
    """Changes a search. Every hook does nothing by default; a method overrides those that it needs.

    Methods are given to ``DartsTrainer``, ``DARTS`` and ``DartsMutator`` as ``methods=[...]``. Each hook runs in their order.
    An object belongs to one search; to search again, build it anew.

    Attributes
    ----------
    needs_edges : bool
        Whether it reads ``at.search``. Default True: it does not work with a mutator of other origin, such as NNI's own.
    needs_epochs : bool
        Whether it reads ``at.epoch`` or ``at.epochs``, which a ``DartsMutator`` in a loop of one's own does not know. Default
        False. Methods with hooks of epochs and steps need them in any case.
    needs_second_derivatives : bool
        Whether it takes second derivatives of the loss, which ``compile`` and, before PyTorch 2.1, ``recompute`` do not have.
        Default False.
    samples : bool
        Whether the weights of :meth:`relax` and :meth:`reweigh` that are exactly 0 differ from pass to pass, as those of a
        sample. Default False. Candidates with such weights do not run.
    conflicts : sequence of str
        The names of methods that it cannot be combined with. Default: none. Two that override :meth:`relax` or
        :meth:`select`, and two of one class, cannot be combined in any case.
    """

    needs_edges: bool = True
    needs_epochs: bool = False
    needs_second_derivatives: bool = False
    samples: bool = False
    conflicts: Sequence[str] = ()

    # The forward pass ------------------------------------------------------------------------------------------------------

    def relax(self, logits: Mapping[str, Tensor], at: At) -> Mapping[str, Tensor]:
        """The weights of the candidates: the continuous relaxation. Called once in a forward pass, for all edges.

        Outside of a pass of the whole model, as in the recomputation of activations, it is called for single edges.

        Parameters
        ----------
        logits
            For each edge its logits, shape ``(n + 1,)``, the zero op's last; ``-inf`` for what is cut.
        at
            Where the search is. In phase ``'reading'`` the weights are those that are derived from, logged and recorded.

        Returns
        -------
        mapping
            For each edge its weights, shape ``(n + 1,)``, the zero op's last, differentiable in the logits. They need not add up
            to 1. Candidates whose weight is exactly 0 do not run.
        """
        raise NotImplementedError

    def reweigh(self, weights: Mapping[str, Tensor], at: At) -> Mapping[str, Tensor]:
        """Other weights for the forward pass alone, after :meth:`relax`; never called in phase ``'reading'``."""
        return weights

    # The steps -------------------------------------------------------------------------------------------------------------

    def regularizer(self, logits: Mapping[str, Tensor], at: At) -> Optional[Tensor]:
        """A term of the loss that the architecture step minimises, in the first order and the second: a scalar, or None.

        ``logits`` are those of :meth:`relax`. A training loop of one's own adds ``mutator.regularizer()`` to its loss.
        """
        return None

    def takes_architecture_step(self, at: At) -> bool:
        """Whether this step moves the logits. Default True. The weights move in every step."""
        return True

    # The search ------------------------------------------------------------------------------------------------------------

    def attach(self, search: Search) -> None:
        """The space is known, and the logits exist. Called once, before the optimisers are made."""

    def begin(self, at: At) -> None:
        """The search starts or resumes; called before :meth:`load_state_dict`."""

    def before_epoch(self, at: At) -> None:
        """An epoch starts."""

    def after_epoch(self, at: At, end: EndOfEpoch) -> Optional[str]:
        """An epoch has ended. Called before the callbacks of the user.

        Returns
        -------
        str or None
            Why the search ends here; None to continue.
        """
        return None

    def record(self, at: At, end: EndOfEpoch) -> None:
        """Called after the callbacks of the user and before a checkpoint is written, when nothing changes any more."""

    def select(self, at: At, evaluate: Callable[[], Mapping[str, float]]) -> Optional[Mapping[str, Sequence[bool]]]:
        """The architecture, in place of the one that the largest weights give. Called after the last epoch, by ``DartsTrainer``.

        Parameters
        ----------
        evaluate
            The means of loss and metrics of the supernet, as it is now, over the validation data.

        Returns
        -------
        mapping or None
            For an edge which of its candidates is kept, shape ``(n,)``, for an InputChoice which inputs. What is left out is
            decided by the weights.
        """
        return None

    def end(self, error: Optional[BaseException] = None) -> None:
        """The search has ended, by itself or by an error."""

    # What it holds ---------------------------------------------------------------------------------------------------------

    def parameters(self) -> Iterable[nn.Parameter]:
        """Parameters that are stepped together with the logits, made in :meth:`attach`. Default: none.

        They are moved to other devices with the logits, and are the same in all processes.
        """
        return ()

    def state_dict(self) -> Dict[str, Any]:
        """What a checkpoint must hold: plain values and tensors. Default: nothing."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Resumes from what :meth:`state_dict` gave."""

    def settings(self) -> Optional[Dict[str, Any]]:
        """What must be the same for a search to resume, in plain values; None if a search may resume with or without the method.

        Default: the attributes of plain types whose names begin with no underscore.
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
