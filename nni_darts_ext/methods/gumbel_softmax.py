"""GDAS: on each edge a single candidate runs, sampled by the Gumbel-softmax.

X. Dong, Y. Yang, "Searching for a Robust Neural Architecture in Four GPU Hours", CVPR 2019, arXiv 1910.04465.
"""

from __future__ import annotations

import math
from typing import Mapping

import torch
from torch import Tensor

from ..core.weights import softmax
from ..errors import MethodError
from .base import READING, VALIDATION, At, Method


class GumbelSoftmax(Method):
    """Samples one candidate per edge and step, with the straight-through gradient of a tempered softmax.

    With logits ``a``, Gumbel noise ``g`` and the temperature ``tau``, the weights of an edge are ``one_hot(argmax(a + g))``.
    Their gradient is that of ``softmax((a + g) / tau)``. Only the sampled candidate runs, and the loss depends on its weight
    only. The zero op is sampled like the others, as "none" is by the authors; the edge returns zeros then, and its logits have
    no gradient in that step. Passes on validation and on training data have different samples.

    A validation runs the candidate with the largest logit of each edge, without the zero op: nothing is sampled. The authors
    report the accuracy of the sampled networks in the architecture steps instead. The architecture is derived from, and the log
    and the record show, the softmax of the logits, whose order on an edge is that of the authors' derivation.

    Parameters
    ----------
    initial_temperature, final_temperature
        ``tau`` in the first and in the last epoch; linear in between. Default 10 and 0.1 (source: the paper's experiments and
        the authors' scripts, ``tau_max`` and ``tau_min``).

    Raises
    ------
    MethodError
        A temperature is not a positive number.

    Notes
    -----
    In the authors' code for NAS-Bench-201, the weights of the candidates that do not run, which are 0, are added to the output of
    the edge. This changes no output, but adds the sum of the gradients of the output to the gradient of each of these weights.
    Here, as in the paper, the gradient has no such term.
    """

    needs_epochs = True
    samples = True

    def __init__(self, initial_temperature: float = 10.0, final_temperature: float = 0.1) -> None:
        for name, value in (('initial', initial_temperature), ('final', final_temperature)):
            if not (isinstance(value, (int, float)) and 0 < value < math.inf):
                raise MethodError(f'GumbelSoftmax({name}_temperature={value!r}): expected a positive number. The defaults are 10 '
                                  'for the first and 0.1 for the last epoch.')
        self.initial_temperature, self.final_temperature = initial_temperature, final_temperature

    def relax(self, logits: Mapping[str, Tensor], at: At) -> Mapping[str, Tensor]:
        if at.phase == READING:
            return softmax(logits)
        if at.phase == VALIDATION:
            return {key: _one_hot(of_edge[:-1].argmax(), of_edge) * (of_edge > -math.inf) for key, of_edge in logits.items()}
        temperature = self.temperature(at)
        return {key: _sampled(of_edge, at.generator(f'GumbelSoftmax {key}'), temperature) for key, of_edge in logits.items()}

    def temperature(self, at: At) -> float:
        """The temperature of the current epoch."""
        share = at.progress and at.progress * at.epochs / (at.epochs - 1)  # type: ignore[operator]
        return self.initial_temperature + (self.final_temperature - self.initial_temperature) * share


def _sampled(logits: Tensor, generator: torch.Generator, temperature: float) -> Tensor:
    noise = -torch.empty(len(logits), dtype=torch.float64).exponential_(generator=generator).log()
    soft = torch.softmax((logits + noise.to(logits)) / temperature, 0)
    return _one_hot(soft.argmax(), soft) + (soft - soft.detach())  # exactly 0 and 1


def _one_hot(index: Tensor, like: Tensor) -> Tensor:
    return torch.nn.functional.one_hot(index, len(like)).to(like)
