"""When a search counts as collapsed: one rule for the readers of a run and for NNI's assessor. It does not import PyTorch."""

from __future__ import annotations

import math
from itertools import takewhile
from typing import AbstractSet, Any, FrozenSet, Iterable, List, Mapping, NamedTuple, Sequence, Tuple, Union

from .grouping import cells_of

SKIP_CONNECTIONS: FrozenSet[str] = frozenset(['skip_connect', 'skip_connection', 'skip', 'identity'])
"""The names of skip connections, in lower case."""


def is_skip(name: Union[str, int], skip_connections: AbstractSet[str] = SKIP_CONNECTIONS) -> bool:
    """Whether a candidate has one of these names, which are in lower case."""
    return str(name).lower() in skip_connections


class Skips(NamedTuple):
    """The skip connections of a derived cell."""

    cell: str
    """The name of the cell; ``''`` for the edges outside cells."""
    keys: Tuple[str, ...]
    """The derived edges that are skip connections."""
    edges: int
    """The number of derived edges."""

    @property
    def share(self) -> float:
        """From 0 to 1; 0 if no edge is derived."""
        return len(self.keys) / self.edges if self.edges else 0.0


def skips_of_cells(edges: Mapping[str, Sequence[Union[str, int]]], sources: Mapping[str, Sequence[str]],
                   kept: Mapping[str, Iterable[int]], skip_connections: Iterable[str] = SKIP_CONNECTIONS,
                   least_nodes: int = 1) -> List[Skips]:
    """The skip connections of each cell. The edges outside cells are together the last one, without a name.

    Parameters
    ----------
    edges
        The names of the candidates of each edge.
    sources
        For each InputChoice the keys of the sources of its candidates.
    kept
        For each edge the indices of the derived candidates.
    skip_connections
        The names of the candidates that count as skip connections, ignoring case.
    least_nodes
        The number of nodes that make a cell. Default 1.
    """
    names = {name.lower() for name in skip_connections}
    groups = {cell.name: {source for node in cell.nodes for source in sources[node]}
              for cell in cells_of(sources) if len(cell.nodes) >= least_nodes}
    groups[''] = set(edges).difference(*groups.values())
    are_skips = {key: [is_skip(of_edge[i], names) for i in kept[key]] for key, of_edge in edges.items()}
    return [Skips(cell, tuple(key for key in edges if key in group and any(are_skips[key])),
                  sum(len(are_skips[key]) for key in edges if key in group)) for cell, group in groups.items()]


def most_skips(edges: Mapping[str, Sequence[Union[str, int]]], sources: Mapping[str, Sequence[str]],
               kept: Mapping[str, Iterable[int]], skip_connections: Iterable[str] = SKIP_CONNECTIONS) -> Skips:
    """The cell with the largest share of skip connections, see :func:`skips_of_cells`.

    The average over all cells would hide a cell of skip connections alone beside another one without any. InputChoices that
    belong to no others, each of which would be a cell of one node, count as outside cells.
    """
    return max(skips_of_cells(edges, sources, kept, skip_connections, least_nodes=2), key=lambda skips: skips.share)


class Criteria(NamedTuple):
    """The rule. It judges the indicators of a search's epochs, mappings with ``skip_share``, ``movement`` and ``entropy``."""

    max_skip_share: float = 0.5
    """Skip connections dominate an architecture if they take more than this share of the derived edges of a cell. Default 0.5: in
    NAS-Bench-201, no cell above it reaches the accuracy of a good one, but many below it do; and the cells that the DARTS paper
    found have up to 3 skip connections among 8 edges."""
    min_movement: float = 1e-6
    """A search does not move if no probability changes by more than this in an epoch. Default 1e-6, less than a single step of
    Adam with the paper's learning rate of 3e-4 makes (6e-6 where a candidate has the probability 0.98). Under a strong
    regulariser, such as the beta decay of NAS-Bench-201 searches, it is about 1e-4."""
    patience: int = 3
    """The number of consecutive epochs for which one of these must hold. Default 3; DARTS+ (Liang et al. 2019) uses 1 for its
    criterion of skip connections, and 10 for its criterion of a stable ranking."""

    def dominated(self, epochs: Sequence[Mapping[str, Any]]) -> int:
        """For how many epochs skip connections have dominated, without interruption until the last one. Those of a warm-up do not
        count: the first logits are random."""
        trained = epochs[self.warm_up(epochs):]
        return sum(1 for _ in takewhile(lambda epoch: epoch['skip_share'] > self.max_skip_share, reversed(trained)))

    @staticmethod
    def warm_up(epochs: Sequence[Mapping[str, Any]]) -> int:
        """The number of epochs at the beginning in which no optimiser stepped the logits: those with ``entropy`` and without
        ``movement``. One alone may only have had nothing to be compared with, and is not counted."""
        still = sum(1 for _ in takewhile(lambda epoch: 'entropy' in epoch and epoch.get('movement') is None, epochs))
        return still if still > 1 else 0

    def unmoved(self, epochs: Sequence[Mapping[str, Any]]) -> int:
        """For how many epochs the probabilities have not moved although edges are undecided, until the last one."""
        return sum(1 for _ in takewhile(
            lambda epoch: epoch.get('movement', math.inf) <= self.min_movement and epoch.get('entropy', 1.0) > DECIDED,
            reversed(epochs)))


DECIDED = 0.1
"""The mean entropy of the edges, as a share of its maximum, below which a search that does not move has decided: with five
candidates, one has a probability of more than 0.97."""
