"""Pictures of searches: ``nni-darts-ext plot``. Drawing needs matplotlib and networkx, which are imported on first use."""

from __future__ import annotations

import argparse
import importlib
import io
import re
import unicodedata
from pathlib import Path
from statistics import mean
from typing import Any, List, Mapping, NamedTuple, Optional, Sequence, Tuple

from ..errors import PackageMissing, RunError
from ..run import PICTURES, Run, text
from ..run.cells import Cell, cells, free_edges
from ..run.storage import write_out

PACKAGES = ('matplotlib', 'networkx')
FORMATS = ('png', 'svg')
DPI = 150
MAX_NAME = 80
"""Maximum number of bytes of a picture's file name, without ending."""


class Picture(NamedTuple):
    """A picture of a run, or of several."""

    name: str
    """The name of its file, without ending."""
    alt: str
    """The alternative text."""
    figure: Any
    """The figure of matplotlib."""

    def content(self, form: str) -> bytes:
        """The content of the picture's file in a format, ``'png'`` or ``'svg'``. It depends only on the run."""
        from . import style
        buffer = io.BytesIO()
        with style.applied():
            self.figure.savefig(buffer, format=form, dpi=DPI, metadata={'Date': None} if form == 'svg' else None)
        return buffer.getvalue()

    def _repr_png_(self) -> bytes:
        """Called by notebooks to show the picture."""
        return self.content('png')


def pictures(run: Run, all_edges: bool = False) -> List[Picture]:
    """All pictures of a run: its cells, its choices outside cells, the weights over the epochs and after the last one, losses,
    metrics and the indicators of collapse.

    Parameters
    ----------
    run
        A run of at least one epoch.
    all_edges
        Whether the cells also show the edges that are not derived. Default False.

    Raises
    ------
    RunError
        No epoch has ended yet.
    PackageMissing
        matplotlib or networkx is not installed.
    """
    _check_drawable(run)
    from . import graph, heatmap, panels, style, tables
    drawn: List[Picture] = []
    found, free = cells(run.space), free_edges(run.space)
    with style.applied():
        for cell in found:
            drawn.append(Picture(f'cell-{cell.name}', _cell(run, cell), graph.draw(run, cell, all_edges)))
        if free:
            drawn.append(Picture('layers', f'The choices outside cells. {_decisions(run, free)}', tables.layers(run, free)))
        for name, rows in [*((cell.name, _rows(run, cell)) for cell in found), *([('layers', [free])] if free else [])]:
            if rows:
                drawn.append(Picture(
                    f'weights-{name}', f'The probabilities of the candidates of {name} after each epoch, the zero op included. '
                    + '; '.join(f'{key}: {run.decision(key)} {text.since(run, key)}' for row in rows for key in row) + '.',
                    panels.weights(run, f'{run.name}: probabilities of the edges of {name}', rows)))
        if run.space.edges:
            drawn.append(Picture('heatmap', 'The probabilities of all edges after the last epoch. '
                                 + _decisions(run, list(run.space.edges)), heatmap.draw(run)))
        if any((*epoch.train, *epoch.valid, *epoch.indicators) for epoch in run.epochs):
            drawn.append(Picture('progress', 'Losses, metrics and indicators of collapse after each epoch. After the last: '
                                 + _numbers(run), panels.progress(run)))
    return drawn


def results(rows: Mapping[str, Sequence[float]], label: str, best: Optional[float] = None) -> Picture:
    """Results of several groups of networks, such as found and random architectures: a row of marks for each group.

    Parameters
    ----------
    rows
        The results by the name of their group.
    label
        What a result is.
    best
        The result to mark in the first row. Default: none.

    Raises
    ------
    PackageMissing
        matplotlib or networkx is not installed.
    """
    _check_packages()
    from . import dots, style
    told = [f'{name}: {len(values)} from {min(values):.4g} to {max(values):.4g}, mean {mean(values):.4g}' if values
            else f'{name}: none' for name, values in rows.items()]
    with style.applied():
        return Picture('accuracies', f'{label}. {"; ".join(told)}.' + (f' Best: {best:.4g}.' if best is not None else ''),
                       dots.draw(rows, label, best))


def against(groups: Mapping[str, Sequence[Tuple[float, float]]], x: str, y: str) -> Picture:
    """Two numbers of each network, such as its parameters and its accuracy, as points.

    Parameters
    ----------
    groups
        The points (x, y) of each group of networks, such as found and random ones, at least one in each.
    x, y
        What the numbers are.

    Raises
    ------
    PackageMissing
        matplotlib or networkx is not installed.
    """
    _check_packages()
    from . import dots, style
    told = [f'{name}: {len(points)} with {x} from {min(points)[0]:,.4g} to {max(points)[0]:,.4g}'
            for name, points in groups.items()]
    with style.applied():
        return Picture('against', f'{y} against {x}. {"; ".join(told)}.', dots.scatter(groups, x, y))


