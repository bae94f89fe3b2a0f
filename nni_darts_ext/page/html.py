"""The parts of an HTML page: elements, tables, pictures, and the style, for wide screens, phones and paper."""

from __future__ import annotations

import base64
from typing import Any, Iterable, Sequence, Union
from xml.etree.ElementTree import Element, tostring

from .. import plot

STYLE = '''
body { font: 16px/1.5 sans-serif; color: #111; background: #fff; margin: 0; }
main { max-width: 105rem; margin: 1rem auto; padding: 0 1rem; overflow-wrap: anywhere; }
h1 { margin: 0; }
h2 { margin: 1.5rem 0 .5rem; font-size: 1.3rem; }
.grid { display: grid; grid-template-columns: minmax(0, 1fr); column-gap: 2.5rem; align-items: start; }
@media (min-width: 1200px) {
  .grid { grid-template-columns: repeat(2, minmax(0, 1fr)); }
  .lead { grid-template-columns: minmax(0, 5fr) minmax(0, 3fr); }
  .grid > .whole { grid-column: 1 / -1; }
  .grid img { min-width: 0 !important; }
}
figure { margin: 0 0 1rem; overflow-x: auto; }
img { max-width: 100%; height: auto; }
.wide { overflow-x: auto; margin: 0 0 1rem; }
.large { font-size: 1.25rem; }
table { border-collapse: collapse; overflow-wrap: normal; }
caption { text-align: left; font-weight: bold; padding: .2rem 0; white-space: nowrap; }
th, td { text-align: left; vertical-align: top; padding: .2rem .7rem .2rem 0; border-bottom: 1px solid #ccc; }
td:not(:last-child) { white-space: nowrap; }
td:last-child:not(.number) { min-width: 8rem; }
td.number, th.number { text-align: right; font-variant-numeric: tabular-nums; }
summary { font-weight: bold; cursor: pointer; padding: .3rem 0; }
pre { white-space: pre-wrap; background: #f4f4f4; padding: .8rem; margin: .5rem 0; }
.verdict { border: 1px solid; border-left-width: .7rem; border-radius: .3rem; padding: .5rem 1rem; margin: 1rem 0; }
.verdict strong { font-size: 1.4rem; color: inherit; }
.verdict p { color: #111; margin: .2rem 0; }
.good { color: #17692f; background: #eaf6ed; }
.maybe { color: #8a5300; background: #fff5e0; }
.bad { color: #a3161b; background: #fdecec; }
.open { color: #3d4a5c; background: #eff2f6; }
@media print {
  main { max-width: none; }
  img { min-width: 0 !important; }
  figure, tr { break-inside: avoid; }
  .wide { overflow: visible; }
  details::details-content { content-visibility: visible; block-size: auto; }
}
'''
SCALE, LEAST = 1.25, 0.75
"""The width of a picture where there is room for it, and where it scrolls instead of shrinking, divided by its size in print."""
WHOLE = 9
"""A picture that is wider than this, in inches, takes the whole width of a wide screen."""

Content = Union[str, Element]


def document(title: str, body: Iterable[Content]) -> str:
    """A page: its text."""
    page = e('html', e('head', e('meta', charset='utf-8'), e('title', title),
                       e('meta', name='viewport', content='width=device-width, initial-scale=1'), e('style', STYLE)),
             e('body', e('main', e('h1', title), *body)), lang='en')
    return '<!DOCTYPE html>\n' + tostring(page, encoding='unicode', method='html') + '\n'


def e(tag: str, *contents: Content, **attributes: str) -> Element:
    """An element; ``kind`` is its class."""
    made = Element(tag, {{'kind': 'class'}.get(name, name): shown(value) for name, value in attributes.items()})
    for content in contents:
        if isinstance(content, str):
            made.text = shown(content)
        else:
            made.append(content)
    return made


def shown(text: str) -> str:
    """Text with a space for each character that HTML does not allow."""
    return ''.join(one if one.isprintable() or one == '\n' else ' ' for one in text)


def verdict(kind: str, word: str, sentences: Iterable[str]) -> Element:
    """A box with the verdict. Its colour is never the only difference: ``kind`` also has a sign."""
    sign = {'good': '✓', 'maybe': '?', 'bad': '✗', 'open': '…'}[kind]
    return e('div', e('strong', f'{sign} {word}'), *(e('p', sentence) for sentence in sentences), kind=f'verdict {kind}')


def section(title: str, *contents: Content, kind: str = '') -> Element:
    """A part of the page with its heading."""
    return e('section', e('h2', title), *contents, kind=kind)


def table(caption: str, heads: Sequence[str], rows: Sequence[Sequence[Content]], numbers: int = 0, kind: str = '') -> Element:
    """A table, in a box that scrolls, whose last columns are numbers. Columns without content are left out."""
    columns = [i for i in range(len(heads)) if not rows or any(len(row[i]) for row in rows)]

    def row(tag: str, cells: Sequence[Content], **options: Any) -> Element:
        return e('tr', *(e(tag, cells[i], **options, **({'kind': 'number'} if i >= len(heads) - numbers else {}))
                         for i in columns))
    above = [e('caption', caption)] if caption else []
    if any(heads):
        above.append(e('thead', row('th', heads, scope='col')))
    return e('div', e('table', *above, e('tbody', *(row('td', cells) for cells in rows))), kind=f'wide {kind}'.strip())


def details(summary: str, *contents: Content) -> Element:
    """Contents that are shown when the reader asks for them."""
    return e('details', e('summary', summary), *contents)


def picture(drawn: plot.Picture, *captions: str) -> Element:
    """A picture, with captions below it."""
    data, inches = base64.b64encode(drawn.content('svg')).decode('ascii'), drawn.figure.get_figwidth()
    image = e('img', src=f'data:image/svg+xml;base64,{data}', alt=drawn.alt, width=f'{SCALE * 96 * inches:.0f}',
              style=f'min-width: {LEAST * 96 * inches:.0f}px')
    below = [e('figcaption', *(e('p', caption) for caption in captions))] if captions else []
    return e('figure', image, *below, **({'kind': 'whole'} if inches > WHOLE else {}))
