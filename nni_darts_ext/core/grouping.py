"""The cells of a search space, found from the keys of its choices and the order of their sources. It does not import PyTorch.

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
from typing import Dict, List, Mapping, NamedTuple, Sequence, Tuple

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


def cells_of(sources: Mapping[str, Sequence[str]]) -> List[Cell]:
    """The cells of a space, in the order of their first nodes. Every InputChoice is in one of them. ``sources`` has for each
    InputChoice the keys of the sources of its candidates."""
    found: List[List[str]] = []  # the cell that last grew comes first
    for key in sources:
        fit = (cell for cell in found if len(sources[key]) == len(sources[cell[-1]]) + 1 and _comes_after(cell[-1], key))
        cell = next(fit, [])
        if cell:
            found.remove(cell)
        found.insert(0, [*cell, key])
    order = list(sources)
    named: Dict[str, List[str]] = {}
    for nodes in sorted(found, key=lambda nodes: order.index(nodes[0])):
        name = os.path.commonprefix(nodes).rstrip('0123456789').rstrip(' _-./') if len(nodes) > 1 else ''
        named[name if name and name not in named and name not in sources else nodes[0]] = nodes
    return [Cell(name, tuple(nodes), len(sources[nodes[0]])) for name, nodes in named.items()]


def _comes_after(before: str, key: str) -> bool:
    one, two = _NUMBER.split(before), _NUMBER.split(key)
    differ = [i for i, (a, b) in enumerate(zip(one, two)) if a != b]
    return len(one) == len(two) and len(differ) == 1 and differ[0] % 2 == 1 and int(one[differ[0]]) < int(two[differ[0]])
