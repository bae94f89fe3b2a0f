"""What the pictures have in common: matplotlib without its global state, colours, lines, and text of a known size.

Everything can be told apart without its colour: lines by dashes and markers, edges by dashes, cells of a table by their numbers.
"""

from __future__ import annotations

import warnings
from contextlib import contextmanager
from typing import Any, Dict, Hashable, Iterable, Iterator, List, NamedTuple, Sequence, Tuple

import matplotlib
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import text_to_path

SIZE, SMALL = 9.0, 8.0
"""Of text, in points."""
ROW = 0.2
"""From one line of a table or legend to the next, in inches."""
TITLE = 7.5
"""The most that a title may take, in inches."""
MARGIN = 0.2
"""Around all of a picture, in inches."""
FAINT = '#6b6b6b'
"""A grey that text is still readable in."""
ZERO_OP = 'zero op'
PALETTE = ('#0072b2', '#d55e00', '#009e73', '#cc79a7', '#56b4e9', '#e69f00', '#332288', '#882255')
"""Colours that the colour-blind tell apart: those of Okabe and Ito that can be seen on white, and two of Tol's."""
_DASHES: Tuple[Any, ...] = ('-', (0, (6, 2)), (0, (1, 1.2)), (0, (6, 2, 1, 2)))
_MARKERS = 'os^DvPX'


