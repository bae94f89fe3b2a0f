"""The cells of a search space, found from the keys of its choices and the order of their sources.

A space says which edges an InputChoice chooses from, not where these edges come from, nor which InputChoices make up a cell.
DARTS' cells tell by their shape: each intermediate node reads the inputs of the cell and all nodes before it, so that it has one
source more than the node before. An InputChoice is taken for the next node of a cell if

- it has one source more than the last node of the cell so far, and
- its key is that of this last node with one of the numbers in it replaced by a larger one (``normal_2_inputs`` and
  ``normal_3_inputs``, ``node0`` and ``node1``, ``model_3`` and ``model_7``).

Of several cells that it would fit, it belongs to the one that was added to last. An InputChoice that fits none starts a cell. The
inputs of a cell are as many as the sources of its first node; source i of a node is input i of the cell, or node i - inputs.
"""

from __future__ import annotations

import os
import re
from typing import Dict, List, NamedTuple, Optional, Tuple

from . import Name, Run, Space

_NUMBER = re.compile(r'(\d+)')


class Cell(NamedTuple):
    """Nodes that read each other, numbered as the sources are: the inputs first, then the intermediate nodes."""

    name: str
    """What the keys of its nodes begin with, or the key of the first one; no other cell has that name."""
    nodes: Tuple[str, ...]
    """The keys of the InputChoices that are its intermediate nodes, in their order."""
    n_inputs: int

    def number(self, node: str) -> int:
        """The number that the sources know an intermediate node by."""
        return self.n_inputs + self.nodes.index(node)


class Edge(NamedTuple):
    """An edge of a derived cell."""

    source: int
    target: int
    """The numbers of the nodes that it lies between."""
    key: str
    candidate: Optional[Name]
    """None where no LayerChoice lies on it."""
    weight: float
    is_kept: bool


FIXED = 'fixed'
"""Says that no LayerChoice lies on an edge."""


def cells(space: Space) -> List[Cell]:
    """The cells of a space, in the order of their first nodes. Every InputChoice is in one of them."""
    found: List[List[str]] = []  # the one that was added to last comes first
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


def free_edges(space: Space) -> List[str]:
    """The edges that no InputChoice chooses from."""
    chosen_from = {source for node in space.inputs.values() for source in node.choose_from}
    return [key for key in space.edges if key not in chosen_from]


def telling(space: Space) -> List[str]:
    """The choices that make up an architecture: without the InputChoices that keep just those of their edges that are not
    dropped, for nothing else feeds them and their edges feed nothing else."""
    sources = [source for node in space.inputs.values() for source in node.choose_from]
    return [*space.edges, *(key for key, node in space.inputs.items() if not all(
        source in space.edges and sources.count(source) == 1 for source in node.choose_from))]


def edges_of(run: Run, cell: Cell, all_edges: bool = False) -> List[Edge]:
    """The edges of a cell that are derived after the last epoch; if told so, the others too, with their best candidates."""
    last, found = run.epochs[-1], []
    for node in cell.nodes:
        for source, key in enumerate(run.space.inputs[node].choose_from):
            is_chosen = source in last.architecture[node]
            if not is_chosen and not all_edges:
                continue
            if key not in run.space.edges:
                found.append(Edge(source, cell.number(node), key, None, 0.0, is_chosen))
                continue
            kept = last.architecture[key]
            *weights, _ = last.weights[key]
            best = kept[0] if kept else weights.index(max(weights))
            found.append(Edge(source, cell.number(node), key, run.space.edges[key][best], weights[best],
                              is_chosen and bool(kept)))
    return found


def _comes_after(before: str, key: str) -> bool:
    one, two = _NUMBER.split(before), _NUMBER.split(key)
    differ = [i for i, (a, b) in enumerate(zip(one, two)) if a != b]
    return len(one) == len(two) and len(differ) == 1 and differ[0] % 2 == 1 and int(one[differ[0]]) < int(two[differ[0]])

