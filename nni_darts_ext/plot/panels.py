"""Small panels of curves over the epochs: the weights of edges, losses, metrics and indicators."""

from __future__ import annotations

import math
from typing import Any, Dict, Hashable, List, Mapping, NamedTuple, Optional, Sequence, Tuple

from ..run import Run, text
from . import style
from .style import MARGIN, SMALL

WIDTH, HEIGHT, LEFT, GAP_X, GAP_Y, TOP, BOTTOM = 2.0, 1.15, 0.35, 0.5, 0.78, 1.05, 0.5
"""In inches: the size of a panel; the space left of the first panel, between panels, between rows, above and below all rows."""
COLUMNS = 5
OTHER = style.Line('black', '-', 'd')


class Panel(NamedTuple):
    """Curves over epochs."""

    title: str
    curves: Mapping[Any, Sequence[Tuple[int, float]]]
    """Points (epoch, value), with epochs counted from 1."""
    subtitle: str = ''
    mark: Optional[int] = None
    """The epoch of the vertical line."""


def draw(title: str, note: str, rows: Sequence[Sequence[Panel]], lines: Dict[Hashable, style.Line],
         y_limits: Optional[Tuple[float, float]] = None, below: Tuple[float, float] = (0.0, 0.0)) -> Any:
    """Panels in rows, with one legend for all.

    Parameters
    ----------
    title, note
        Two lines above the panels.
    rows
        The panels; rows may differ in length.
    lines
        The line style of each curve. Curves without one are black and not in the legend.
    y_limits
        The y limits of all panels. Default: each panel has its own.
    below
        The width and height of free space below the legend, in inches.
    """
    title = style.headed(title)
    columns = max((len(row) for row in rows), default=0)
    width = max(MARGIN + LEFT + columns * (WIDTH + GAP_X), style.inches(title, weight='bold') + 2 * MARGIN, below[0],
                style.inches(note, SMALL) + 2 * MARGIN)
    legend_top = TOP + len(rows) * (HEIGHT + GAP_Y) - GAP_Y + BOTTOM
    height = legend_top + style.legend_height(lines, width - 2 * MARGIN) + MARGIN + below[1]
    figure = style.sheet(width, height)
    style.write(figure, MARGIN, MARGIN, title, weight='bold')
    style.write(figure, MARGIN, MARGIN + 0.2, note, fontsize=SMALL)
    for i, row in enumerate(rows):
        for j, panel in enumerate(row):
            top, left = TOP + i * (HEIGHT + GAP_Y), MARGIN + LEFT + j * (WIDTH + GAP_X)
            axes = style.place(figure, left, top, WIDTH, HEIGHT)
            _fill(axes, panel, lines, y_limits)
            is_last = i == len(rows) - 1 or j >= len(rows[i + 1])
            if is_last:
                axes.set_xlabel('epoch', labelpad=1)
            style.write(figure, left, top - 0.36, style.shortened(panel.title, WIDTH + GAP_X / 2, SMALL, weight='bold'),
                        fontsize=SMALL, weight='bold')
            style.write(figure, left, top - 0.2, style.shortened(panel.subtitle, WIDTH + GAP_X / 2, SMALL), fontsize=SMALL)
    style.legend(figure, MARGIN, legend_top, width - 2 * MARGIN, lines)
    return figure


def _fill(axes: Any, panel: Panel, lines: Dict[Hashable, style.Line], y_limits: Optional[Tuple[float, float]]) -> None:
    from matplotlib.ticker import MaxNLocator
    for name, curve in panel.curves.items():
        points = [point for point in curve if math.isfinite(point[1])]
        if points:
            at = list(lines).index(name) if name in lines else 0
            axes.plot(*zip(*points), **lines.get(name, OTHER).options(at, len(points)))
    if panel.mark is not None:
        axes.axvline(panel.mark, color='black', linewidth=0.8, zorder=0)
    epochs = [epoch for points in panel.curves.values() for epoch, _ in points]
    axes.set_xlim(min(epochs) - 0.5, max(epochs) + 0.5)
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.yaxis.set_major_locator(MaxNLocator(3))
    axes.tick_params(length=2, pad=1.5, labelsize=SMALL - 1)
    axes.ticklabel_format(axis='y', useOffset=False, scilimits=(-3, 4))
    axes.yaxis.get_offset_text().set_fontsize(SMALL - 1)
    if y_limits:
        axes.set_ylim(*y_limits)


