"""The page of a run: first the verdict and the architecture, then the alternatives to it and the price, then all numbers."""

from __future__ import annotations

import json
from typing import Iterator, List
from xml.etree.ElementTree import Element

from .. import plot
from ..run import Run, now, text
from ..run.cells import NO_CHOICE, cells, free_edges
from ..run.verdict import COLLAPSED, GOOD, MAYBE, WARMING_UP, verdict
from .html import details, document, e, picture, section, table
from .html import verdict as box

KINDS = {GOOD: 'good', MAYBE: 'maybe', COLLAPSED: 'bad', WARMING_UP: 'open'}
"""The box of each verdict."""
RANKED = 10
"""The number of architectures in the ranking."""


def render(run: Run) -> str:
    """The page of a run.

    Raises
    ------
    PackageMissing
        matplotlib or networkx is not installed.
    """
    body = [e('p', text.status_line(run))]
    if run.epochs:
        found = verdict(run)
        drawn = plot.pictures(run)
        derived = [picture(one) for one in drawn if is_derived(one)]
        curves = sorted((one for one in drawn if not is_derived(one)),
                        key=lambda one: (one.name.startswith('weights'), one.name != 'progress'))
        body += [box(KINDS[found.word], found.word, found.sentences),
                 e('div', section('Architecture', *derived), section('Supernet', *_supernet(run)), kind='grid lead'),
                 e('div', section('How decided each edge is', *_decisions(run)),
                   section('The next best architectures', _ranking(run)), kind='grid'),
                 section('Price', e('p', text.price(run))),
                 section('Curves', e('div', *map(picture, curves), kind='grid')),
                 section('Tables', details('Epochs', _epochs(run)), *_times_and_configuration(run))]
    else:
        body += [e('p', 'No epoch has ended yet.'), *_times_and_configuration(run)]
    return document(f'Search {run.name}', body)


def is_derived(drawn: plot.Picture) -> bool:
    """Whether it is a picture of the architecture."""
    return drawn.name == 'layers' or drawn.name.startswith('cell-')


def _supernet(run: Run) -> Iterator[Element]:
    yield table(f'After epoch {run.epochs[-1].epoch + 1}', ('', 'train', 'valid', 'best'),
                [(*metric, text.best(run, metric[0])) for metric in text.metrics(run)], numbers=3, kind='large')
    yield table('Indicators of collapse', ('', ''), list(text.indicators(run).items()), numbers=1)
    if run.cost:
        yield e('p', text.cost(run))


def _decisions(run: Run) -> Iterator[Element]:
    for cell in cells(run.space):
        yield table(f'Cell {cell.name}', ('node', 'reads', 'through', 'probability', 'lead', 'derived'), text.cell(run, cell))
    free = free_edges(run.space)
    if free:
        yield table('Choices outside cells', ('choice', 'candidate', 'probability', 'lead', 'derived'), text.layers(run, free))
    yield details('For apply_fixed_architecture', e('pre', json.dumps(run.epochs[-1].architecture)))


def _ranking(run: Run) -> Element:
    return table('By their probability', ('', 'probability', 'of the first', 'differences'),
                 text.ranking(run, RANKED))


def _epochs(run: Run) -> Element:
    columns = list(dict.fromkeys((part, name) for epoch in run.epochs for part in ('train', 'valid', 'indicators')
                                 for name in getattr(epoch, part)))
    heads = ['epoch', 'ended', 'seconds', *(name if part == 'indicators' else f'{part} {name}' for part, name in columns)]
    rows = [[str(epoch.epoch + 1), epoch.time, f'{epoch.seconds:.1f}',
             *(text.number(getattr(epoch, part).get(name)) for part, name in columns)] for epoch in run.epochs]
    return table('After each epoch', heads, rows, numbers=len(columns) + 1)


def _times_and_configuration(run: Run) -> List[Element]:
    state = run.state
    times = [('started', state.started), *(('resumed', time) for time in state.resumed),
             *([('ended', state.ended)] if state.ended else []), ('read', now())]
    settings = [(name, value if isinstance(value, str) else json.dumps(value)) for name, value in run.settings.items()]
    edges = [(key, ', '.join(map(str, names))) for key, names in run.space.edges.items()]
    inputs = [(key, 'all' if node.n_chosen is None else str(node.n_chosen),
               ', '.join(key or NO_CHOICE for key in node.choose_from)) for key, node in run.space.inputs.items()]
    return [details('Times', table('', ('', ''), times)),
            details('Configuration', table('Settings', ('', ''), [('epochs', str(run.num_epochs or 'not known')), *settings]),
                    table('Versions', ('', ''), list(run.versions.items()))),
            details('Search space', table('Edges', ('key', 'candidates'), edges),
                    table('Inputs', ('key', 'chosen', 'from'), inputs))]