class Line(NamedTuple):
    """How a line looks. No two of the first 28 have the same dashes and the same marker."""

    color: str
    linestyle: Any
    marker: str

    def options(self, i: int, n: int) -> Dict[str, Any]:
        """For ``plot``: some six markers on a line of n points, each line's at places of its own."""
        step = max(1, -(-n // 6))
        return {**self._asdict(), 'linewidth': 1.3, 'markersize': 3.5, 'markevery': (i % step, step)}


def lines(names: Iterable[Hashable]) -> Dict[Hashable, Line]:
    """A line for each name; the zero op's is black, of thin dots and crosses."""
    found = {name: Line(PALETTE[i % len(PALETTE)], _DASHES[i % len(_DASHES)], _MARKERS[i % len(_MARKERS)])
             for i, name in enumerate(name for name in dict.fromkeys(names) if name != ZERO_OP)}
    return {**found, ZERO_OP: Line('black', (0, (1, 2.5)), '+')}


@contextmanager
def applied() -> Iterator[None]:
    """Draw and save in here: matplotlib as it comes, whatever the user has set, and the same file for the same picture."""
    with matplotlib.rc_context(), warnings.catch_warnings():
        warnings.filterwarnings('ignore', 'Glyph')  # one that the font lacks: a box stands for it
        matplotlib.rcdefaults()
        matplotlib.rcParams.update({'font.size': SIZE, 'axes.titlesize': SIZE, 'axes.labelsize': SMALL, 'xtick.labelsize': SMALL,
                                    'ytick.labelsize': SMALL, 'legend.fontsize': SMALL, 'svg.hashsalt': 'nni_darts_ext',
                                    'axes.spines.top': False, 'axes.spines.right': False,
                                    'text.hinting': 'none'})  # so that text is as wide as it is measured
        yield


def is_dark(color: Any) -> bool:
    """Whether white stands out from a colour more than black does, by the contrast ratio of the WCAG."""
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in to_rgb(color))
    return (0.2126 * red + 0.7152 * green + 0.0722 * blue + 0.05) ** 2 < 1.05 * 0.05


def sheet(width: float, height: float) -> Any:
    """An empty figure, in inches."""
    figure = Figure(figsize=(width, height))
    FigureCanvasAgg(figure)
    return figure


def place(figure: Any, left: float, top: float, width: float, height: float, **options: Any) -> Any:
    """Axes at a place in inches from the upper left corner of a figure."""
    whole_width, whole_height = figure.get_size_inches()
    return figure.add_axes([left / whole_width, 1 - (top + height) / whole_height, width / whole_width, height / whole_height],
                           **options)


def headed(title: str) -> str:
    """A title that is not too long."""
    return shortened(title, TITLE, weight='bold')


def write(figure: Any, left: float, top: float, text: Any, **options: Any) -> Any:
    """Text whose upper left corner is at a place in inches from that of a figure."""
    width, height = figure.get_size_inches()
    return figure.text(left / width, 1 - top / height, plain(text), **{'ha': 'left', 'va': 'top', **options})


def one_line(text: Any) -> str:
    """Text in one line, of characters that can be printed."""
    return ' '.join(''.join(one if one.isprintable() else ' ' for one in str(text)).split())


def plain(text: Any) -> str:
    """Text in one line in which matplotlib finds no formula."""
    return one_line(text).replace('$', r'\$')


def inches(text: Any, size: float = SIZE, **font: Any) -> float:
    """How wide a line of text is."""
    return text_to_path.get_text_width_height_descent(one_line(text), FontProperties(size=size, **font), False)[0] / 72


def widest(texts: Iterable[Any], size: float = SIZE, **font: Any) -> float:
    """The width of the widest of some lines, 0 without any."""
    return max((inches(text, size, **font) for text in texts), default=0.0)


def shortened(text: str, width: float, size: float = SIZE, **font: Any) -> str:
    """Text with as much of its middle left out as is needed to fit into a width."""
    text = one_line(text)
    if inches(text, size, **font) <= width:
        return text
    kept = next((kept for kept in range(len(text) - 1, 0, -1) if inches(_without_middle(text, kept), size, **font) <= width), 0)
    return _without_middle(text, kept)


def _without_middle(text: str, kept: int) -> str:
    return text[:(kept + 1) // 2] + '…' + text[len(text) - kept // 2:]


def rows_of(items: Sequence[Any], length: int) -> List[Sequence[Any]]:
    """The items in rows of at most that many."""
    return [items[i:i + length] for i in range(0, len(items), length)]


def table(figure: Any, left: float, top: float, rows: Sequence[Sequence[str]], bold: Iterable[Tuple[int, int]] = ()) -> None:
    """Write a table whose first row is its head. :func:`table_size` says how large it gets.

    Parameters
    ----------
    left, top
        Of its upper left corner, in inches from that of the figure.
    rows
        The text of the cells, row by row.
    bold
        Rows and columns of cells to stress.
    """
    stressed = set(bold)
    widths = _column_widths(rows)
    for i, row in enumerate(rows):
        for j, text in enumerate(row):
            write(figure, left + sum(widths[:j]), top + i * ROW, text, fontsize=SMALL,
                  weight='bold' if i == 0 or (i, j) in stressed else 'normal')


def table_size(rows: Sequence[Sequence[str]]) -> Tuple[float, float]:
    """Width and height of a table, in inches."""
    return sum(_column_widths(rows)), len(rows) * ROW


def _column_widths(rows: Sequence[Sequence[str]]) -> List[float]:
    return [widest((row[j] for row in rows), SMALL, weight='bold') + 0.25 for j in range(len(rows[0]))]


def legend(figure: Any, left: float, top: float, width: float, names: Dict[Hashable, Line]) -> None:
    """Say which line is which, in as many columns as there is room for. :func:`legend_height` says how high it gets."""
    columns = _legend_columns(names, width)
    for i, (name, line) in enumerate(names.items()):
        x, y = left + i % columns * _legend_width(names), top + i // columns * ROW
        axes = place(figure, x, y, 0.5, ROW * 0.75, xlim=(0, 2), ylim=(-1, 1))
        axes.axis('off')
        axes.plot([0, 1, 2], [0, 0, 0], **{**line.options(0, 3), 'markevery': [1]})
        write(figure, x + 0.57, y, name, fontsize=SMALL)


def legend_height(names: Dict[Hashable, Line], width: float) -> float:
    """In inches."""
    return -(-len(names) // _legend_columns(names, width)) * ROW


def _legend_columns(names: Dict[Hashable, Line], width: float) -> int:
    return max(1, int(width / _legend_width(names)))


def _legend_width(names: Dict[Hashable, Line]) -> float:
    return widest(names, SMALL) + 0.85
