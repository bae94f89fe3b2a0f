"""The cells of a run's space, their edges, and the choices outside cells. See :mod:`nni_darts_ext.core.grouping`."""

from __future__ import annotations

from typing import List, NamedTuple, Optional

from ..core.grouping import Cell as Cell
from ..core.grouping import cells_of
from . import Name, Run, SpaceRecord


class CellEdge(NamedTuple):
    """An edge of a derived cell."""

    source: int
    """The number of the node that it starts from."""
    target: int
    """The number of the node that it leads to."""
    key: str
    candidate: Optional[Name]
    """None if the edge has no LayerChoice."""
    weight: float
    is_kept: bool


NO_CHOICE = 'no choice'
"""Shown for an edge without a LayerChoice."""


def cells(space: SpaceRecord) -> List[Cell]:
    """The cells of a space, in the order of their first nodes. Every InputChoice is in one of them."""
    return cells_of(space.sources)


def free_edges(space: SpaceRecord) -> List[str]:
    """The edges that no InputChoice chooses from."""
    chosen_from = {source for node in space.inputs.values() for source in node.choose_from}
    return [key for key in space.edges if key not in chosen_from]


def architecture_keys(space: SpaceRecord) -> List[str]:
    """The choices that identify an architecture. An InputChoice is left out if all its sources are edges that feed only it:
    it keeps exactly those of them that are not dropped."""
    sources = [source for node in space.inputs.values() for source in node.choose_from]
    return [*space.edges, *(key for key, node in space.inputs.items() if not all(
        source in space.edges and sources.count(source) == 1 for source in node.choose_from))]


def edges_of(run: Run, cell: Cell, all_edges: bool = False) -> List[CellEdge]:
    """The edges of a cell that are derived after the last epoch; with ``all_edges`` also the others and their best candidates."""
    last, found = run.epochs[-1], []
    for node in cell.nodes:
        for source, key in enumerate(run.space.inputs[node].choose_from):
            is_chosen = source in last.architecture[node]
            if not is_chosen and not all_edges:
                continue
            if key not in run.space.edges:
                found.append(CellEdge(source, cell.number(node), key, None, 0.0, is_chosen))
                continue
            kept = last.architecture[key]
            *weights, _ = last.weights[key]
            best = kept[0] if kept else weights.index(max(weights))
            found.append(CellEdge(source, cell.number(node), key, run.space.edges[key][best], weights[best],
                              is_chosen and bool(kept)))
    return found
