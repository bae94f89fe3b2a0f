"""A derived cell as a graph, from its inputs on the left to its last node on the right.

The layout is the layered one of Sugiyama, Tagawa and Toda. The layers are given: layers of nodes and layers of labels alternate.
Each edge has its label in the layer before its target, and a bend in every other layer that it crosses, so nothing overlaps.
"""

from __future__ import annotations

from bisect import bisect_right, insort
from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Tuple

import networkx as nx
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch
from matplotlib.path import Path

from ..run import Run
from ..run.cells import NO_CHOICE, Cell, CellEdge, edges_of
from . import style
from .style import MARGIN

SWEEPS = 12
STRAIGHT = 4.0
"""The factor of a link's weight for each of its ends that is a bend, to keep edges straight there."""
ROW, NODE, GAP, TOP = 0.38, 0.3, 0.3, 0.5
"""In inches: the distance of rows, the height of a node, the minimum gap between layers, the space for the title."""


def label(edge: CellEdge) -> str:
    """The label of an edge: its candidate and its weight."""
    return NO_CHOICE if edge.candidate is None else f'{edge.candidate}  {edge.weight:.2f}'


def draw(run: Run, cell: Cell, all_edges: bool = False) -> Any:
    """The figure of one cell."""
    edges = edges_of(run, cell, all_edges)
    n_nodes = cell.n_inputs + len(cell.nodes)
    names = [f'input {i}' if i < cell.n_inputs else str(i) for i in range(n_nodes)]
    graph = layered(n_nodes, cell.n_inputs, edges)
    heights = rows(graph)
    columns = _columns(graph, heights, edges, [style.widest(names[:cell.n_inputs]) + 0.16,
                                                      max(NODE, style.widest(names[cell.n_inputs:]) + 0.16)])
    title = style.headed(f'{run.name}: {cell.name}, derived after epoch {run.epochs[-1].epoch + 1}')
    width = max(columns[-1].right, MARGIN + style.inches(title, weight='bold')) + MARGIN
    high = max(heights.values())
    figure = style.sheet(width, TOP + (high - min(heights.values()) + 1) * ROW + MARGIN)
    style.write(figure, MARGIN, MARGIN, title, weight='bold')
    axes = figure.add_axes([0, 0, 1, 1], xlim=(0, width), ylim=(0, figure.get_figheight()))
    axes.axis('off')

    def at(node: Any) -> Tuple[Column, float]:
        return columns[graph.nodes[node]['rank']], MARGIN + (high - heights[node] + 0.5) * ROW
    for edge, path in zip(edges, graph.graph['paths']):
        look: Dict[str, Any] = {'color': 'black', 'linewidth': 1.3, 'zorder': 1.5} if edge.is_kept else \
            {'color': style.FAINT, 'linewidth': 0.8, 'zorder': 1, 'linestyle': (0, (4, 3))}
        axes.add_patch(FancyArrowPatch(path=_curve([at(node) for node in path]), arrowstyle='-|>', mutation_scale=9, shrinkA=0,
                                       shrinkB=0, **look))
        column, y = at(path[-2])
        axes.text(column.middle, y, style.plain(label(edge)), ha='center', va='center', color=look['color'], zorder=2,
                  bbox={'facecolor': 'white', 'edgecolor': 'none', 'pad': 1.5})
    for i, name in enumerate(names):
        column, y = at(i)
        rounding, color = (NODE / 8, '#e8e8e8') if i < cell.n_inputs else (NODE / 2, 'white')
        axes.add_patch(FancyBboxPatch(
            (column.left, y - NODE / 2), column.right - column.left, NODE, zorder=3, linewidth=1.2, edgecolor='black',
            facecolor=color, boxstyle=f'round,pad=0,rounding_size={rounding}'))
        axes.text(column.middle, y, name, ha='center', va='center', zorder=4)
    return figure


class Column(NamedTuple):
    """The position of a layer, in inches from the left."""

    left: float
    right: float

    @property
    def middle(self) -> float:
        return (self.left + self.right) / 2


def _columns(graph: nx.DiGraph, heights: Dict[Any, float], edges: Sequence[CellEdge],
             node_widths: Sequence[float]) -> List[Column]:
    """A column for each layer, as wide as its content. The steeper the edges between two layers, the wider the gap."""
    ranks = 1 + max(rank for _, rank in graph.nodes(data='rank'))
    widths, gaps = [node_widths[rank > 0] if rank % 2 == 0 else 0.0 for rank in range(ranks)], [GAP] * ranks
    for edge, path in zip(edges, graph.graph['paths']):
        rank = graph.nodes[path[-2]]['rank']
        widths[rank] = max(widths[rank], style.inches(label(edge)) + 0.1)
        for before, after in zip(path, path[1:]):
            rank = graph.nodes[before]['rank']
            gaps[rank] = max(gaps[rank], 0.3 * ROW * abs(heights[before] - heights[after]))
    columns = [Column(MARGIN, MARGIN + widths[0])]
    for rank in range(1, ranks):
        left = columns[-1].right + gaps[rank - 1]
        columns.append(Column(left, left + widths[rank]))
    return columns


