"""Cost-aware search: the expected cost of the network that the probabilities describe is a part of the loss.

H. Cai, L. Zhu, S. Han, "ProxylessNAS: Direct Neural Architecture Search on Target Task and Hardware", ICLR 2019, arXiv
1812.00332, section 3.3, and G. Bender, H. Liu, B. Chen, G. Chu, S. Cheng, P.-J. Kindermans, Q. V. Le, "Can Weight Sharing
Outperform Random Architecture Search? An Investigation With TuNAS", CVPR 2020, arXiv 2008.06120, section 4.
"""

from __future__ import annotations

import logging
import math
from typing import Any, Callable, Dict, Iterator, List, Mapping, NamedTuple, Optional, Sequence, Tuple, Union

from torch import Tensor, nn

from ..core import costs
from ..core.costs import Costs
from ..core.derivation import Derivation, all_readers, is_optional, kept_share
from ..core.search import Search, Weights
from ..core.space import SearchSpace
from ..errors import MethodError
from .base import At, Method
from .skip_limit import NEVER

_logger = logging.getLogger(__name__)

Number = Union[int, float]
MEASURES: Dict[str, Callable[..., Costs]] = {
    'parameters': costs.parameters, 'multiply_adds': costs.multiply_adds, 'latency': costs.latency}


TOLERANCE = 0.1
"""The share of a target by which the cost of the derived network may miss it."""


