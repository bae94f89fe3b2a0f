"""``nni-darts-ext report``: a run as one self-contained HTML page, without JavaScript and without network access."""

from __future__ import annotations

import argparse
import base64
import json
from pathlib import Path
from typing import Any, Iterable, List, Sequence, Union
from xml.etree.ElementTree import Element, tostring

from . import plot
from .run import Run, now, text
from .run.cells import NO_CHOICE, cells, free_edges
from .run.storage import write_out
from .run.verdict import verdict

FILE = 'report.html'
STYLE = '''
body { font: 16px/1.5 sans-serif; color: #111; background: #fff; max-width: 72rem; margin: 2rem auto; padding: 0 1rem; }
figure { margin: 1.5rem 0; overflow-x: auto; }
img { max-width: 100%; height: auto; }
table { border-collapse: collapse; margin: 1rem 0; }
caption { text-align: left; font-weight: bold; padding: .2rem 0; white-space: nowrap; }
th, td { text-align: left; vertical-align: top; padding: .2rem .8rem .2rem 0; border-bottom: 1px solid #ccc; }
td.number, th.number { text-align: right; font-variant-numeric: tabular-nums; }
.wide { overflow-x: auto; }
pre { white-space: pre-wrap; overflow-wrap: anywhere; background: #f4f4f4; padding: .8rem; }
'''

Content = Union[str, Element]


def render(run: Run) -> str:
    """The page of a run.

    Raises
    ------
    PackageMissing
        matplotlib or networkx is not installed.
    """
    body = [_e('h1', f'Search {run.name}'), _e('p', text.status_line(run))]
    if run.epochs:
        body += [_e('p', sentence) for sentence in verdict(run).sentences]
    body += _times(run)
    if run.epochs:
        body += [_e('h2', 'Now'), *_now(run), _e('h2', 'Architecture'), *_architecture(run), _e('h2', 'Pictures'),
                 *(_picture(picture) for picture in plot.pictures(run, all_edges=True)), _e('h2', 'Epochs'), _epochs(run)]
    else:
        body.append(_e('p', 'No epoch has ended yet.'))
    body += [_e('h2', 'Configuration'), *_configuration(run)]
    page = _e('html', _e('head', _e('meta', charset='utf-8'), _e('title', f'Search {run.name}'),
                         _e('meta', name='viewport', content='width=device-width, initial-scale=1'), _e('style', STYLE)),
              _e('body', _e('main', *body)), lang='en')
    return '<!DOCTYPE html>\n' + tostring(page, encoding='unicode', method='html') + '\n'


def _times(run: Run) -> List[Element]:
    state = run.state
    times = [('started', state.started), *(('resumed', time) for time in state.resumed),
             *([('ended', state.ended)] if state.ended else []), ('read', now())]
    return [_table('Times', ('', ''), times)]


def _now(run: Run) -> Iterable[Element]:
    yield _table(f'The supernet after epoch {run.epochs[-1].epoch + 1}', ('', 'train', 'valid'), text.metrics(run), numbers=2)
    yield _table('Indicators of collapse', ('', ''), list(text.indicators(run).items()), numbers=1)


def _architecture(run: Run) -> Iterable[Element]:
    for cell in cells(run.space):
        yield _table(f'Cell {cell.name}', ('node', 'reads', 'through', 'probability', 'lead', 'derived'), text.cell(run, cell))
    free = free_edges(run.space)
    if free:
        yield _table('Choices outside cells', ('choice', 'candidate', 'probability', 'lead', 'derived'), text.layers(run, free))
    yield _e('p', 'For apply_fixed_architecture:')
    yield _e('pre', json.dumps(run.epochs[-1].architecture))


def _picture(picture: plot.Picture) -> Element:
    data = base64.b64encode(picture.content('svg')).decode('ascii')
    return _e('figure', _e('img', src=f'data:image/svg+xml;base64,{data}', alt=picture.alt))


def _epochs(run: Run) -> Element:
    columns = list(dict.fromkeys((part, name) for epoch in run.epochs for part in ('train', 'valid', 'indicators')
                                 for name in getattr(epoch, part)))
    heads = ['epoch', 'ended', 'seconds', *(name if part == 'indicators' else f'{part} {name}' for part, name in columns)]
    rows = [[str(epoch.epoch + 1), epoch.time, f'{epoch.seconds:.1f}',
             *(text.number(getattr(epoch, part).get(name)) for part, name in columns)] for epoch in run.epochs]
    return _e('div', _table('After each epoch', heads, rows, numbers=len(columns) + 1), **{'class': 'wide'})


def _configuration(run: Run) -> Iterable[Element]:
    shown = [(name, value if isinstance(value, str) else json.dumps(value)) for name, value in run.settings.items()]
    yield _table('Settings', ('', ''), [('epochs', str(run.num_epochs or 'not known')), *shown])
    yield _table('Versions', ('', ''), list(run.versions.items()))
    yield _table('Edges', ('key', 'candidates'), [(key, ', '.join(map(str, names))) for key, names in run.space.edges.items()])
    yield _table('Inputs', ('key', 'chosen', 'from'), [
        (key, 'all' if node.n_chosen is None else str(node.n_chosen), ', '.join(key or NO_CHOICE for key in node.choose_from))
        for key, node in run.space.inputs.items()])


def _table(caption: str, heads: Sequence[str], rows: Sequence[Sequence[str]], numbers: int = 0) -> Element:
    """A table whose last columns are numbers."""
    def options(i: int) -> Any:
        return {'class': 'number'} if i >= len(heads) - numbers else {}
    head = [_e('tr', *(_e('th', text, scope='col', **options(i)) for i, text in enumerate(heads)))] if any(heads) else []
    body = [_e('tr', *(_e('td', text, **options(i)) for i, text in enumerate(row))) for row in rows]
    return _e('table', _e('caption', caption), *([_e('thead', *head)] if head else []), _e('tbody', *body))


def _e(tag: str, *contents: Content, **attributes: str) -> Element:
    made = Element(tag, {name: _shown(value) for name, value in attributes.items()})
    for content in contents:
        if isinstance(content, str):
            made.text = _shown(content)
        else:
            made.append(content)
    return made


def _shown(text: str) -> str:
    """Text with a space for each character that HTML does not allow."""
    return ''.join(one if one.isprintable() or one == '\n' else ' ' for one in text)


# The command -------------------------------------------------------------------------------------------------------------

def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``nni-darts-ext report``."""
    parser.add_argument('run_dir', metavar='RUN', help='the folder of a run')
    parser.add_argument('--output', metavar='FILE', help=f'where to write the page (default: {FILE} in the folder of the run)')


def run(args: argparse.Namespace) -> int:
    """Write the page."""
    loaded = Run.read(args.run_dir)
    file = Path(args.output) if args.output else loaded.folder / FILE
    write_out(file, render(loaded))
    print(file)
    return 0
