"""The common style of the pictures: matplotlib without its global state, colours, lines, and text of known size.

Colour is never the only difference: lines also differ in dashes and markers, edges in dashes, and table cells show numbers.
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
"""Sizes of text, in points."""
ROW = 0.2
"""The distance of lines of a table or legend, in inches."""
TITLE = 7.5
"""The maximum width of a title, in inches."""
MARGIN = 0.2
"""The margin of a picture, in inches."""
FAINT = '#6b6b6b'
"""A grey in which text is readable."""
ZERO_OP = 'zero op'
PALETTE = ('#0072b2', '#d55e00', '#009e73', '#cc79a7', '#56b4e9', '#e69f00', '#332288', '#882255')
"""Colours that the colour-blind can distinguish: those of Okabe and Ito that are visible on white, and two of Tol's."""
_DASHES: Tuple[Any, ...] = ('-', (0, (6, 2)), (0, (1, 1.2)), (0, (6, 2, 1, 2)))
_MARKERS = 'os^DvPX'


class Line(NamedTuple):
    """The style of a line. The first 28 lines all differ in dashes or marker."""

    color: str
    linestyle: Any
    marker: str

    def options(self, i: int, n: int) -> Dict[str, Any]:
        """Options of ``plot`` for line i of n points: about six markers, at different places on each line."""
        step = max(1, -(-n // 6))
        return {**self._asdict(), 'linewidth': 1.3, 'markersize': 3.5, 'markevery': (i % step, step)}


def lines(names: Iterable[Hashable]) -> Dict[Hashable, Line]:
    """A line for each name; that of the zero op is black, with dots and crosses."""
    found = {name: Line(PALETTE[i % len(PALETTE)], _DASHES[i % len(_DASHES)], _MARKERS[i % len(_MARKERS)])
             for i, name in enumerate(name for name in dict.fromkeys(names) if name != ZERO_OP)}
    return {**found, ZERO_OP: Line('black', (0, (1, 2.5)), '+')}


@contextmanager
def applied() -> Iterator[None]:
    """A context for drawing and saving with matplotlib's defaults, independent of the user's settings and reproducible."""
    with matplotlib.rc_context(), warnings.catch_warnings():
        warnings.filterwarnings('ignore', 'Glyph')  # a glyph that the font lacks is drawn as a box
        matplotlib.rcdefaults()
        matplotlib.rcParams.update({'font.size': SIZE, 'axes.titlesize': SIZE, 'axes.labelsize': SMALL, 'xtick.labelsize': SMALL,
                                    'ytick.labelsize': SMALL, 'legend.fontsize': SMALL, 'svg.hashsalt': 'nni_darts_ext',
                                    'axes.spines.top': False, 'axes.spines.right': False,
                                    'text.hinting': 'none'})  # so that text has its measured width
        yield


def is_dark(color: Any) -> bool:
    """Whether a colour has more contrast to white than to black, by the contrast ratio of the WCAG."""
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in to_rgb(color))
    return (0.2126 * red + 0.7152 * green + 0.0722 * blue + 0.05) ** 2 < 1.05 * 0.05


def sheet(width: float, height: float) -> Any:
    """An empty figure, in inches."""
    figure = Figure(figsize=(width, height))
    FigureCanvasAgg(figure)
    return figure


def place(figure: Any, left: float, top: float, width: float, height: float, **options: Any) -> Any:
    """Add axes to a figure; positions in inches from its upper left corner."""
    whole_width, whole_height = figure.get_size_inches()
    return figure.add_axes([left / whole_width, 1 - (top + height) / whole_height, width / whole_width, height / whole_height],
                           **options)


def headed(title: str) -> str:
    """A title, shortened to the maximum width."""
    return shortened(title, TITLE, weight='bold')


def write(figure: Any, left: float, top: float, text: Any, **options: Any) -> Any:
    """Write text; the position of its upper left corner is in inches from that of the figure."""
    width, height = figure.get_size_inches()
    return figure.text(left / width, 1 - top / height, plain(text), **{'ha': 'left', 'va': 'top', **options})


def one_line(text: Any) -> str:
    """Text in one line of printable characters."""
    return ' '.join(''.join(one if one.isprintable() else ' ' for one in str(text)).split())


def plain(text: Any) -> str:
    """Text in one line, with ``$`` escaped so that matplotlib does not parse formulas."""
    return one_line(text).replace('$', r'\$')


def inches(text: Any, size: float = SIZE, **font: Any) -> float:
    """The width of a line of text, in inches."""
    return text_to_path.get_text_width_height_descent(one_line(text), FontProperties(size=size, **font), False)[0] / 72


def widest(texts: Iterable[Any], size: float = SIZE, **font: Any) -> float:
    """The largest width of some lines, in inches; 0 without lines."""
    return max((inches(text, size, **font) for text in texts), default=0.0)


def shortened(text: str, width: float, size: float = SIZE, **font: Any) -> str:
    """Text, shortened in its middle to fit into a width in inches."""
    text = one_line(text)
    if inches(text, size, **font) <= width:
        return text
    kept = next((kept for kept in range(len(text) - 1, 0, -1) if inches(_without_middle(text, kept), size, **font) <= width), 0)
    return _without_middle(text, kept)


def _without_middle(text: str, kept: int) -> str:
    return text[:(kept + 1) // 2] + '…' + text[len(text) - kept // 2:]


def rows_of(items: Sequence[Any], length: int) -> List[Sequence[Any]]:
    """The items in rows of at most ``length`` items."""
    return [items[i:i + length] for i in range(0, len(items), length)]


def table(figure: Any, left: float, top: float, rows: Sequence[Sequence[str]], bold: Iterable[Tuple[int, int]] = ()) -> None:
    """Write a table of the size :func:`table_size`, whose first row is its head. Its upper left corner is at ``left`` and
    ``top``, in inches from that of the figure; ``bold`` has the (row, column) of cells in bold."""
    bold = set(bold)
    widths = _column_widths(rows)
    for i, row in enumerate(rows):
        for j, text in enumerate(row):
            write(figure, left + sum(widths[:j]), top + i * ROW, text, fontsize=SMALL,
                  weight='bold' if i == 0 or (i, j) in bold else 'normal')


def table_size(rows: Sequence[Sequence[str]]) -> Tuple[float, float]:
    """The width and height of a table, in inches."""
    return sum(_column_widths(rows)), len(rows) * ROW


def _column_widths(rows: Sequence[Sequence[str]]) -> List[float]:
    return [widest((row[j] for row in rows), SMALL, weight='bold') + 0.25 for j in range(len(rows[0]))]


def legend(figure: Any, left: float, top: float, width: float, names: Dict[Hashable, Line]) -> None:
    """Draw a legend of the height :func:`legend_height`, with as many columns as fit."""
    columns = _legend_columns(names, width)
    for i, (name, line) in enumerate(names.items()):
        x, y = left + i % columns * _legend_width(names), top + i // columns * ROW
        axes = place(figure, x, y, 0.5, ROW * 0.75, xlim=(0, 2), ylim=(-1, 1))
        axes.axis('off')
        axes.plot([0, 1, 2], [0, 0, 0], **{**line.options(0, 3), 'markevery': [1]})
        write(figure, x + 0.57, y, name, fontsize=SMALL)


def legend_height(names: Dict[Hashable, Line], width: float) -> float:
    """The height of a legend, in inches."""
    return -(-len(names) // _legend_columns(names, width)) * ROW


def _legend_columns(names: Dict[Hashable, Line], width: float) -> int:
    return max(1, int(width / _legend_width(names)))


def _legend_width(names: Dict[Hashable, Line]) -> float:
    return widest(names, SMALL) + 0.85
