"""The cells of a search space, found from the keys of its choices and the order of their sources.

A space says which edges an InputChoice chooses from, but not where these edges come from, nor which InputChoices form a cell.
The cells of DARTS are recognized by their shape: each intermediate node reads the inputs of the cell and all nodes before it, so
it has one source more than the node before. An InputChoice is the next node of a cell if

- it has one source more than the last node of the cell so far, and
- its key is the key of this last node with one number replaced by a larger one (``normal_2_inputs`` and ``normal_3_inputs``,
  ``node0`` and ``node1``, ``model_3`` and ``model_7``).

If it fits several cells, it joins the one that last grew. If it fits no cell, it starts a new one. A cell has as many inputs as
its first node has sources; source i of a node is input i of the cell, or node i - n_inputs.
"""

from __future__ import annotations

import os
import re
from typing import Dict, List, NamedTuple, Optional, Tuple

from . import Name, Run, SpaceRecord

_NUMBER = re.compile(r'(\d+)')


class Cell(NamedTuple):
    """A cell. Its nodes are numbered as the sources are: first the inputs, then the intermediate nodes."""

    name: str
    """The common prefix of its nodes' keys, or the key of the first node; unique among the cells."""
    nodes: Tuple[str, ...]
    """The keys of the InputChoices that are its intermediate nodes, in order."""
    n_inputs: int

    def number(self, node: str) -> int:
        """The number of an intermediate node."""
        return self.n_inputs + self.nodes.index(node)


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
    found: List[List[str]] = []  # the cell that last grew comes first
    for key, node in space.inputs.items():
        fit = (cell for cell in found if len(node.choose_from) == len(space.inputs[cell[-1]].choose_from) + 1
               and _comes_after(cell[-1], key))
        cell = next(fit, [])
        if cell:
            found.remove(cell)
        found.insert(0, [*cell, key])
    order = list(space.inputs)
    named: Dict[str, List[str]] = {}
    for nodes in sorted(found, key=lambda nodes: order.index(nodes[0])):
        name = os.path.commonprefix(nodes).rstrip('0123456789').rstrip(' _-./') if len(nodes) > 1 else ''
        named[name if name and name not in named and name not in space.inputs else nodes[0]] = nodes
    return [Cell(name, tuple(nodes), len(space.inputs[nodes[0]].choose_from)) for name, nodes in named.items()]


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


def _comes_after(before: str, key: str) -> bool:
    one, two = _NUMBER.split(before), _NUMBER.split(key)
    differ = [i for i, (a, b) in enumerate(zip(one, two)) if a != b]
    return len(one) == len(two) and len(differ) == 1 and differ[0] % 2 == 1 and int(one[differ[0]]) < int(two[differ[0]])

