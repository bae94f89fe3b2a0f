r"""The most probable architectures, without enumerating the search space.

Let :math:`p_e(o)` be the weight of candidate o of an edge e, and :math:`s_{v,i} = w_{v,i} \max_o p_e(o)` the strength of the
input i of an InputChoice v, which comes from e. The probability of an architecture that keeps the inputs :math:`S_v`, and reads
the edges E with the candidates :math:`o_e`, is

.. math:: P \propto \prod_v \prod_{i \in S_v} s_{v,i} \prod_{e \in E} \frac{p_e(o_e)}{\max_o p_e(o)}

If each edge feeds one InputChoice, as in the cells of the paper, that is the product of the weights of all kept candidates. Edges
that nothing reads do not count, so each network is ranked once. The derived architecture maximises every factor: it is the most
probable one.

The other architectures have as many inputs in each InputChoice, and differ in candidates and inputs of a positive weight that is
not larger than the derived one's: what weighs more and was not derived has been ruled out, by a method or by the zero op.
"""

from __future__ import annotations

import math
from heapq import heappop, heappush
from itertools import islice
from typing import AbstractSet, Any, Callable, Dict, FrozenSet, Iterator, List, Mapping, NamedTuple, Optional, Sequence, Tuple

from .derivation import Derivation, without_reader

AllReaders = Mapping[str, AbstractSet[Any]]
"""The result of :func:`nni_darts_ext.core.derivation.all_readers`."""


class RankedArchitecture(NamedTuple):
    """An architecture in a ranking."""

    architecture: Dict[str, Any]
    probability: float
    """Those of all architectures that can be ranked add up to 1. NaN if it takes too long to compute, see :func:`log_total`."""
    relative: float
    """The probability divided by that of the derived architecture."""
    differences: Dict[str, Tuple[Any, Any]]
    """By key what the derived architecture and this one choose, where they differ. Empty for the derived one."""
    metrics: Optional[Mapping[str, float]] = None
    """The loss and the metrics of the supernet with this architecture, if the ranking is ordered by one of them."""


def ranking(n: int, derived: Derivation, weights: Mapping[str, Sequence[float]], strengths: Mapping[str, Sequence[float]],
            readers: AllReaders, write: Callable[[Derivation], Dict[str, Any]]) -> List[RankedArchitecture]:
    """The n most probable :func:`architectures`, each in the form that ``write`` gives it. Raises ``ValueError`` if n is not
    positive."""
    if n < 1:
        raise ValueError(f'n={n!r}: expected the number of architectures to rank, at least 1.')
    found = [(write(one), log) for one, log in islice(architectures(derived, weights, strengths, readers), n)]
    first, total = found[0][0], log_total(derived, weights, strengths, readers)
    return [RankedArchitecture(one, math.exp(log - total), math.exp(log),
                   {key: (first[key], value) for key, value in one.items() if value != first[key]}) for one, log in found]


def architectures(derived: Derivation, weights: Mapping[str, Sequence[float]], strengths: Mapping[str, Sequence[float]],
                  readers: AllReaders) -> Iterator[Tuple[Derivation, float]]:
    """All architectures in descending order of their probability, the derived one first.

    They are found one by one: the n-th takes n steps, each of which looks at every choice once.

    Parameters
    ----------
    derived
        The derived architecture.
    weights
        For each edge the n + 1 weights of its candidates and the zero op, which does not count.
    strengths
        For each InputNode the strengths of its candidates. Those of strength 0 are kept as they are.
    readers
        The readers of each edge.

    Yields
    ------
    Derivation, float
        An architecture, and the logarithm of its probability over that of the derived one. ``best`` has its candidates, and for
        edges that nothing reads the derived ones.
    """
    edges, nodes = _ranked_choices(derived, weights, strengths)
    start = tuple(tuple(range(node.n)) for node in nodes)
    heap: List[Tuple[float, _Kept, _Taken]] = [(0.0, start, ())]
    seen = {start}
    while heap:
        cost, kept, taken = heappop(heap)
        decisions = {node.key: node.decision(ranks) for node, ranks in zip(nodes, kept)}
        dropped = without_reader(readers, decisions)
        best = {**derived.best, **{edges[j].key: edges[j].order[rank] for j, rank in taken}}
        for key, of_edge in weights.items():
            decisions[key] = [key not in dropped and i == best[key] for i in range(len(of_edge) - 1)]
        yield Derivation(decisions, best, derived.strengths), -cost

        last, rank = taken[-1] if taken else (0, 0)
        for j in range(last, len(edges)):  # no edge before the last one that was changed, so that each state comes up once
            if rank + 1 < len(edges[j].order) and edges[j].key not in dropped:
                heappush(heap, (cost + edges[j].step(rank), kept, (*(taken[:-1] if rank else taken), (j, rank + 1))))
            rank = 0
        for j, node in enumerate(nodes if not taken else ()):  # the edges after the inputs, on which depends which are read
            for moved, step in node.moves(kept[j]):
                changed = (*kept[:j], moved, *kept[j + 1:])
                if changed not in seen:
                    seen.add(changed)
                    heappush(heap, (cost + step, changed, ()))


_Kept = Tuple[Tuple[int, ...], ...]
"""For each InputNode the ranks of the inputs that it keeps."""
_Taken = Tuple[Tuple[int, int], ...]
"""The edges that do not have the derived candidate, and the ranks of those that they have."""


