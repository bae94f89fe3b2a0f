"""A limit on the skip connections of a derived cell.

X. Chen, L. Xie, J. Wu, Q. Tian, "Progressive Differentiable Architecture Search: Bridging the Depth Gap between Search and
Evaluation", ICCV 2019, arXiv 1904.12760, section 3.3.
"""

from __future__ import annotations

from typing import Dict, List

from ..core.collapse import skips_by_cell
from ..core.criteria import SKIP_CONNECTIONS, is_skip
from ..core.grouping import cells_of
from ..core.search import Search, Weights
from ..errors import MethodError
from .base import At, Method

NEVER = float('-inf')
"""The weight of a candidate that must not be derived."""


class SkipLimit(Method):
    """Lets the derived architecture have at most ``n`` skip connections in each cell.

    While a cell has more, the weakest of them is ruled out and the architecture is derived again: its edge takes its next best
    candidate, and an InputChoice may keep another edge in its place. The search itself, and the weights that are recorded, stay
    as they are. Edges without another candidate keep their skip connections.

    Skip connections are the candidates named as in :data:`nni_darts_ext.core.criteria.SKIP_CONNECTIONS`. The cells are found by
    the keys of the InputChoices, see :mod:`nni_darts_ext.core.grouping`; edges that no InputChoice chooses from are one cell.

    Parameters
    ----------
    n
        The number of skip connections that are left to a cell. Default 2 (source: M in the paper).
    cells
        A part of the names of the cells that it applies to, such as ``'normal'``, to which the authors' code applies it.
        Default: all cells.

    Raises
    ------
    MethodError
        ``n`` is not an integer of at least 0. When the search is made: no cell has such a name, or no candidate has the name of a
        skip connection.
    """

    def __init__(self, n: int = 2, cells: str = '') -> None:
        check_arguments(self, n, 0, cells)
        self.n, self.cells = n, cells

    def attach(self, search: Search) -> None:
        check_names(self, self.cells, search)

    def derive(self, weights: Weights, at: At) -> Weights:
        left: Dict[str, List[float]] = {key: list(of_edge) for key, of_edge in weights.items()}
        while True:
            derivation = at.search.derive(left)
            skips = skips_by_cell(at.search.space, derivation.decisions)
            surplus = [key for name, keys in skips.items() if self.cells in name and len(keys) > self.n for key in keys
                       if _has_another(left[key], derivation.best[key])]
            if not surplus:
                return left
            weakest = min(surplus, key=derivation.strengths.__getitem__)
            left[weakest][derivation.best[weakest]] = NEVER


def check_arguments(method: Method, n: int, least: int, cells: str) -> None:
    """Raise :class:`MethodError` unless ``n`` is an integer of at least ``least`` and ``cells`` a string."""
    if not isinstance(n, int) or isinstance(n, bool) or n < least:
        raise MethodError(f'{type(method).__name__}(n={n!r}): expected an integer of at least {least}, such as the default, 2.')
    if not isinstance(cells, str):
        raise MethodError(f"{type(method).__name__}(cells={cells!r}): expected a part of the names of cells, such as "
                          "'normal', or '' for all cells.")


def check_names(method: Method, cells: str, search: Search) -> None:
    """Raise :class:`MethodError` unless a candidate has the name of a skip connection, and a cell a name with this part."""
    if not any(is_skip(name) for edge in search.space.edges.values() for name in edge.names):
        raise MethodError(f'{method!r}: no candidate has the name of a skip connection. Give the candidates names, in a dict, '
                          f'and the skip connections one of {sorted(SKIP_CONNECTIONS)}.')
    names = [cell.name for cell in cells_of(search.space.sources)]
    if cells and not any(cells in name for name in names):
        raise MethodError(f'{method!r}: no cell has {cells!r} in its name. The cells are {names}.')


def _has_another(weights: List[float], best: int) -> bool:
    """Whether an edge has another candidate that is neither cut nor ruled out."""
    return any(weight not in (0, NEVER) for i, weight in enumerate(weights[:-1]) if i != best)
