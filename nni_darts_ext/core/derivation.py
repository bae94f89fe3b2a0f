"""From the continuous relaxation to a discrete architecture (Liu et al., section 2.4)."""

from __future__ import annotations

import logging
from types import MappingProxyType
from typing import TYPE_CHECKING, AbstractSet, Dict, Iterable, List, Mapping, NamedTuple, Optional, Sequence, Set

if TYPE_CHECKING:  # so that runs are ranked without PyTorch
    from .space import Reader, Readers, SearchSpace

_logger = logging.getLogger(__name__)


class Derivation(NamedTuple):
    """A discrete architecture."""

    decisions: Dict[str, List[bool]]
    """For each choice whether each of its candidates is kept. A dropped edge keeps no candidate."""
    best: Dict[str, int]
    """For each edge the candidate with the largest weight, kept or not."""
    strengths: Dict[str, float]
    """For each edge the weight of its best candidate, by which the InputNodes select, times ``input_weights``."""


def derive(space: SearchSpace, probabilities: Mapping[str, Sequence[float]], zero_op_wins: bool = False,
           exactly: bool = False, selected: Mapping[str, Sequence[bool]] = MappingProxyType({}),
           input_weights: Mapping[str, Sequence[float]] = MappingProxyType({})) -> Derivation:
    """Keep the best candidate of each edge and the strongest inputs of each node.

    Ties go to the lower index.

    Parameters
    ----------
    space
        The search space.
    probabilities
        For each edge the n + 1 probabilities of its candidates and the zero op.
    zero_op_wins
        Whether the zero op can win an edge: if it has the largest probability, the edge has strength 0 and is dropped, as no
        InputNode selects it. Default False, as NNI's code does (its docstring says True). An InputNode keeps at least one
        input. An edge is never dropped this way if anything but an InputNode reads its output, or if it feeds an InputNode
        with the reduction ``concat`` or ``none``, for which the network needs a candidate.
    exactly
        Whether an InputNode always keeps ``n_chosen`` inputs: if the zero op leaves fewer, the strongest of the edges that it
        has won are added. Default False.
    selected
        Decisions of InputNodes that do not depend on the probabilities. Default: none.
    input_weights
        For InputNodes the weights of their candidates, by which the strengths of the edges are multiplied there. Default: 1 each.

    Returns
    -------
    Derivation
        An edge whose output nothing reads (:func:`unread`) keeps no candidate. Every other edge keeps its best one.
    """
    best: Dict[str, int] = {}
    strengths: Dict[str, float] = {}
    lost: Set[str] = set()
    readers = all_readers(space.edges, space.sources, space.readers)
    for key in space.edges:
        *of_edge, zero_op = probabilities[key]
        best[key] = _strongest(of_edge)[0]
        strengths[key] = of_edge[best[key]]
        if zero_op_wins and zero_op > strengths[key] and is_optional(space, key, readers[key]):
            lost.add(key)
        elif strengths[key] == 0:
            _logger.warning('All candidates of %r are cut or weigh 0: the first one is chosen.', key)

    decisions: Dict[str, List[bool]] = {}
    for node in space.inputs.values():
        sources = space.sources[node.key]
        weights = input_weights.get(node.key, [1.0] * len(sources))
        strongest = _strongest([weight * strengths.get(source, 0.0) for weight, source in zip(weights, sources)])
        left = [i for i in strongest if sources[i] not in lost]
        if exactly and node.n_chosen is not None:
            left += [i for i in strongest if sources[i] in lost]
        chosen = (left or strongest[:1])[:node.n_chosen]
        decisions[node.key] = list(selected.get(node.key, [i in chosen for i in range(len(sources))]))
    strengths.update((key, 0.0) for key in lost)

    dropped = without_reader(readers, decisions)
    for key, edge in space.edges.items():
        decisions[key] = [key not in dropped and i == best[key] for i in range(len(edge.names))]
    return Derivation(decisions, best, strengths)


def unread(space: SearchSpace, kept: Mapping[str, Sequence[bool]], readers: Optional[Readers]) -> Set[str]:
    """The edges whose outputs nothing reads.

    Parameters
    ----------
    space
        The search space, with the sources of the InputNodes.
    kept
        For each InputNode whether it keeps each of its candidates. A missing InputNode keeps all.
    readers
        What reads the output of each edge; None if unknown. A missing edge has an unknown reader, which always counts.

    Returns
    -------
    set of str
        The keys of the edges. The output of an edge is read if an InputNode keeps a candidate that comes from it, if another
        edge reads it whose own output is read, or if anything else reads it. If ``readers`` is None, only the sources of
        InputNodes are considered. An edge without any known reader counts as read.
    """
    return without_reader(all_readers(space.edges, space.sources, readers), kept)


def without_reader(of_each: Mapping[str, AbstractSet[Reader]], kept: Mapping[str, Sequence[bool]]) -> Set[str]:
    """:func:`unread`, given :func:`all_readers`."""
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


def all_readers(edges: Iterable[str], sources: Mapping[str, Sequence[str]],
                readers: Optional[Readers]) -> Dict[str, AbstractSet[Reader]]:
    """The readers of each edge, including the InputNodes that name it as a source."""
    found: Dict[str, Set[Reader]] = {key: set() if readers is None else set(readers.get(key, {None})) for key in edges}
    for key, of_node in sources.items():
        for i, source in enumerate(of_node):
            if source in found:
                found[source].add((key, i))
    return dict(found)


def is_optional(space: SearchSpace, key: str, readers: AbstractSet[Reader]) -> bool:
    """Whether the zero op can win an edge with these readers: each of them can leave it out."""
    return bool(readers) and all(_can_do_without(space, key, reader) for reader in readers)


def kept_share(space: SearchSpace, readers: AbstractSet[Reader]) -> float:
    """The probability that an edge with these readers is derived, if each InputNode kept its ``n_chosen`` inputs at random."""
    if not readers or any(not isinstance(reader, tuple) for reader in readers):
        return 1.0
    left_out = 1.0
    for key, _ in readers:  # type: ignore[misc]
        n_chosen, n = space.inputs[key].n_chosen, len(space.sources[key])
        left_out *= 0 if n_chosen is None else 1 - n_chosen / n
    return 1 - left_out


def _can_do_without(space: SearchSpace, key: str, reader: Reader) -> bool:
    """Whether a reader of an edge is a candidate of an InputNode that can leave this candidate out."""
    return isinstance(reader, tuple) and space.sources[reader[0]][reader[1]] == key \
        and space.inputs[reader[0]].reduction in (None, 'sum', 'mean')


def _strongest(values: Sequence[float]) -> List[int]:
    """The indices of the values, in descending order of the values."""
    return sorted(range(len(values)), key=lambda i: (-values[i], i))
