"""SDARTS-RS: random noise on the architecture while the weights are trained.

X. Chen, C.-J. Hsieh, "Stabilizing Differentiable Architecture Search via Perturbation-based Regularization", ICML 2020,
arXiv 2002.05283.
"""

from __future__ import annotations

import math
from typing import Mapping

import torch
from torch import Tensor

from ..errors import MethodError
from .base import WEIGHTS, At, Method


class RandomPerturbation(Method):
    """Adds uniform noise to the weights of the candidates in the weight step.

    The step minimises ``E[L_train(w, A + delta)]`` with ``delta`` uniform in ``[-epsilon, epsilon]``. ``A`` are the weights of
    the edges that :meth:`~nni_darts_ext.methods.base.Method.relax` gives, including those of the zero ops. As in the authors'
    code, the noisy weights are clamped to [0, 1] and scaled to the sum that they had; if all of them are 0, the largest one
    becomes 1 before. Weights that are exactly 0 have no noise: what is cut, or not sampled, does not run. The passes of the
    architecture step on validation data have no noise. Those of the second order on training data have that of the following
    weight step, because they predict it; in the authors' code they have none.

    With the exact second order, let ``recompute=True`` save memory rather than a ``torch.utils.checkpoint`` of the model's own:
    that computes training passes again in the architecture step, without noise.

    Parameters
    ----------
    initial_radius, final_radius
        ``epsilon`` in the first epoch and after the last one; linear in between. Default 0.03 and 0.3 (source: the authors' code,
        ``epsilon_alpha``).

    Raises
    ------
    MethodError
        A radius is not a number of at least 0.
    """

    needs_epochs = True
    samples = True  # by clamping

    def __init__(self, initial_radius: float = 0.03, final_radius: float = 0.3) -> None:
        for name, value in (('initial', initial_radius), ('final', final_radius)):
            if not (isinstance(value, (int, float)) and 0 <= value < math.inf):
                raise MethodError(f'RandomPerturbation({name}_radius={value!r}): expected a number of at least 0. The defaults '
                                  'are 0.03 in the first epoch and 0.3 after the last one.')
        self.initial_radius, self.final_radius = initial_radius, final_radius

    def reweigh(self, weights: Mapping[str, Tensor], at: At) -> Mapping[str, Tensor]:
        if at.phase != WEIGHTS:
            return weights
        radius = self.initial_radius + (self.final_radius - self.initial_radius) * at.progress
        return {key: _perturbed(of_edge, at.generator(f'RandomPerturbation {key}'), radius) for key, of_edge in weights.items()}


def _perturbed(weights: Tensor, generator: torch.Generator, radius: float) -> Tensor:
    noise = (2 * torch.rand(len(weights), dtype=torch.float64, generator=generator) - 1) * radius
    noisy = weights + noise.to(weights) * (weights != 0)
    clamped = noisy.clamp(0, 1)
    strongest = noisy.masked_fill(weights == 0, -math.inf).argmax()
    clamped = torch.where(clamped.sum() > 0, clamped, torch.nn.functional.one_hot(strongest, len(noisy)).to(noisy))
    return clamped * (weights.sum() / clamped.sum())
