"""The probabilities of all edges after the last epoch, as a shaded table."""

from __future__ import annotations

from typing import Any, Dict, List, Tuple

import matplotlib
from matplotlib.patches import Rectangle

from ..run import Name, Run
from . import style
from .style import MARGIN, SMALL

ROW, GAP, TOP, WIDEST = 0.24, 0.2, 0.65, 1.8
"""In inches: the height of a row, the gap between tables, the space for the title, the maximum width of a name."""
COLORS = 'Blues'
"""Larger is darker, which is also visible in black and white and to the colour-blind."""


def draw(run: Run) -> Any:
    """A table for each set of candidates: edges by candidates, the zero op last. Derived candidates are framed."""
    tables: Dict[Tuple[Name, ...], List[str]] = {}
    for key, names in run.space.edges.items():
        tables.setdefault(names, []).append(key)
    title = style.headed(f'{run.name}: probabilities after epoch {run.epochs[-1].epoch + 1}')
    heads = {names: [style.shortened(str(name), WIDEST, SMALL) for name in (*names, style.ZERO_OP)] for names in tables}
    labels = {key: style.shortened(key, WIDEST, SMALL) for key in run.space.edges}
    left = MARGIN + style.widest(labels.values(), SMALL) + 0.15
    widths = {names: max(0.5, style.widest(head, SMALL, weight='bold') + 0.15) for names, head in heads.items()}
    right = left + max(len(heads[names]) * widths[names] for names in tables)
    width = max(right, MARGIN + style.inches(title, weight='bold')) + MARGIN
    height = TOP + sum((len(keys) + 1) * ROW + GAP for keys in tables.values())
    figure = style.sheet(width, height)
    style.write(figure, MARGIN, MARGIN, title, weight='bold')
    style.write(figure, MARGIN, MARGIN + 0.2, 'framed: derived', fontsize=SMALL)
    axes = figure.add_axes([0, 0, 1, 1], xlim=(0, width), ylim=(height, 0))
    axes.axis('off')
    highest = max(weight for weights in run.epochs[-1].weights.values() for weight in weights)
    top = TOP
    for names, keys in tables.items():
        for j, head in enumerate(heads[names]):
            axes.text(left + (j + 0.5) * widths[names], top + ROW / 2, style.plain(head), ha='center', va='center',
                      fontsize=SMALL, weight='bold')
        for key in keys:
            top += ROW
            axes.text(left - 0.1, top + ROW / 2, style.plain(labels[key]), ha='right', va='center', fontsize=SMALL)
            _row(axes, run, key, left, top, widths[names], highest)
        top += ROW + GAP
    return figure


def _row(axes: Any, run: Run, key: str, left: float, top: float, width: float, highest: float) -> None:
    colors = matplotlib.colormaps[COLORS] if hasattr(matplotlib, 'colormaps') else matplotlib.cm.get_cmap(COLORS)
    weights, chosen = run.epochs[-1].weights[key], run.epochs[-1].architecture[key]
    for j, weight in enumerate(weights):
        share = max(0.0, weight) / highest if highest > 0 else 0.0
        axes.add_patch(Rectangle((left + j * width, top), width, ROW, facecolor=colors(share), edgecolor='white', linewidth=0.5))
        axes.text(left + (j + 0.5) * width, top + ROW / 2, f'{weight:.2f}', ha='center', va='center', fontsize=SMALL,
                  color='white' if style.is_dark(colors(share)) else 'black', weight='bold' if j in chosen else 'normal')
    for j in chosen:
        for color, inset in (('black', 0.012), ('white', 0.03)):  # visible on dark and on bright cells
            axes.add_patch(Rectangle((left + j * width + inset, top + inset), width - 2 * inset, ROW - 2 * inset, fill=False,
                                     edgecolor=color, linewidth=1.2, zorder=3))
