"""Fair DARTS: candidates that do not compete with each other, and a loss that makes them decide.

X. Chu, T. Zhou, B. Zhang, J. Li, "Fair DARTS: Eliminating Unfair Advantages in Differentiable Architecture Search", ECCV 2020,
arXiv 1911.12126.
"""

from typing import Mapping, Optional

import torch
from torch import Tensor

from nni_darts_ext.methods import At, Method


class FairDARTS(Method):
    """The weight of each candidate is the sigmoid of its own logit, and the zero-one loss draws it away from 1/2.

    Parameters
    ----------
    zero_one_weight
        The factor of the zero-one loss. Default 10 (source: the authors' code, ``aux_loss_weight``).
    """

    def __init__(self, zero_one_weight: float = 10.0) -> None:
        self.zero_one_weight = zero_one_weight

    def relax(self, logits: Mapping[str, Tensor], at: At) -> Mapping[str, Tensor]:
        return {key: torch.sigmoid(of_edge) for key, of_edge in logits.items()}

    def regularizer(self, logits: Mapping[str, Tensor], at: At) -> Optional[Tensor]:
        weights = torch.sigmoid(torch.cat([of_edge[:-1] for of_edge in logits.values()]))  # the zero op's last, left out
        return -self.zero_one_weight * ((weights - 0.5) ** 2).mean()
