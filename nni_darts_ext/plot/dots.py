"""Results of networks: as marks on an axis, a row for each group, stacked where they would overlap; and against a cost."""

from __future__ import annotations

from statistics import mean
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

from matplotlib.ticker import MaxNLocator

from . import style
from .style import MARGIN, SMALL

WIDTH, ROW, MARK, BOTTOM = 4.5, 0.7, 0.085, 0.5
"""In inches: the width of the axis, the height of a row, the size of a mark, the space for the axis."""


def draw(rows: Mapping[str, Sequence[float]], label: str, best: Optional[float] = None) -> Any:
    """The figure. ``best`` marks a result in the first row."""
    left = 2 * MARGIN + style.widest(rows)
    figure = style.sheet(left + WIDTH + 2 * MARGIN, MARGIN + len(rows) * ROW + BOTTOM + MARGIN)
    axes = style.place(figure, left, MARGIN, WIDTH, len(rows) * ROW, ylim=(len(rows) * ROW, 0))
    values = [value for row in rows.values() for value in row]
    low, high = min(values, default=0.0), max(values, default=1.0)
    room = 0.06 * (high - low) or 0.05 * abs(high) or 1.0
    axes.set_xlim(low - room, high + room)
    axes.set_yticks([(i + 0.5) * ROW for i in range(len(rows))])
    axes.set_yticklabels([style.plain(name) for name in rows], fontsize=style.SIZE)
    axes.tick_params(axis='y', length=0)
    axes.set_xlabel(style.plain(f'{label}; a line is the mean'), fontsize=SMALL)
    inches = WIDTH / (high - low + 2 * room)
    for i, row in enumerate(rows.values()):
        middle, ordered = (i + 0.5) * ROW, sorted(row)
        heights = [middle + height for height in stacked([value * inches for value in ordered])]
        axes.plot(ordered, heights, **_look(i))
        if row:
            axes.plot([mean(row)] * 2, [middle - 0.35 * ROW, middle + 0.35 * ROW], color='black', linewidth=1.3)
        if i == 0 and best in ordered:
            at = best, heights[ordered.index(best)]
            axes.plot(*at, marker='*', markersize=150 * MARK, color='black')
            axes.annotate(f'best: {best:.4g}', at, (0, 9), textcoords='offset points', fontsize=SMALL,
                          ha='right' if best > (low + high) / 2 else 'left')
    return figure


def scatter(groups: Mapping[str, Sequence[Tuple[float, float]]], x: str, y: str) -> Any:
    """The points (x, y) of groups."""
    left, height, legend = 4 * MARGIN, 2.2, 0.3
    figure = style.sheet(left + WIDTH + 2 * MARGIN, MARGIN + legend + height + BOTTOM + MARGIN)
    axes = style.place(figure, left, MARGIN + legend, WIDTH, height)
    for i, (name, points) in enumerate(groups.items()):
        axes.plot(*zip(*points), label=style.plain(name), **_look(i))
    axes.set_xlabel(style.plain(x))
    axes.set_ylabel(style.plain(y))
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.xaxis.set_major_formatter('{x:,.6g}')
    axes.legend(loc='lower left', bbox_to_anchor=(0, 1), ncol=len(groups), frameon=False)
    return figure


def _look(i: int) -> Dict[str, Any]:
    """The marks of group i."""
    return {'linestyle': '', 'marker': 'os^D'[i % 4], 'markersize': 72 * MARK, 'alpha': 0.7,
            'color': style.PALETTE[(1, 0, 2, 3)[i % 4]]}


def stacked(places: Sequence[float]) -> List[float]:
    """For ascending places on the axis distances from the middle of the row, in inches, so that marks overlap only where a row is
    full."""
    steps = [MARK * 1.1 * sign * k for k in range(int(ROW / MARK / 2.8)) for sign in (1, -1)]
    found: List[float] = []
    for i, place in enumerate(places):
        near = [found[j] for j in range(i) if place - places[j] < MARK * 1.1]
        found.append(min(steps, key=lambda step: near.count(step)))
    return found