class _Ranks(NamedTuple):
    """The alternatives of one choice, what is derived first, in descending order of their weights."""

    key: str
    order: List[int]
    """The indices of the candidates."""
    costs: List[float]
    """The negative logarithms of their weights over the largest one."""
    n: int = 1
    """How many are kept."""
    always: Sequence[bool] = ()
    """For an InputNode the candidates that every architecture keeps."""

    def step(self, rank: int) -> float:
        return self.costs[rank + 1] - self.costs[rank]

    def moves(self, ranks: Tuple[int, ...]) -> Iterator[Tuple[Tuple[int, ...], float]]:
        """The next inputs to keep, each with the step in the cost."""
        for k, rank in enumerate(ranks):
            if rank + 1 < len(self.order) and rank + 1 not in ranks:
                yield (*ranks[:k], rank + 1, *ranks[k + 1:]), self.step(rank)

    def decision(self, ranks: Tuple[int, ...]) -> List[bool]:
        kept = {self.order[rank] for rank in ranks}
        return [is_always or i in kept for i, is_always in enumerate(self.always)]


def _ranked_choices(derived: Derivation, weights: Mapping[str, Sequence[float]],
                    strengths: Mapping[str, Sequence[float]]) -> Tuple[List[_Ranks], List[_Ranks]]:
    """The edges, and the InputNodes."""
    return ([_edge(key, of_edge[:-1], derived.best[key]) for key, of_edge in weights.items()],
            [_node(key, of_node, derived.decisions[key]) for key, of_node in strengths.items()])


def _edge(key: str, weights: Sequence[float], best: int) -> _Ranks:
    others = [i for i, weight in enumerate(weights) if i != best and 0 < weight <= weights[best]]
    return _Ranks(key, *_in_order([[best], others], weights))


def _node(key: str, strengths: Sequence[float], decision: Sequence[bool]) -> _Ranks:
    kept = [i for i, strength in enumerate(strengths) if decision[i] and strength > 0]
    weakest = min((strengths[i] for i in kept), default=0.0)
    others = [i for i, strength in enumerate(strengths) if not decision[i] and 0 < strength <= weakest]
    always = [is_kept and i not in kept for i, is_kept in enumerate(decision)]
    return _Ranks(key, *_in_order([kept, others], strengths), len(kept), always)


def _in_order(parts: Sequence[List[int]], weights: Sequence[float]) -> Tuple[List[int], List[float]]:
    order = [i for part in parts for i in sorted(part, key=lambda i: (-weights[i], i))]
    return order, [math.log(weights[order[0]]) - math.log(weights[i]) if weights[i] > 0 else 0.0 for i in order]


MAX_STATES = 10000
"""The number of states that :func:`log_total` visits for an input at most."""


def log_total(derived: Derivation, weights: Mapping[str, Sequence[float]], strengths: Mapping[str, Sequence[float]],
              readers: AllReaders) -> float:
    """The logarithm of the sum of the probabilities of all :func:`architectures` over that of the derived one.

    One input after another is left out or kept. An edge counts with the sum of its candidates as soon as one of its readers is
    kept. Which edges are read is remembered while they have further readers, so that the number of states is exponential in the
    number of edges that several InputNodes read: NaN if they are too many.
    """
    edges, nodes = _ranked_choices(derived, weights, strengths)
    logs = {edge.key: math.log(sum(math.exp(-cost) for cost in edge.costs)) for edge in edges}
    none_kept: Dict[str, Sequence[bool]] = {node.key: node.always for node in nodes}
    unread = without_reader(readers, none_kept)
    total = sum(of_edge for key, of_edge in logs.items() if key not in unread)
    reads = [[frozenset(unread - without_reader(readers, {**none_kept, node.key: [j == i for j in range(len(node.always))]}))
              for i in node.order] for node in nodes]
    ahead = [key for of_node in reads for of_input in of_node for key in of_input]

    masses: Dict[FrozenSet[str], float] = {frozenset(): 0.0}
    """Logarithms, by the edges that are read and that inputs ahead also read."""
    for node, of_node in zip(nodes, reads):
        by_number: Dict[Tuple[int, FrozenSet[str]], float] = {(0, read): mass for read, mass in masses.items()}
        for cost, of_input in zip(node.costs, of_node):
            for key in of_input:
                ahead.remove(key)
            states, by_number = by_number, {}
            for (number, read), mass in states.items():
                as_kept = mass + sum((logs[key] for key in sorted(of_input - read)), -cost)
                for state, share in (((number, read.intersection(ahead)), mass),
                                     ((number + 1, (read | of_input).intersection(ahead)), as_kept)):
                    if state[0] <= node.n:
                        by_number[state] = _log_of_sum([by_number[state], share]) if state in by_number else share
            if len(by_number) > MAX_STATES:
                return math.nan
        masses = {read: mass for (number, read), mass in by_number.items() if number == node.n}
        mass_of_node = _log_of_sum(list(masses.values()))
        masses = {read: mass - mass_of_node for read, mass in masses.items()}
        total += mass_of_node + sum(node.costs[:node.n])
    return total


def _log_of_sum(logs: Sequence[float]) -> float:
    """The logarithm of the sum of numbers whose logarithms these are."""
    largest = max(logs)
    return largest + math.log(sum(math.exp(log - largest) for log in logs))