class ExpectedCost(Method):
    r"""Adds the expected cost E of the derived network to the loss of the architecture step.

    .. math:: \text{weight} \cdot \frac{E - c}{\max E - c} \qquad\text{or, with a target,}\qquad
              \text{weight} \cdot \left|\frac{E}{\text{target}} - 1\right|, \qquad
              E = c + \sum_e k_e \sum_o p_{e,o} c_{e,o}

    c is the cost of everything outside the LayerChoices, :math:`c_{e,o}` that of candidate o of edge e, in all LayerChoices with
    that key, and max E that of the most expensive architecture. :math:`p_{e,o}` are the probabilities from which the architecture
    is derived, those of the method that relaxes, such as the softmax of the logits. They are divided by their sum over the
    candidates: the zero op, which costs 0, counts only where it can win (``zero_op_wins``). :math:`k_e` is the probability that
    the edge is kept if every InputChoice kept its ``n_chosen`` inputs at random, since which ones it keeps is unknown in the
    search: ``n_chosen / n`` for an edge that one InputChoice reads, 1 for an edge that anything else reads. So E is the cost of
    the derived network where the probabilities are 0 and 1 and each InputChoice keeps all inputs or has equally expensive ones.

    What is counted how is said in :mod:`nni_darts_ext.core.costs`. Parameters are known at once in ``DartsTrainer`` and
    ``DartsMutator``. Otherwise, costs are measured when the first forward pass ends, on its inputs, in one more pass (11 for the
    latency) without side effects, and saved in checkpoints; all processes use those of the first one. Candidates that are cut by
    then cost 0, and layers that edges share count for each. Choices that NNI itself relaxes in a strategy, such as those of its
    ``Cell``, belong to c as they are.

    E comes to a target while the probabilities are still far from 0 and 1, where the most probable candidates may cost much more
    or less than E. So with a target the architecture is derived anew while its cost misses the target by more than 10 %: one
    edge after another takes the candidate that comes closer to the target for the smallest factor in probability. If no exchange
    of a single candidate comes closer, it stays that far from it, and a warning says so. Weights that are recorded, and the
    search, stay as they are.

    Parameters
    ----------
    cost
        What is counted: ``'parameters'`` (default), ``'multiply_adds'`` of one sample, or ``'latency'`` of a batch of the search
        in milliseconds; or a table of numbers, ``{candidate: number}`` for all edges or ``{key: {candidate: number}}``, of a
        candidate in one LayerChoice. With a table, c is 0.
    weight
        Default: 0.2 without a target (source: the authors' code of ProxylessNAS, whose ``add#linear`` has the same gradient,
        relative to a reference), 1 with one (source: ``scale`` of NNI 3.0's ``ProfilerPenalty``, which calls this form
        ``absolute``; it is that of TuNAS).
    target
        The cost that the whole network, c included, is to have, in the unit of ``cost``. Default: none, the cheaper the better.

    Raises
    ------
    MethodError
        An argument has no such value. When the space is known: a table lacks a candidate. After the first pass: the target is
        below the least or above the largest E, all architectures cost the same, or the model cannot be run once more.
    """

    def __init__(self, cost: Union[str, Mapping[str, Any]] = 'parameters', weight: Optional[Number] = None,
                 target: Optional[Number] = None) -> None:
        for name, value in (('weight', weight), ('target', target)):
            if not (value is None or (_is_number(value) and value > 0)):
                raise MethodError(f'ExpectedCost({name}={value!r}): expected a number above 0, or None for the default.')
        if not (cost in MEASURES if isinstance(cost, str) else _is_table(cost)):
            raise MethodError(f'ExpectedCost(cost={cost!r}): expected one of {", ".join(map(repr, MEASURES))}, or a table of '
                              'numbers of at least 0, {candidate: number} or {key: {candidate: number}}.')
        self.cost = cost if isinstance(cost, str) else dict(cost)
        self.weight, self.target = (0.2 if target is None else 1.0) if weight is None else weight, target
        self._costs: Optional[Costs] = None
        self._is_checked = self._is_warned = False

    @property
    def conflicts(self) -> Sequence[str]:  # type: ignore[override]
        """With a target, others that also decide what is derived: neither would hold."""
        return () if self.target is None else ('SkipLimit', 'PerturbationSelection')

    def attach(self, search: Search) -> None:
        model = getattr(search, 'model', None)
        if not isinstance(self.cost, str):
            self._costs = _of_table(self, self.cost, search.space)
        elif self.cost == 'parameters' and isinstance(model, nn.Module):
            self._costs = costs.parameters(search, model)

    def after_pass(self, model: nn.Module, args: Sequence[Any], kwargs: Mapping[str, Any], at: At) -> None:
        if self._costs is None:
            try:
                found = MEASURES[str(self.cost)](at.search, model, args, kwargs)
            except Exception as error:  # a user's model may raise anything
                raise MethodError(f'{self!r} cannot run the model once more to measure its candidates: {type(error).__name__}: '
                                  f'{error}. Pass cost={{candidate: number}}, or cost=\'parameters\'.') from error
            self._costs = costs.of_first(found)
        if not self._is_checked and at.search.space.readers is not None:
            self._check(*_range(self._costs, at.search))

    def regularizer(self, logits: Mapping[str, Tensor], at: At) -> Optional[Tensor]:
        if self._costs is None:  # in a training loop of your own before its first pass
            return None
        expected, fixed = self.expected(at.search, at.search.choices.weigh(logits)), self._costs.fixed
        if self.target is not None:
            return self.weight * (expected / self.target - 1).abs()
        most = _range(self._costs, at.search)[1]
        return None if most == fixed else self.weight * (expected - fixed) / (most - fixed)  # refused after the first pass

    def expected(self, search: Search, probabilities: Optional[Mapping[str, Tensor]] = None) -> Tensor:
        """E, a differentiable scalar, by default of the current probabilities.

        Raises
        ------
        MethodError
            The costs are not measured yet: no forward pass has ended.
        """
        if self._costs is None:
            raise MethodError(f'{self!r} knows no costs before the first forward pass of the search.')
        total: Any = self._costs.fixed
        for key, edge in _edges(self._costs, search).items():
            of_edge = search.choices.probabilities(key) if probabilities is None else probabilities[key]
            of_edge = of_edge[:len(edge.costs)]
            mass = of_edge.sum()
            total = total + edge.kept * (of_edge * of_edge.new_tensor(edge.costs)).sum() / (mass + (mass == 0))
        return total

    def _check(self, least: float, most: float) -> None:
        """Refuse a target that cannot be reached."""
        self._is_checked = True
        if self.target is not None and not least <= self.target <= most:
            raise MethodError(f'{self!r}: the expected cost is from {least:,.6g} to {most:,.6g}. Expected a target '
                              'in this range.')
        if least == most:
            raise MethodError(f'{self!r} has no effect: all architectures cost {least:,.6g}. Pass another cost, or leave it out.')

    def derive(self, weights: Weights, at: At) -> Weights:
        if self.target is None or self._costs is None:
            return weights
        left, found = weights, at.search.derive(weights)
        while self._miss(found) > TOLERANCE:
            for _, key, i in sorted(self._exchanges(left, found)):
                *others, zero_op = left[key]
                tried = {**left, key: [*(NEVER if j != i and weight >= others[i] else weight for j, weight in enumerate(others)),
                                       zero_op]}
                derived = at.search.derive(tried)
                if self._miss(derived) < self._miss(found):
                    left, found = tried, derived
                    break
            else:
                self._warn(found)
                return left
        return left

    def _warn(self, found: Derivation) -> None:
        if not self._is_warned:
            self._is_warned = True
            _logger.warning('%r: the derived network costs %s, which no exchange of a single candidate brings closer to the '
                            'target. Pass a target that a network of this space has.', self, f'{self._cost(found):,.6g}')

    def _cost(self, found: Derivation) -> float:
        assert self._costs is not None
        return self._costs.fixed + sum(one for key, of_edge in self._costs.candidates.items()
                                       for one, is_kept in zip(of_edge, found.decisions[key]) if is_kept)

    def _miss(self, found: Derivation) -> float:
        assert self.target is not None
        return abs(self._cost(found) / self.target - 1)

    def _exchanges(self, weights: Weights, found: Derivation) -> Iterator[Tuple[Tuple[bool, float], str, int]]:
        """Other candidates of kept edges that come closer to the target: those that hit it first, by their factor in probability,
        then the others by it for each unit of cost."""
        assert self._costs is not None and self.target is not None
        cost, miss = self._cost(found), self._miss(found)
        for key, of_edge in self._costs.candidates.items():
            best = found.best[key]
            for i, weight in enumerate(weights[key][:-1] if found.decisions[key][best] else ()):
                change = of_edge[i] - of_edge[best]
                its = abs((cost + change) / self.target - 1)
                if weight > 0 and its < miss:
                    factor = math.log(weights[key][best] / weight)
                    yield (its > TOLERANCE, factor if its <= TOLERANCE else factor / abs(change)), key, i

    def state_dict(self) -> Dict[str, Any]:
        return {} if self._costs is None else {'fixed': self._costs.fixed, 'candidates': {
            str(key): of_edge for key, of_edge in self._costs.candidates.items()}}  # keys may be objects of NNI's classes

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        if state:
            self._costs = Costs(float(state['fixed']), {key: list(map(float, of_edge))
                                                        for key, of_edge in state['candidates'].items()})


