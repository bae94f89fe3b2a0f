"""Indicators of collapse: dominant skip connections, probabilities that do not move, undecided edges."""

from __future__ import annotations

import math
from typing import Any, Dict, Iterable, List, Mapping, NamedTuple, Optional, Sequence, Tuple

import torch
from torch import Tensor

from .criteria import SKIP_CONNECTIONS as SKIP_CONNECTIONS
from .criteria import most_skips, skips_of_cells
from .logits import Logits
from .space import SearchSpace


class Collapse(NamedTuple):
    """The indicators of collapse."""

    skip_share: float
    """The share of skip connections among the derived edges of a cell, the largest of all cells, from 0 to 1."""
    entropy: float
    """The mean entropy of the edges' probabilities as a share of its maximum, from 0 (decided) to 1."""
    movement: Optional[float]
    """The largest absolute change of a probability since the previous reading; None at the first one, and if no optimiser has
    stepped the logits since, as in a warm-up.

    Logits can move without any effect: a regulariser such as beta decay makes all those of an edge smaller.
    """


class CollapseWatch:
    """Computes the indicators of a mutator epoch by epoch.

    Parameters
    ----------
    mutator
        The ``DartsMutator`` of any family: it has ``space``, ``choices`` and ``sample_final()``.
    skip_connections
        The names of the candidates that count as skip connections, ignoring case. Default
        :data:`~nni_darts_ext.core.criteria.SKIP_CONNECTIONS`.
    """

    def __init__(self, mutator: Any, skip_connections: Iterable[str] = SKIP_CONNECTIONS) -> None:
        self._mutator = mutator
        self._skip_connections = set(skip_connections)
        self._before: Optional[Dict[str, Tensor]] = None
        self._steps: List[int] = []
        """Counts of the changes in place of each edge's logits, also of those that leave them as they are."""

    def read(self) -> Collapse:
        """The current indicators."""
        mutator, before, steps = self._mutator, self._before, self._steps
        self._steps = [logits._version for logits in mutator.choices.values()]
        of_edges = entropies(mutator.choices).values()
        self._before = {key: weights.detach().clone() for key, weights in mutator.choices.all_probabilities().items()}
        movement = None if before is None else max((float((weights - before[key]).abs().max())
                                                    for key, weights in self._before.items()), default=0.0)
        if movement == 0 and steps == self._steps:
            movement = None
        return Collapse(skip_share(mutator.space, mutator.sample_final(), self._skip_connections),
                        sum(of_edges) / len(of_edges) if of_edges else 0.0, movement)


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
    """The share of skip connections among the derived edges of a cell, the largest of all cells: see
    :func:`nni_darts_ext.core.criteria.most_skips`.

    Parameters
    ----------
    space
        The search space.
    decisions
        For each edge whether each of its candidates is kept, n bools.
    skip_connections
        The names of the candidates that count as skip connections, ignoring case.
    """
    return most_skips(*_described(space, decisions), skip_connections).share


def skips_by_cell(space: SearchSpace, decisions: Mapping[str, Any]) -> Dict[str, Tuple[str, ...]]:
    """For each cell, by name, the edges that a derived architecture keeps as skip connections, see
    :func:`nni_darts_ext.core.criteria.skips_of_cells`. The parameters are those of :func:`skip_share`."""
    return {found.cell: found.keys for found in skips_of_cells(*_described(space, decisions))}


def _described(space: SearchSpace, decisions: Mapping[str, Any]) -> Tuple[Dict[str, Sequence[Any]], Mapping[str, Any],
                                                                         Dict[str, List[int]]]:
    """The candidates of edges, the sources of inputs and the indices of the derived candidates, as the criteria take them."""
    return ({key: edge.names for key, edge in space.edges.items()}, space.sources,
            {key: [i for i, is_kept in enumerate(decisions[key]) if is_kept] for key in space.edges})
