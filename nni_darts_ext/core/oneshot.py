"""What a one-shot strategy of any host adds to a model: the logits of its edges, and what they derive."""

from __future__ import annotations

import warnings
from contextlib import contextmanager
from typing import Any, Dict, Iterable, Iterator, List, Mapping, Optional, Sequence

import torch
from torch import Tensor, nn

from ..errors import SearchSpaceError, TrainingError
from . import layout
from .bilevel import Unrolled, frozen, give
from .derivation import derive
from .export import to_sample
from .logits import Logits
from .relaxation import Relaxation, relax
from .space import NO_KEY, Choice, Edge, SearchSpace

ZERO_OP = 'zero_op'
"""The zero op's name among the logged probabilities."""


class OneShotSearch(nn.Module):
    """The edges and inputs that a strategy has taken up in a model.

    Attributes
    ----------
    choices : Logits
        From the key of each edge to its logits.
    space : SearchSpace or None
        What was taken up, once :meth:`take` has been called.
    """

    def __init__(self) -> None:
        super().__init__()
        self.choices = Logits()
        self.space: Optional[SearchSpace] = None
        self.zero_op_wins = False

    def take(self, taken: Mapping[nn.Module, Choice], labels: Iterable[str],
             choose_from: Optional[Mapping[str, Sequence[str]]]) -> None:
        """Check what was taken up, draw its logits and relax it.

        Parameters
        ----------
        taken
            The choices by module; those that are :class:`FedInputs` relax themselves.
        labels
            All labels of the model, which ``choose_from`` may name.
        choose_from
            Sources that the user names for InputChoices by key.
        """
        self.space = SearchSpace(taken.values(), labels, choose_from=choose_from, may_lack_edges=True)
        for edge in self.space.edges.values():
            if ZERO_OP in edge.names:
                raise SearchSpaceError(f'LayerChoice {edge.key!r} has a candidate named {ZERO_OP!r}, the name under which the '
                                       'zero op is logged. Give the candidate another name.')
            self.choices.add(edge.key, len(edge.names))
        relaxation = Relaxation(self.choices, self.space)
        for module, choice in taken.items():
            if isinstance(module, FedInputs):
                module.relaxation = relaxation
            else:
                relax(module, choice, relaxation)

    def probabilities(self) -> Dict[str, Dict[Any, Tensor]]:
        """For each edge its candidates' probabilities by name and the zero op's; differentiable scalars."""
        return {edge.key: dict(zip((*edge.names, ZERO_OP), self.choices.probabilities(edge.key).unbind()))
                for edge in self._edges()}

    def numbers(self) -> Dict[str, Dict[Any, float]]:
        """:meth:`probabilities` as plain numbers, all read at once."""
        probabilities = self.probabilities()
        tensors = [p for of_edge in probabilities.values() for p in of_edge.values()]
        numbers = iter(torch.stack(tensors).tolist() if tensors else [])
        return {label: {name: next(numbers) for name in of_edge} for label, of_edge in probabilities.items()}

    def sample(self) -> Dict[str, Any]:
        """What the logits derive, as the hosts' frozen models take it."""
        if self.space is None:
            return {}
        probabilities = {edge.key: self.choices.probabilities(edge.key).tolist() for edge in self._edges()}
        return to_sample(self.space, derive(self.space, probabilities, self.zero_op_wins))

    def _edges(self) -> List[Edge]:
        return list(self.space.edges.values()) if self.space else []


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
            mixed = cls.mutate(module, name, memo, mutate_kwargs)  # type: ignore[attr-defined]
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

    unrolled: Optional[Unrolled] = None
    """The estimator of the second order; None for the first."""
    channels_last = False
    """Whether images are laid out that way. The model should be, too."""
    trainer: Any

    def _inner(self) -> Any:
        """The user's Lightning module, whose ``training_step`` gives the losses."""
        raise NotImplementedError

    def _advance_weights(self, loss: Tensor, batch_idx: int) -> None:
        """The host's way through backward pass, clipping and optimiser."""
        raise NotImplementedError

    def _penalized(self, loss: Tensor) -> Tensor:
        """The loss of the architecture step."""
        return loss

    def take_steps(self, batch: Any, batch_idx: int, search: bool = True) -> Any:
        """Both steps, or the weight step alone. Returns what the user's ``training_step`` gave for the training batch."""
        logits = self.arch_parameters()  # type: ignore[attr-defined]
        if batch_idx == 0:  # of an epoch: not every Lightning calls train() then
            for module in self.modules():  # type: ignore[attr-defined]
                if isinstance(module, Logits):
                    module.train(module.training)
        if self.channels_last:
            batch = layout.channels_last(batch)
        if search:
            self._architecture_step(batch, batch_idx, logits)
        with frozen(logits):
            outputs = self._outputs(batch['train'], 2 * batch_idx + 1)
            self._advance_weights(_loss(outputs), batch_idx)
        return outputs

    def _architecture_step(self, batch: Any, batch_idx: int, logits: List[nn.Parameter]) -> None:
        host: Any = self

        def training() -> Tensor:
            with _unlogged(self._inner()):
                return _loss(self._outputs(batch['train'], 2 * batch_idx + 1))

        def validation() -> Tensor:
            return self._penalized(_loss(self._outputs(batch['val'], 2 * batch_idx)))

        optimizer = host.architecture_optimizers()
        optimizer.zero_grad()
        if self.unrolled is None:
            own = set(logits)
            with frozen(parameter for parameter in host.parameters() if parameter not in own):
                host.manual_backward(validation())
        else:
            if getattr(getattr(self.trainer, 'precision_plugin', None), 'scaler', None) is not None:
                raise TrainingError('The second order takes gradients of gradients, which the scaled losses of 16-bit floats '
                                    'do not give. Train in bfloat16 or in full precision, or use unrolled=False.')
            give(logits, self.unrolled(training, validation, logits, self._weight_optimizers(logits), host))
        optimizer.step()

    def _outputs(self, batch: Any, batch_idx: int) -> Any:
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


@contextmanager
def _unlogged(module: Any) -> Iterator[None]:
    """Calls of ``log`` and ``log_dict`` go nowhere: a batch is logged once, when the weights learn from it."""
    attributes = vars(module)
    log = attributes.get('log')
    attributes['log'] = lambda *args, **kwargs: None
    try:
        yield
    finally:
        if log is None:
            del attributes['log']
        else:
            attributes['log'] = log