def weights(run: Run, title: str, rows: Sequence[Sequence[str]]) -> Any:
    """The probabilities of the candidates of edges, in rows of edges. A vertical line marks the last change of the decision."""
    keys = [key for row in rows for key in row]
    lines = style.lines(name for key in keys for name in run.space.edges[key])
    drawn = [weight for epoch in run.epochs for key in keys for weight in epoch.weights[key]]
    lowest, highest = min(0.0, *drawn), max(drawn)
    wrapped = [part for row in rows for part in style.rows_of(row, COLUMNS)]
    return draw(title, 'vertical line: where the decision last changed', [[_of_edge(run, key) for key in row] for row in wrapped],
                lines, (1.05 * lowest, 1.05 * highest if highest > lowest else 1.0))


def _of_edge(run: Run, key: str) -> Panel:
    names = (*run.space.edges[key], style.ZERO_OP)
    curves = {name: [(epoch.epoch + 1, epoch.weights[key][i]) for epoch in run.epochs] for i, name in enumerate(names)}
    return Panel(key, curves, f'{run.decision(key)}, {text.since(run, key)}', text.changed(run, key))


TITLES = {'skip_share': 'skip connections', 'entropy': 'entropy', 'movement': 'movement', 'eigenvalue': 'eigenvalue'}
SUBTITLES = {'skip_share': 'share of the edges of a cell', 'entropy': 'of the edges, 1: undecided',
             'movement': 'of the probability that moved most', 'eigenvalue': 'the largest of the Hessian'}
"""The titles and the meaning of the indicators of collapse."""


def progress(run: Run) -> Any:
    """The supernet's loss and metrics, and the indicators of collapse, after each epoch."""
    of_supernet = [Panel(name, {part: _series(run, part, name) for part in ('train', 'valid')}, 'means over the batches')
                   for name in _names(run, 'train', 'valid')]
    indicators = [Panel(TITLES.get(name, name), {'indicator': _series(run, 'indicators', name)}, SUBTITLES.get(name, 'indicator'))
                  for name in _names(run, 'indicators')]
    lines: Dict[Hashable, style.Line] = {'train': style.Line(style.PALETTE[0], '-', 'o'),
                                         'valid': style.Line(style.PALETTE[1], (0, (6, 2)), 's')}
    return draw(f'{run.name}: losses, metrics and indicators of collapse', 'of the supernet, after each epoch',
                [*style.rows_of(of_supernet, 3), *style.rows_of(indicators, 3)], lines)


def compared(runs: Mapping[str, Run], title: str, below: Tuple[float, float]) -> Any:
    """The validation metrics of several runs (training metrics if there is no validation) and their indicators."""
    panels: List[Panel] = []
    for part in ('valid', 'train', 'indicators'):
        names = dict.fromkeys(name for run in runs.values() for name in _names(run, part))
        if part == 'train' and panels:
            continue
        panels += [Panel(TITLES.get(name, name), {label: _series(run, part, name) for label, run in runs.items()},
                         SUBTITLES.get(name, {'valid': 'validation', 'train': 'training'}.get(part, 'indicator')))
                   for name in names]
    lines = {label: line for label, line in style.lines(runs).items() if label in runs}
    return draw(title, 'after each epoch', style.rows_of(panels, 3), lines, below=below)


def _names(run: Run, *parts: str) -> List[str]:
    return list(dict.fromkeys(name for epoch in run.epochs for part in parts for name in getattr(epoch, part)))


def _series(run: Run, part: str, name: str) -> List[Tuple[int, float]]:
    return [(epoch.epoch + 1, getattr(epoch, part)[name]) for epoch in run.epochs if name in getattr(epoch, part)]