def _rank(node: int, n_inputs: int) -> int:
    """The layer of a node. Layers with odd numbers hold labels."""
    return 2 * max(0, node - n_inputs + 1)


def layered(n_nodes: int, n_inputs: int, edges: Sequence[CellEdge]) -> nx.DiGraph:
    """The graph of nodes, labels and bends. Each node has its layer as ``rank``; ``graph['paths']`` holds the nodes that each
    edge passes through."""
    graph = nx.DiGraph(paths=[])
    for node in range(n_nodes):
        graph.add_node(node, rank=_rank(node, n_inputs))
    for i, edge in enumerate(edges):
        first, last = _rank(edge.source, n_inputs), _rank(edge.target, n_inputs)
        bends = [(i, rank) for rank in range(first + 1, last)]
        for bend in bends:
            graph.add_node(bend, rank=bend[1])
        path = [edge.source, *bends, edge.target]
        nx.add_path(graph, path)
        graph.graph['paths'].append(path)
    return graph


def rows(graph: nx.DiGraph) -> Dict[Any, float]:
    """For each node of a layered graph its distance from the top, in rows.

    To reduce crossings, each layer is sorted by the mean position of its neighbours, in sweeps to the right and left. To reduce
    bends, every node then moves towards its neighbours as far as the other nodes of its layer allow.
    """
    layers: Dict[int, List[Any]] = {}
    for node, rank in graph.nodes(data='rank'):
        layers.setdefault(rank, []).append(node)
    before, after = ({node: list(others) for node, others in neighbours.items()} for neighbours in (graph.pred, graph.succ))
    heights = {node: float(i) for layer in layers.values() for i, node in enumerate(layer)}
    best: List[List[Any]] = []
    fewest: Optional[int] = None
    ranks = sorted(layers)
    for sweep in range(SWEEPS):
        forth = sweep % 2 == 0
        for rank in (ranks[1:] if forth else ranks[-2:0:-1]):
            neighbours = before if forth else after
            layers[rank].sort(key=lambda node: _mean([heights[other] for other in neighbours[node]], heights[node]))
            heights.update((node, float(i)) for i, node in enumerate(layers[rank]))
        crossings = _crossings([layers[rank] for rank in ranks], after)
        if fewest is None or crossings < fewest:
            best, fewest = [list(layers[rank]) for rank in ranks], crossings
    for layer in best:
        heights.update((node, i - len(layer) / 2) for i, node in enumerate(layer))
    links = {node: [(other, STRAIGHT ** (isinstance(node, tuple) + isinstance(other, tuple)))
                    for other in (*before[node], *after[node])] for layer in best for node in layer}
    for sweep in range(8 * SWEEPS):
        for layer in best[::1 if sweep % 2 == 0 else -1]:
            heights.update(zip(layer, _spread([_wish(node, links[node], heights) for node in layer])))
    return heights


def _wish(node: Any, links: Sequence[Tuple[Any, float]], heights: Dict[Any, float]) -> Tuple[float, float]:
    """The best position of a node with respect to its neighbours, given with the weights of the links, and its own weight."""
    weight = sum(its for _, its in links)
    return (sum([heights[other] * its for other, its in links]) / weight, weight) if links else (heights[node], 1.0)


def _crossings(layers: Sequence[Sequence[Any]], after: Dict[Any, List[Any]]) -> int:
    """The number of crossings of links: each link crosses the earlier links of its layer that end further down."""
    at = {node: i for layer in layers for i, node in enumerate(layer)}
    found = 0
    for layer in layers:
        ends: List[int] = []
        for node in layer:
            of_node = sorted(at[other] for other in after[node])
            found += sum(len(ends) - bisect_right(ends, end) for end in of_node)
            for end in of_node:
                insort(ends, end)
    return found


def _spread(wishes: Sequence[Tuple[float, float]]) -> List[float]:
    """The positions closest to the wishes (weighted least squares) that keep the order and a distance of at least 1."""
    blocks: List[Tuple[float, float, int]] = []  # mean, weight and size of adjacent nodes at distance 1: isotonic regression
    for i, (wish, weight) in enumerate(wishes):
        mean, size = wish - i, 1
        while blocks and blocks[-1][0] > mean:
            other, its_weight, n = blocks.pop()
            mean = (other * its_weight + mean * weight) / (its_weight + weight)
            weight, size = its_weight + weight, n + size
        blocks.append((mean, weight, size))
    return [place + i for i, place in enumerate(mean for mean, _, size in blocks for _ in range(size))]


def _mean(values: Sequence[float], otherwise: float) -> float:
    return sum(values) / len(values) if values else otherwise


def _curve(places: Sequence[Tuple[Column, float]]) -> Path:
    """A path that is straight inside layers, with curves between them that start and end horizontally."""
    (column, y), *others = places
    vertices, codes = [(column.right, y)], [Path.MOVETO]
    for column, next_y in others:
        middle = (vertices[-1][0] + column.left) / 2
        vertices += [(middle, y), (middle, next_y), (column.left, next_y), (column.right, next_y)]
        codes += [Path.CURVE4, Path.CURVE4, Path.CURVE4, Path.LINETO]
        y = next_y
    return Path(vertices[:-1], codes[:-1])
