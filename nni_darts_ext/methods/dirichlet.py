"""DrNAS: the weights of an edge are samples of a Dirichlet distribution, whose concentrations are learned.

X. Chen, R. Wang, M. Cheng, X. Tang, C.-J. Hsieh, "DrNAS: Dirichlet Neural Architecture Search", ICLR 2021, arXiv 2006.10355.
"""

from __future__ import annotations

import math
from typing import Mapping, Optional

import torch
from torch import Tensor
from torch.distributions import Dirichlet as Distribution
from torch.distributions import kl_divergence

from ..errors import MethodError
from .base import READING, VALIDATION, At, Method


class Dirichlet(Method):
    """Samples the weights of an edge from Dirichlet(elu(logits) + 1), including the zero op's, with pathwise gradients.

    The logits minimise the expected validation loss, with a penalty for the distance between the concentrations and 1, those of
    the uniform distribution. In validations, and where the architecture is derived, logged and recorded, the weights are the
    mean of the distribution. The authors sample in validations as well. They derive candidates, whose order is that of the
    mean, in the same way, but compare edges by the softmax of the logits.

    The weights have no second derivatives with respect to the logits, which the methods that compute eigenvalues need. Both
    second orders of the search need none.

    Parameters
    ----------
    kl_factor
        The factor of the Kullback-Leibler divergence from Dirichlet(1), added up over the edges, in the loss of the
        architecture step. Default 0 (source: the authors' code, whose penalty is the squared norm of the logits by default,
        ``reg_type='l2'``). That penalty is the weight decay of the optimiser of the logits, 1e-3 there and in a search by
        default. With a factor, the authors set the weight decay to 0; they name no default for it.

    Raises
    ------
    MethodError
        The factor is not a number of at least 0.
    """

    conflicts = ('Eigenvalue', 'EarlyStopping')

    def __init__(self, kl_factor: float = 0.0) -> None:
        if not (isinstance(kl_factor, (int, float)) and 0 <= kl_factor < math.inf):
            raise MethodError(f'Dirichlet(kl_factor={kl_factor!r}): expected a number of at least 0, such as the default, 0.')
        self.kl_factor = kl_factor

    def relax(self, logits: Mapping[str, Tensor], at: At) -> Mapping[str, Tensor]:
        return {key: self._weights(key, of_edge, at) for key, of_edge in logits.items()}

    def _weights(self, key: str, logits: Tensor, at: At) -> Tensor:
        running = logits > -math.inf
        concentration = _concentration(logits[running])
        if at.phase in (READING, VALIDATION) or len(concentration) == 1:
            weights = concentration / concentration.sum()
        else:
            with torch.random.fork_rng(devices=[]):  # the distributions of PyTorch take no generator
                torch.set_rng_state(at.generator(f'Dirichlet {key}').get_state())
                weights = Distribution(concentration.to('cpu', torch.float64)).rsample().to(logits)
            weights = weights.clamp(min=torch.finfo(weights.dtype).tiny)  # a weight of 0 would leave the candidate out
        return torch.zeros_like(logits).masked_scatter(running, weights)

    def regularizer(self, logits: Mapping[str, Tensor], at: At) -> Optional[Tensor]:
        if not self.kl_factor:
            return None
        return self.kl_factor * torch.stack([_divergence(of_edge[of_edge > -math.inf]) for of_edge in logits.values()]).sum()


def _concentration(logits: Tensor) -> Tensor:
    """elu(logits) + 1, which would be 0 for logits below -16 in float32."""
    return logits.clamp(max=0).exp() + logits.relu()


def _divergence(logits: Tensor) -> Tensor:
    concentration = _concentration(logits)
    return kl_divergence(Distribution(concentration), Distribution(torch.ones_like(concentration)))
