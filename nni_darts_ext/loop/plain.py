"""A hint for searches without any method: plain DARTS may collapse."""

from __future__ import annotations

import logging
from typing import Any, Dict, Optional

from ..core.criteria import is_skip
from ..methods import At, Method

_logger = logging.getLogger(__name__)


class PlainDarts(Method):
    """Says in the first epoch of a search that it may collapse into skip connections, if its space has any, and what prevents it.
    A search without methods has this one."""

    def before_epoch(self, at: At) -> None:
        if at.epoch == 0 and any(is_skip(name) for edge in at.search.space.edges.values() if len(edge.names) > 1
                                 for name in edge.names):
            _logger.warning("Plain DARTS may collapse into skip connections. Pass methods='recommended' to prevent it. A run_dir "
                            'records the search, and nni-darts-ext show then tells whether it has collapsed.')

    def settings(self) -> Optional[Dict[str, Any]]:
        return None
