"""Tables of decisions: of choices outside cells, and of the differences between runs."""

from __future__ import annotations

from typing import Any, List, Mapping

from ..run import Run, text
from ..run.cells import architecture_keys
from . import panels, style
from .style import MARGIN

GAP = 0.3
"""The space above a table, in inches."""


def layers(run: Run, keys: List[str]) -> Any:
    """The decisions of choices outside cells."""
    rows = [('choice', 'candidate', 'probability', 'lead', 'derived'), *text.layers(run, keys)]
    title = style.headed(f'{run.name}: choices outside cells, derived after epoch {run.epochs[-1].epoch + 1}')
    width, height = style.table_size(rows)
    figure = style.sheet(max(width, style.inches(title, weight='bold')) + 2 * MARGIN, height + GAP + 2 * MARGIN)
    style.write(figure, MARGIN, MARGIN, title, weight='bold')
    style.table(figure, MARGIN, MARGIN + GAP, rows)
    return figure


def comparison(runs: Mapping[str, Run]) -> Any:
    """Curves of all runs, and a table of the decisions in which they differ."""
    keys = dict.fromkeys(key for run in runs.values() for key in architecture_keys(run.space))
    decided = {key: [run.decision(key) if key in run.space.choices else 'has none' for run in runs.values()] for key in keys}
    differ = {key: decisions for key, decisions in decided.items() if len(set(decisions)) > 1}
    rows = [['choice', *runs], *([key, *decisions] for key, decisions in differ.items())]
    first = next(iter(runs))
    note = (f'{len(differ)} of {len(decided)} decisions differ. Bold: not as in {first}.' if differ
            else f'All {len(decided)} decisions are the same.')
    width, height = style.table_size(rows) if differ else (0.0, 0.0)
    figure = panels.compared(runs, f'Comparison of {len(runs)} runs', (width + 2 * MARGIN, height + 3 * GAP))
    top = figure.get_figheight() - height - GAP - MARGIN
    style.write(figure, MARGIN, top - GAP, note)
    if differ:
        style.table(figure, MARGIN, top, rows, [(i, j) for i, row in enumerate(rows) if i for j in range(2, len(row))
                                                if row[j] != row[1]])
    return figure
