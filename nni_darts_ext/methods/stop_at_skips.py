"""Early stopping by the number of skip connections.

H. Liang, S. Zhang, J. Sun, X. He, W. Huang, K. Zhuang, Z. Li, "DARTS+: Improved Differentiable Architecture Search with Early
Stopping", arXiv 1909.06035, section 3.2, criterion 1.
"""

from __future__ import annotations

from typing import Any, Dict, Mapping, Optional

from ..core.collapse import skips_by_cell
from ..core.search import Search
from .base import At, EndOfEpoch, Method
from .skip_limit import check_arguments, check_names
from .snapshot import restore, snapshot


class StopAtSkips(Method):
    """Ends the search after the epoch in which ``n`` edges of a derived cell are skip connections, and goes back to before it.

    Logits, cuts and the parameters of other methods are restored to those after the last epoch that derived fewer of them in each
    cell, so that the result has fewer than ``n``; where there is no such epoch they stay. The paper does not go back. Epochs
    without architecture steps, as in a warm-up, do not count. What counts is the architecture of the largest weights, without the
    limit of :class:`~nni_darts_ext.methods.skip_limit.SkipLimit`, where skip connections and cells are explained.

    Parameters
    ----------
    n
        The number of skip connections in one cell that ends the search. Default 2 (source: the paper, criterion 1).
    cells
        A part of the names of the cells that count, such as ``'normal'``, to which the paper applies it. Default: all cells.

    Raises
    ------
    MethodError
        ``n`` is not an integer of at least 1. When the search is made: no cell has such a name, or no candidate has the name of a
        skip connection.
    """

    def __init__(self, n: int = 2, cells: str = '') -> None:
        check_arguments(self, n, 1, cells)
        self.n, self.cells = n, cells
        self._snapshot: Optional[Dict[str, Any]] = None
        self._epoch: Optional[int] = None

    def attach(self, search: Search) -> None:
        check_names(self, self.cells, search)

    def after_epoch(self, at: At, end: EndOfEpoch) -> Optional[str]:
        if not end.architecture_steps:
            return None
        found = skips_by_cell(at.search.space, at.search.derive().decisions)
        skips = {name: keys for name, keys in found.items() if self.cells in name and len(keys) >= self.n}
        if not skips:
            self._snapshot, self._epoch = snapshot(at, end), at.epoch
            return None
        name, keys = next(iter(skips.items()))
        reason = (f'{len(keys)} {"edge" if len(keys) == 1 else "edges"} of {f"the cell {name!r}" if name else "the network"} '
                  f'{"is a skip connection" if len(keys) == 1 else "are skip connections"}: {", ".join(keys)}')
        if self._snapshot is None:
            return f'{reason}; there were as many from the start, so the logits are those of this epoch'
        restore(self._snapshot, at, end)
        return f'{reason}; the logits are those after epoch {self._epoch}'

    def state_dict(self) -> Dict[str, Any]:
        return {'snapshot': self._snapshot, 'epoch': self._epoch}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        early = {'logits': state.get('logits'), 'stepped': state.get('stepped')}  # of early versions
        self._snapshot = state.get('snapshot', early if early['logits'] else None)
        self._epoch = state['epoch']
