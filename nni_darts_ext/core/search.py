"""A search as everything but its loop sees it: edges and inputs, their logits, and what these derive."""

from __future__ import annotations

from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

import torch
from torch import Tensor

from ..errors import SearchSpaceError
from . import export
from .derivation import Derivation, derive
from .logits import Logits
from .space import Name, SearchSpace


class Search:
    """Mixed into the mutators and into what the one-shot strategies add to a model.

    Attributes
    ----------
    choices : Logits
        From the key of each LayerChoice to its parameter of n + 1 logits, zero op last.
    space : SearchSpace
        What the model lets one choose.
    zero_op_wins : bool
        See :func:`nni_darts_ext.core.derivation.derive`.
    selected : mapping or None
        What a method has selected in place of the largest weights, as decisions by key.
    """

    choices: Logits
    space: SearchSpace
    zero_op_wins: bool = False
    selected: Optional[Mapping[str, Sequence[bool]]] = None
    _keeps_n_chosen = False
    """Whether the host takes no architecture in which an InputChoice keeps fewer inputs than ``n_chosen``."""

    @property
    def choose_from(self) -> Dict[str, Tuple[str, ...]]:
        """For each InputChoice the keys of the LayerChoices that feed its candidates, named or found out.

        What the model does not name is found out in the first forward pass that records gradients.
        """
        return dict(self.space.sources)

    def probabilities(self) -> Dict[str, Tensor]:
        """For each edge the probabilities of its candidates and of the zero op, shape ``(n + 1,)``; differentiable.

        Raises
        ------
        LogitsError
            A logit is NaN or ``+inf``, or the candidates and the zero op of an edge are all cut.
        """
        self.choices.check()
        return {key: self.choices.probabilities(key) for key in self.space.edges}

    def sample_final(self) -> Dict[str, Tensor]:
        """The discrete decisions: bool tensors of shape ``(n,)`` or ``(n_candidates,)``, all false for a dropped edge.

        Raises
        ------
        LogitsError
            See :meth:`probabilities`.
        """
        decisions = self._derive().decisions
        return {choice.key: torch.tensor(decisions[choice.key], dtype=torch.bool, device=self.choices.device)
                for choice in self.space}

    def architecture(self, form: str = 'classic') -> Dict[str, Any]:
        """The derived architecture, ready for ``json.dump``.

        Parameters
        ----------
        form
            ``'classic'`` (default, source: NNI 2.0 - 2.8): ``{key: name | index | list}``, ``[]`` for a dropped edge.
            ``'sample'``: ``{label: name, label: [indices]}``, which ``freeze`` and ``model_context`` of NNI 3.0 take.

        Raises
        ------
        LogitsError
            See :meth:`probabilities`.
        """
        forms = {'classic': export.to_classic, 'sample': export.to_sample}
        if form not in forms:
            raise ValueError(f'Unknown form {form!r} of an architecture. Expected one of {sorted(forms)}.')
        return forms[form](self.space, self._derive())

    def cut(self, key: str, candidate: Name) -> None:
        """Remove a candidate, by name or index, from the LayerChoice ``key``.

        It does not run from the next step on, and stays cut through checkpoints and copies. Its weights get no gradient, and so
        no optimiser moves them; what an optimiser remembers of them stays as it is until they run again. What the optimiser of
        the logits remembers of the candidate's logit is set to 0. (In a training loop of your own, have ``zero_grad`` set
        gradients to None, as PyTorch does by default from 2.0 on: zeros would let weight decay and momentum go on.)

        Raises
        ------
        SearchSpaceError
            There is no such LayerChoice or candidate.
        LogitsError
            Nothing would be left of the edge, not even the zero op.
        """
        self.choices.cut(key, self._index(key, candidate))

    def restore(self, key: str, candidate: Name) -> None:
        """Undo :meth:`cut`; the logit starts again at 0. What is not cut stays as it is."""
        self.choices.restore(key, self._index(key, candidate))

    def sources_found(self) -> Dict[str, List[str]]:
        """What :attr:`choose_from` says, for a checkpoint: in plain strings, for hosts have classes of their own."""
        return {str(key): [str(source) for source in self.space.sources[key]]
                for key in self.space.inputs if key not in self.space.unnamed}

    def name_sources(self, found: Mapping[str, Sequence[str]]) -> None:
        """Go on from what :meth:`sources_found` gave."""
        for key in self.space.unnamed.intersection(found):
            self.space.name_sources(key, tuple(found[key]))

    def readers_found(self) -> Optional[Dict[str, List[Any]]]:
        """What reads the output of each edge, for a checkpoint: None, a key, or a key and an index. None if it is not known."""
        if self.space.readers is None:
            return None
        return {str(key): sorted(([str(reader[0]), reader[1]] if isinstance(reader, tuple) else reader and str(reader)
                                  for reader in readers), key=repr) for key, readers in self.space.readers.items()}

    def name_readers(self, found: Optional[Mapping[str, Sequence[Any]]]) -> None:
        """Take over what :meth:`readers_found` gave, unless readers are known already."""
        if found is not None and self.space.readers is None:
            self.space.readers = {key: {tuple(reader) if isinstance(reader, list) else reader for reader in readers}
                                  for key, readers in found.items()}

    def _index(self, key: str, candidate: Name) -> int:
        edge = self.space.edges.get(key)
        if edge is None:
            raise SearchSpaceError(f'No LayerChoice has the key {key!r}. The keys are {sorted(self.space.edges)}.')
        if candidate in edge.names:
            return edge.names.index(candidate)
        if isinstance(candidate, int) and 0 <= candidate < len(edge.names):
            return candidate
        raise SearchSpaceError(f'LayerChoice {key!r} has no candidate {candidate!r}. Expected one of '
                               f'{list(edge.names)} or an index from 0 to {len(edge.names) - 1}.')

    def _derive(self) -> Derivation:
        with torch.no_grad():
            probabilities = {key: weights.tolist() for key, weights in self.probabilities().items()}
        return derive(self.space, probabilities, self.zero_op_wins, self._keeps_n_chosen, self.selected or {})
