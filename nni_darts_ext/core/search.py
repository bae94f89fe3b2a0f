"""The search space of a model with its logits, and the architecture that they derive."""

from __future__ import annotations

from contextlib import contextmanager
from functools import partial
from typing import Any, Callable, Dict, Iterator, List, Mapping, Optional, Sequence, Tuple

import torch
from torch import Tensor

from ..errors import SearchSpaceError
from . import export
from .decisions import Architecture, decide, load
from .derivation import Derivation, all_readers, derive
from .logits import Logits
from .ranking import RankedArchitecture, ranking
from .relaxation import Relaxation
from .space import Name, SearchSpace

Weights = Mapping[str, Sequence[float]]
"""For each edge the weights of its candidates and the zero op's, n + 1 numbers."""


class Search:
    """The base class of the mutators, and of what the one-shot strategies add to a model.

    Attributes
    ----------
    choices : Logits
        From the key of each LayerChoice to its parameter of n + 1 logits, with the zero op last.
    space : SearchSpace
        The choices of the model.
    zero_op_wins : bool
        See :func:`nni_darts_ext.core.derivation.derive`.
    selected : mapping or None
        By the key of an InputChoice whether each of its inputs is kept, where a method has decided that in place of the
        weights. A method sets a new mapping.
    revise : callable or None
        Changes the weights from which the architecture is derived. Default None: they are the probabilities.
    """

    choices: Logits
    space: SearchSpace
    zero_op_wins: bool = False
    selected: Optional[Mapping[str, Sequence[bool]]] = None
    revise: Optional[Callable[[Weights], Weights]] = None
    _relaxation: Relaxation
    _keeps_n_chosen = False
    """Whether the host needs architectures in which each InputChoice keeps exactly ``n_chosen`` inputs."""

    @property
    def choose_from(self) -> Dict[str, Tuple[str, ...]]:
        """For each InputChoice the keys of the LayerChoices that its candidates come from.

        Where the model does not name them, they are found in the first forward pass that records gradients.
        """
        return dict(self.space.sources)

    def probabilities(self) -> Dict[str, Tensor]:
        """For each edge the probabilities of its candidates and of the zero op, shape ``(n + 1,)``, differentiable.

        Raises
        ------
        LogitsError
            A logit is NaN or ``+inf``, or the candidates and the zero op of an edge are all cut.
        """
        self.choices.check()
        return self.choices.all_probabilities()

    def input_weights(self) -> Dict[str, Tensor]:
        """For each InputChoice to which a method gives weights, such as ``EdgeNormalization``, those of its candidates, shape
        ``(n_candidates,)``, differentiable."""
        weights = {key: self._relaxation.weights_of_inputs(key) for key in self.space.inputs}
        return {key: of_node for key, of_node in weights.items() if of_node is not None}

    def sample_final(self) -> Dict[str, Tensor]:
        """The discrete decisions: by key, bool tensors of shape ``(n,)`` or ``(n_candidates,)``, all false for a dropped edge.

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
        return export.in_form(form, self.space, self._derive())

    def ranked(self, n: int = 10, form: str = 'classic') -> List[RankedArchitecture]:
        """The ``n`` most probable architectures, the derived one first, see :mod:`nni_darts_ext.core.ranking`.

        Decisions of methods hold in all of them: candidates that were ruled out and inputs that were selected. The number of skip
        connections that :class:`~nni_darts_ext.methods.skip_limit.SkipLimit` leaves to a cell, and the target of
        :class:`~nni_darts_ext.methods.expected_cost.ExpectedCost`, hold only in the first.

        Parameters
        ----------
        n
            The number of architectures. Default 10. If the space has fewer, all of them are returned.
        form
            See :meth:`architecture`.

        Raises
        ------
        LogitsError
            See :meth:`probabilities`.
        """
        weights = self._revised()
        derived, of_inputs = self.derive(weights), self._numbers_of_inputs()
        strengths = {key: [weight * derived.strengths.get(source, 0.0) for weight, source
                           in zip(of_inputs.get(key, [1.0] * len(sources)), sources)] if key not in (self.selected or {})
                     else [0.0] * len(sources) for key, sources in self.space.sources.items()}
        readers = all_readers(self.space.edges, self.space.sources, self.space.readers)
        return ranking(n, derived, weights, strengths, readers, partial(export.in_form, form, self.space))

    @contextmanager
    def fixed(self, architecture: Architecture) -> Iterator[None]:
        """Run the supernet as the network of an architecture, with its current weights: ``with mutator.fixed(architecture):``.

        In the context, chosen candidates have the weight 1 and all others 0, InputChoices reduce what they keep, methods change
        nothing, and no gradients are recorded. In the same mode, the outputs are those of
        :func:`nni_darts_ext.apply_fixed_architecture` with the weights of the supernet. Afterwards the search is as before.

        Parameters
        ----------
        architecture
            An architecture of this search space, or the name of a JSON file, as for ``apply_fixed_architecture``.

        Raises
        ------
        ArchitectureError
            The architecture cannot be read or does not fit the search space.
        """
        decisions = decide(self.space, load(architecture), readers=self.space.readers)
        with self._relaxation.fixed(decisions):
            yield

    def cut(self, key: str, candidate: Name) -> None:
        """Remove a candidate, by name or index, from the LayerChoice ``key``.

        From the next step on it does not run. Checkpoints and copies keep it cut. Its weights get no gradient, so that optimisers
        change neither them nor their state, until the candidate runs again. In the state of the logits' optimiser, the entries of
        its logit are set to 0. In a training loop of your own, ``zero_grad`` must set gradients to None, as is the default since
        PyTorch 2.0: with zeros, weight decay and momentum would still change the weights.

        Raises
        ------
        SearchSpaceError
            There is no such LayerChoice or candidate.
        LogitsError
            Neither a candidate nor the zero op would be left.
        """
        self.choices.cut(key, self._index(key, candidate))

    def restore(self, key: str, candidate: Name) -> None:
        """Undo :meth:`cut`; the logit starts again at 0. Does nothing if the candidate is not cut."""
        self.choices.restore(key, self._index(key, candidate))

    def sources_found(self) -> Dict[str, List[str]]:
        """:attr:`choose_from` for a checkpoint, in plain strings, as keys may be objects of NNI's classes."""
        return {str(key): [str(source) for source in self.space.sources[key]]
                for key in self.space.inputs if key not in self.space.unnamed}

    def name_sources(self, found: Mapping[str, Sequence[str]]) -> None:
        """Restore what :meth:`sources_found` has returned, for InputChoices whose sources are still unknown."""
        for key in self.space.unnamed.intersection(found):
            self.space.name_sources(key, tuple(found[key]))

    def readers_found(self) -> Optional[Dict[str, List[Any]]]:
        """The readers of each edge's output for a checkpoint: None, a key, or a key and an index. None if unknown."""
        if self.space.readers is None:
            return None
        return {str(key): sorted(([str(reader[0]), reader[1]] if isinstance(reader, tuple) else reader and str(reader)
                                  for reader in readers), key=repr) for key, readers in self.space.readers.items()}

    def name_readers(self, found: Optional[Mapping[str, Sequence[Any]]]) -> None:
        """Restore what :meth:`readers_found` has returned, unless readers are already known."""
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

    def derive(self, weights: Optional[Weights] = None) -> Derivation:
        """The architecture of these weights, by default of the probabilities, whatever ``revise`` does."""
        return derive(self.space, self._numbers() if weights is None else weights, self.zero_op_wins, self._keeps_n_chosen,
                      self.selected or {}, self._numbers_of_inputs())

    def _numbers_of_inputs(self) -> Dict[str, List[float]]:
        with torch.no_grad():
            return {key: of_input.tolist() for key, of_input in self.input_weights().items()}

    def _numbers(self) -> Dict[str, List[float]]:
        with torch.no_grad():
            return {key: weights.tolist() for key, weights in self.probabilities().items()}

    def _revised(self) -> Weights:
        return self._numbers() if self.revise is None else self.revise(self._numbers())

    def _derive(self) -> Derivation:
        return self.derive(self._revised())