class _Edge(NamedTuple):
    costs: List[float]
    """Of the candidates, and 0 for the zero op where it can win."""
    kept: float


def _edges(found: Costs, search: Search) -> Dict[str, _Edge]:
    space = search.space
    readers = all_readers(space.edges, space.sources, space.readers)
    return {key: _Edge([*of_edge, 0.0] if search.zero_op_wins and is_optional(space, key, readers[key]) else of_edge,
                       kept_share(space, readers[key])) for key, of_edge in found.candidates.items()}


def _range(found: Costs, search: Search) -> List[float]:
    """The least and the largest expected cost."""
    edges = _edges(found, search).values()
    return [found.fixed + sum(edge.kept * of(edge.costs) for edge in edges) for of in (min, max)]


def _of_table(method: Method, table: Mapping[str, Any], space: SearchSpace) -> Costs:
    def of_edge(key: str) -> Mapping[str, Number]:
        nested = any(isinstance(value, Mapping) for value in table.values())
        return {str(name): number for name, number in (table.get(key, {}) if nested else table).items()}
    missing = [f'{name!r} of {key!r}' for key, edge in space.edges.items() for name in edge.names
               if str(name) not in of_edge(key)]
    if missing:
        raise MethodError(f'{method!r} has no number for the candidates {", ".join(missing)}. Add them to the table.')
    times = {key: sum(choice.key == key for choice in space.layer_choices) for key in space.edges}
    return Costs(0.0, {key: [float(times[key] * of_edge(key)[str(name)]) for name in edge.names]
                       for key, edge in space.edges.items()})


def _is_table(table: Any, may_nest: bool = True) -> bool:
    values = list(table.values()) if isinstance(table, Mapping) else []
    return bool(values) and (all(_is_number(one) and one >= 0 for one in values)
                             or (may_nest and all(_is_table(one, False) for one in values)))


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
