"""Indicators of collapse: dominant skip connections, logits that do not move, undecided edges."""

from __future__ import annotations

import math
from typing import Any, Dict, FrozenSet, Iterable, List, Mapping, NamedTuple, Optional

import torch
from torch import Tensor

from .grouping import cells
from .logits import Logits
from .space import SearchSpace

SKIP_CONNECTIONS: FrozenSet[str] = frozenset(['skip_connect', 'skip_connection', 'skip', 'identity'])
"""The names of skip connections, in lower case."""


class Collapse(NamedTuple):
    """The indicators of collapse."""

    skip_share: float
    """The share of the derived edges that are skip connections, from 0 to 1."""
    entropy: float
    """The mean entropy of the edges' probabilities as a share of its maximum, from 0 (decided) to 1."""
    movement: Optional[float]
    """The largest absolute change of a logit since the previous reading; None at the first one."""


class CollapseWatch:
    """Computes the indicators of a mutator epoch by epoch.

    Parameters
    ----------
    mutator
        The ``DartsMutator`` of any family: it has ``space``, ``choices`` and ``sample_final()``.
    skip_connections
        The names of the candidates that count as skip connections, ignoring case. Default :data:`SKIP_CONNECTIONS`.
    """

    def __init__(self, mutator: Any, skip_connections: Iterable[str] = SKIP_CONNECTIONS) -> None:
        self._mutator = mutator
        self._skip_connections = {name.lower() for name in skip_connections}
        self._before: Optional[Dict[str, Tensor]] = None

    def read(self) -> Collapse:
        """The current indicators."""
        before, self._before = self._before, self._logits()
        movement = None if before is None else max(float((logits - before[key]).abs().max())
                                                   for key, logits in self._before.items())
        of_edges = entropies(self._mutator.choices).values()
        return Collapse(skip_share(self._mutator.space, self._mutator.sample_final(), self._skip_connections),
                        sum(of_edges) / len(of_edges) if of_edges else 0.0, movement)

    def _logits(self) -> Dict[str, Tensor]:
        return {key: logits.detach().clone() for key, logits in self._mutator.choices.items()}


def entropies(choices: Logits) -> Dict[str, float]:
    """For each edge the entropy of its probabilities, including the zero op's, as a share of its maximum: 0 (decided) to 1.

    Of weights that do not add up to 1 it is that of their shares.

    Raises
    ------
    LogitsError
        Logits are not finite: see :meth:`nni_darts_ext.core.logits.Logits.read`.
    """
    choices.check()
    with torch.no_grad():
        found = {key: of_edge.abs() for key, of_edge in choices.all_probabilities().items()}
        shares = {key: of_edge / of_edge.sum().clamp(min=torch.finfo(of_edge.dtype).tiny) for key, of_edge in found.items()}
        return {key: float(torch.special.entr(of_edge).sum()) / math.log(len(of_edge)) for key, of_edge in shares.items()}


def skip_share(space: SearchSpace, decisions: Mapping[str, Any], skip_connections: Iterable[str] = SKIP_CONNECTIONS) -> float:
    """The share of skip connections among the edges that a derived architecture keeps (0 if it keeps no edge).

    Parameters
    ----------
    space
        The search space.
    decisions
        For each edge whether each of its candidates is kept, n bools.
    skip_connections
        Names in lower case.
    """
    names = set(skip_connections)
    kept = [str(name).lower() for edge in space.edges.values()
            for name, is_kept in zip(edge.names, decisions[edge.key]) if is_kept]
    return sum(name in names for name in kept) / len(kept) if kept else 0.0


def skips_of_cells(space: SearchSpace, decisions: Mapping[str, Any]) -> Dict[str, List[str]]:
    """For each cell, by name, the edges that a derived architecture keeps as skip connections.

    Edges that no InputChoice chooses from are together one more cell, which has no name (``''``).

    Parameters
    ----------
    space
        The search space.
    decisions
        For each choice whether each of its candidates is kept, bools.
    """
    skips = [edge.key for edge in space.edges.values()
             if any(is_kept and str(name).lower() in SKIP_CONNECTIONS for name, is_kept in zip(edge.names, decisions[edge.key]))]
    found = {cell.name: {source for node in cell.nodes
                         for source, is_kept in zip(space.sources[node], decisions[node]) if is_kept} for cell in cells(space)}
    found[''] = set(space.edges).difference(*space.sources.values())
    return {name: [key for key in skips if key in kept] for name, kept in found.items()}
