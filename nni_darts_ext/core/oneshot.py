"""What a one-shot strategy of any host adds to a model: the logits of its edges, and what they derive."""

from __future__ import annotations

import warnings
from typing import Any, Dict, Iterable, List, Mapping, Optional, Sequence

from torch import Tensor, nn

from ..errors import SearchSpaceError
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
