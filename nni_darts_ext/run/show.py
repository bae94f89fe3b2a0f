"""``nni-darts-ext show``: the state of a run in the terminal, also while it is running."""

from __future__ import annotations

import argparse
from typing import List, Sequence

from . import Run, text
from .cells import cells, free_edges
from .verdict import verdict


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``nni-darts-ext show``."""
    parser.add_argument('run_dir', metavar='RUN', help='the folder of a run')
    parser.add_argument('--best', type=_count, default=0, metavar='N', help='also print the N most probable architectures')


def run(args: argparse.Namespace) -> int:
    """Print the state of the run."""
    print(''.join(one if one.isprintable() or one == '\n' else '?' for one in render(Run.read(args.run_dir), args.best)))
    return 0


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f'{text!r} is not a number of at least 1')
    return int(text)


def render(run: Run, best: int = 0) -> str:
    """State, verdict, losses, metrics, indicators, the architecture so far, and the ``best`` most probable ones."""
    lines = [f'{run.folder}: {text.status_line(run)}']
    methods = run.settings.get('methods')
    if methods:
        lines.append(f"methods: {', '.join(map(str, methods)) if isinstance(methods, list) else methods}")
    if run.epochs:
        lines.append(f'price: {text.price(run)}')
    else:
        return '\n'.join(lines)
    lines += ['', *verdict(run).sentences]
    found = text.metrics(run)
    if found:
        lines += ['', *_table([('', 'train', 'valid'), *found])]
    indicators = text.indicators(run)
    if indicators:
        lines += ['', '  '.join(f'{name} {value}' for name, value in indicators.items())]
    if run.cost:
        lines += ['', text.cost(run)]
    for cell in cells(run.space):
        lines += ['', f'cell {cell.name}', *_table(text.cell(run, cell))]
    free = free_edges(run.space)
    if free:
        lines += ['', 'choices outside cells', *_table(text.layers(run, free))]
    if best:
        ranked = text.ranking(run, best)
        lines += ['', 'most probable architectures', *_table([('', 'probability', 'of the first', 'differences'), *ranked])]
    return '\n'.join(lines)


def _table(rows: Sequence[Sequence[str]]) -> List[str]:
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))] if rows else []
    return ['  ' + '  '.join(text.ljust(width) for text, width in zip(row, widths)).rstrip() for row in rows]
