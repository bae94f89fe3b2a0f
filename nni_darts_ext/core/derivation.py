"""From the continuous relaxation to a discrete architecture (Liu et al., section 2.4)."""

from __future__ import annotations

import logging
from types import MappingProxyType
from typing import AbstractSet, Dict, List, Mapping, NamedTuple, Optional, Sequence, Set

from .space import Reader, Readers, SearchSpace

_logger = logging.getLogger(__name__)


class Derivation(NamedTuple):
    """A discrete architecture."""

    decisions: Dict[str, List[bool]]
    """For each edge which candidate is kept (none: all false), for each InputNode which inputs are."""
    best: Dict[str, int]
    """For each edge the candidate with the largest weight, kept or not."""
    strengths: Dict[str, float]
    """For each edge the weight that it competes with: that of its best candidate."""


def derive(space: SearchSpace, probabilities: Mapping[str, Sequence[float]], zero_op_wins: bool = False,
           exactly: bool = False, selected: Mapping[str, Sequence[bool]] = MappingProxyType({})) -> Derivation:
    """Keep the best candidate of each edge and the strongest inputs of each node.

    Every tie is broken by the lower index.

    Parameters
    ----------
    space
        The choices to decide.
    probabilities
        For each edge the n + 1 probabilities of its candidates and the zero op.
    zero_op_wins
        Whether the zero op can win an edge: one on which it has the largest probability of all has strength 0, and no InputNode
        selects it, so that it is dropped. Default False, what NNI's code does (its docstring says True). An InputNode keeps one
        input at least. An edge whose output anything else reads stays, and so does one that feeds an InputNode with the
        reduction ``concat`` or ``none``, for which the network needs a candidate.
    exactly
        Whether an InputNode keeps ``n_chosen`` inputs also where the zero op has won so many edges that fewer are left: the
        strongest of these fill it up. Default False.
    selected
        Decisions of edges and InputNodes that do not depend on the probabilities. Default: none.

    Returns
    -------
    Derivation
        An edge whose output nothing reads (:func:`unread`) keeps no candidate. Every other edge keeps its best one.
    """
    best: Dict[str, int] = {}
    strengths: Dict[str, float] = {}
    lost: Set[str] = set()
    readers = all_readers(space, space.readers)
    for key in space.edges:
        *weights, zero_op = probabilities[key]
        best[key] = list(selected[key]).index(True) if key in selected else _strongest(weights)[0]
        strengths[key] = weights[best[key]]
        is_optional = bool(readers[key]) and all(_can_do_without(space, key, reader) for reader in readers[key])
        if key not in selected and zero_op_wins and zero_op > strengths[key] and is_optional:
            lost.add(key)
        elif strengths[key] == 0:
            _logger.warning('All candidates of %r are cut or weigh 0: the first one stands for the edge.', key)

    decisions: Dict[str, List[bool]] = {}
    for node in space.inputs.values():
        sources = space.sources[node.key]
        strongest = _strongest([strengths.get(source, 0.0) for source in sources])
        left = [i for i in strongest if sources[i] not in lost]
        if exactly and node.n_chosen is not None:
            left += [i for i in strongest if sources[i] in lost]
        chosen = (left or strongest[:1])[:node.n_chosen]
        decisions[node.key] = list(selected.get(node.key, [i in chosen for i in range(len(sources))]))
    strengths.update((key, 0.0) for key in lost)

    dropped = unread(space, decisions, space.readers)
    for key, edge in space.edges.items():
        decisions[key] = [key not in dropped and i == best[key] for i in range(len(edge.names))]
    return Derivation(decisions, best, strengths)


def unread(space: SearchSpace, kept: Mapping[str, Sequence[bool]], readers: Optional[Readers]) -> Set[str]:
    """The edges whose outputs nothing reads.

    Parameters
    ----------
    space
        The choices, with the sources of the InputNodes.
    kept
        For each InputNode which of its candidates it keeps; one that is missing keeps all.
    readers
        What reads the output of each edge, None if that is not known. An edge that is missing is read by something unknown.

    Returns
    -------
    set of str
        An edge is read where an InputNode keeps a candidate that comes from it, or an edge that is read itself reads it, or
        anything else does. Where readers are not known, InputNodes are the only ones: an edge that they name as a source, and
        none of them keeps, is not read. An edge without any reader counts as read.
    """
    of_each = all_readers(space, readers)

    def is_kept(reader: Reader) -> bool:
        if not isinstance(reader, tuple):
            return reader is None
        key, i = reader
        return key not in kept or kept[key][i]
    found = {key for key, of_edge in of_each.items() if of_edge and not any(map(is_kept, of_edge))}
    while True:
        read = {key for key in found if any(isinstance(reader, str) and reader not in found for reader in of_each[key])}
        if not read:
            return found
        found -= read


def all_readers(space: SearchSpace, readers: Optional[Readers]) -> Dict[str, AbstractSet[Reader]]:
    """The readers of each edge, those included of which it is a source."""
    found: Dict[str, Set[Reader]] = {key: set() if readers is None else set(readers.get(key, {None})) for key in space.edges}
    for key, sources in space.sources.items():
        for i, source in enumerate(sources):
            if source in found:
                found[source].add((key, i))
    return dict(found)


def _can_do_without(space: SearchSpace, key: str, reader: Reader) -> bool:
    """Whether a reader of an edge is a candidate of an InputNode that can be left out of the sum."""
    return isinstance(reader, tuple) and space.sources[reader[0]][reader[1]] == key \
        and space.inputs[reader[0]].reduction in (None, 'sum', 'mean')


def _strongest(values: Sequence[float]) -> List[int]:
    """The indices of some values, the largest first."""
    return sorted(range(len(values)), key=lambda i: (-values[i], i))
