"""From the continuous relaxation to a discrete architecture (Liu et al., section 2.4)."""

from __future__ import annotations

import logging
from typing import Dict, List, Mapping, NamedTuple, Sequence

from .space import SearchSpace

_logger = logging.getLogger(__name__)


class Derivation(NamedTuple):
    """A discrete architecture."""

    decisions: Dict[str, List[bool]]
    """For each edge which candidate is kept (none: all false), for each InputNode which inputs are."""
    best: Dict[str, int]
    """For each edge the candidate with the largest weight, kept or not."""
    strengths: Dict[str, float]
    """For each edge the weight that it competes with: that of its best candidate."""


def derive(space: SearchSpace, probabilities: Mapping[str, Sequence[float]], zero_op_wins: bool = False) -> Derivation:
    """Keep the best candidate of each edge and the strongest inputs of each node.

    Every tie is broken by the lower index.

    Parameters
    ----------
    space
        The choices to decide.
    probabilities
        For each edge the n + 1 probabilities of its candidates and the zero op.
    zero_op_wins
        Whether an edge on which the zero op has the largest probability of all is dropped outright: it keeps no
        candidate and competes with strength 0. Default False, what NNI's code does (its docstring says True).

    Returns
    -------
    Derivation
        An edge that no InputNode selected keeps no candidate, for nothing reads it; an edge that any InputNode selected
        stays. Edges that no InputNode names stay too.
    """
    best: Dict[str, int] = {}
    strengths: Dict[str, float] = {}
    kept: Dict[str, bool] = {}
    for key in space.edges:
        *weights, zero_op = probabilities[key]
        best[key] = _strongest(weights)[0]
        strengths[key] = weights[best[key]]
        kept[key] = not (zero_op_wins and zero_op > strengths[key])
        if not kept[key]:
            strengths[key] = 0.0
        elif strengths[key] == 0:
            _logger.warning('All candidates of %r are cut or weigh 0: the first one stands for the edge.', key)

    decisions: Dict[str, List[bool]] = {}
    selected: Dict[str, bool] = {}
    for node in space.inputs.values():
        sources = space.sources[node.key]
        chosen = set(_strongest([strengths.get(source, 0.0) for source in sources])[:node.n_chosen])
        decisions[node.key] = [i in chosen for i in range(len(sources))]
        for i, source in enumerate(sources):
            selected[source] = selected.get(source, False) or i in chosen

    for key, edge in space.edges.items():
        stays = kept[key] and selected.get(key, True)
        decisions[key] = [stays and i == best[key] for i in range(len(edge.names))]
    return Derivation(decisions, best, strengths)


def _strongest(values: Sequence[float]) -> List[int]:
    """The indices of some values, the largest first."""
    return sorted(range(len(values)), key=lambda i: (-values[i], i))
