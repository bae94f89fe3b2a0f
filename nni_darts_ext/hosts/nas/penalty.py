"""NNI's profiler penalty with a gradient: the expected cost of an architecture, given the probabilities of its choices."""

from __future__ import annotations

import operator
from typing import Any, Dict, Mapping, Tuple

from nni.mutable import MutableExpression
from nni.nas.oneshot.pytorch.profiler import ExpectationProfilerPenalty
from nni.nas.oneshot.pytorch.supermodule._expression_utils import traverse_all_options
from torch import Tensor

Distributions = Mapping[str, Mapping[Any, Tensor]]
"""For each label the probabilities of its values. They may add up to less than 1: the zero op costs nothing."""


def penalize(penalty: ExpectationProfilerPenalty, loss: Tensor, distributions: Distributions) -> Tuple[Tensor, Dict[str, Any]]:
    """Like ``penalty(loss, probabilities)``, but differentiable in the probabilities."""
    cost = expectation(penalty.profiler.expression, distributions)
    normalized = penalty.nonlinear_fn(cost / penalty.baseline - 1)
    total = penalty.aggregate_fn(loss, normalized)
    return total, {'loss_original': loss, 'penalty': cost, 'normalized_penalty': normalized, 'loss_final': total}


def expectation(expression: Any, distributions: Distributions) -> Any:
    """The expected value of an expression over choices.

    NNI's own function fails where an op without parameters (0.0) is added to one with parameters (an int), as in every cell of
    the DARTS paper."""
    if not isinstance(expression, MutableExpression):
        return expression
    if getattr(expression, 'function', None) in (operator.add, operator.sub):
        return expression.function(*(expectation(argument, distributions) for argument in expression.arguments))
    return sum(weight * value for value, weight in traverse_all_options(expression, distributions))