def comparison(runs: Sequence[Run]) -> Picture:
    """A comparison of several runs: validation and indicators over the epochs, and the differences of their architectures.

    Raises
    ------
    RunError
        No epoch of one of them has ended yet.
    PackageMissing
        matplotlib or networkx is not installed.
    """
    for run in runs:
        _check_drawable(run)
    from . import style, tables
    with style.applied():
        by_label = dict(zip(_labels(runs), runs))
        return Picture('comparison', f'Validation and indicators of collapse of {", ".join(by_label)}. ' + ' '.join(
            f'{label}, after epoch {run.epochs[-1].epoch + 1}: {_numbers(run)}' for label, run in by_label.items()),
            tables.comparison(by_label))


def save(drawn: Sequence[Picture], folder: Path, form: str = 'png') -> List[Path]:
    """Write pictures into a folder, which is created if missing. Returns their files; their names differ not only in case.

    Raises
    ------
    RunError
        The folder cannot be written.
    """
    files: List[Path] = []
    for picture in drawn:
        stem = re.sub(r'[^\w.-]+', '_', picture.name).encode('utf-8')[:MAX_NAME].decode('utf-8', 'ignore')
        names = (folder / f'{stem}{suffix}.{form}' for suffix in ['', *(f'-{n}' for n in range(2, len(drawn) + 2))])
        taken = {_folded(file) for file in files}
        files.append(next(file for file in names if _folded(file) not in taken))
        write_out(files[-1], picture.content(form))
    return files


def _folded(file: Path) -> str:
    """The name of a file as macOS and Windows compare it."""
    return unicodedata.normalize('NFC', unicodedata.normalize('NFD', file.name).casefold())


def _check_packages() -> None:
    try:
        for package in PACKAGES:
            importlib.import_module(package)
    except ImportError as error:
        packages = ' and '.join(PACKAGES)
        raise PackageMissing(f'Pictures need {packages}: {error}. Install them with\n  python -m pip install '
                             + ' '.join(PACKAGES)) from error


def _check_drawable(run: Run) -> None:
    _check_packages()
    if not run.epochs:
        raise RunError(f'The run in {run.folder} has no epoch to draw yet ({run.state.status}). Wait for the first epoch to end.')


def _rows(run: Run, cell: Cell) -> List[List[str]]:
    """The edges of each node of a cell."""
    return [row for row in ([key for key in run.space.inputs[node].choose_from if key in run.space.edges] for node in cell.nodes)
            if row]


def _labels(runs: Sequence[Run]) -> List[str]:
    """A unique name for each run."""
    names = [run.name for run in runs]
    named = names if len(set(names)) == len(names) else [str(run.folder) for run in runs]
    return named if len(set(named)) == len(named) else [f'{i}. {name}' for i, name in enumerate(named, 1)]


# Alternative texts -------------------------------------------------------------------------------------------------------

def _cell(run: Run, cell: Cell) -> str:
    return f'Cell {cell.name}. ' + ' '.join(f'{node} reads {source} through {candidate}.'
                                            for node, source, candidate, *_ in text.cell(run, cell))


def _decisions(run: Run, keys: Sequence[str]) -> str:
    return 'Derived: ' + ', '.join(f'{key}: {run.decision(key)}' for key in keys) + '.'


def _numbers(run: Run) -> str:
    numbers = [f'{name} {value}' for name, value in text.indicators(run).items()]
    for name, train, valid in text.metrics(run):
        numbers += [f'{part} {name} {value}' for part, value in (('train', train), ('valid', valid)) if value]
    return ', '.join(numbers) + '.'


# The command -------------------------------------------------------------------------------------------------------------

def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``nni-darts-ext plot``."""
    parser.add_argument('runs', nargs='+', metavar='RUN', help='the folder of a run')
    parser.add_argument('--output', metavar='DIR', help='where to write the pictures (default: pictures in the folder of the '
                        'run; for several runs, the working directory)')
    parser.add_argument('--format', choices=FORMATS, default=FORMATS[0], help='(default: %(default)s)')
    parser.add_argument('--all-edges', action='store_true', help='also show the edges of cells that are not derived')


def run(args: argparse.Namespace) -> int:
    """Draw one run, or compare several."""
    runs = [Run.read(folder) for folder in args.runs]
    drawn = pictures(runs[0], args.all_edges) if len(runs) == 1 else [comparison(runs)]
    folder = Path(args.output) if args.output else runs[0].folder / PICTURES if len(runs) == 1 else Path()
    for file in save(drawn, folder, args.format):
        print(file)
    return 0
