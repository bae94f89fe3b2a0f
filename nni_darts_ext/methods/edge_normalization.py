"""Edge normalisation: what a node reads is weighed by a softmax over its edges."""

from __future__ import annotations

from typing import Dict, Iterable, Optional

import torch
from torch import Tensor, nn

from ..core.search import Search
from ..errors import MethodError
from .base import Method


class EdgeNormalization(Method):
    r"""Multiply the inputs of each InputChoice by a softmax over them, learned together with the logits.

    Y. Xu, L. Xie, X. Zhang, X. Chen, G.-J. Qi, Q. Tian, H. Xiong, "PC-DARTS: Partial Channel Connections for Memory-Efficient
    Architecture Search", ICLR 2020, arXiv 1907.05737, section 3.3:

    .. math:: x_j = \sum_{i<j} \frac{\exp \beta_{i,j}}{\sum_{i'<j} \exp \beta_{i',j}} f_{i,j}(x_i)

    The strength of an edge, by which an InputChoice keeps its inputs, is multiplied by the same softmax. InputChoices of one key
    share their beta. All beta start at 0, so that the inputs are equally weighed (the authors' code draws ``1e-3 * randn``).
    ``search.input_weights()`` returns the softmax.

    The paper combines it with :func:`nni_darts_ext.nn.PartialChannels`, where it also weighs the channels that bypass the choice,
    and leaves the architecture unchanged in the first 15 epochs.

    Raises
    ------
    MethodError
        When the search space is known: no InputChoice reads the output of a LayerChoice.
    """

    def __init__(self) -> None:
        self._beta: Dict[str, nn.Parameter] = {}

    def attach(self, search: Search) -> None:
        space = search.space
        self._beta = {key: nn.Parameter(torch.zeros(len(sources), device=search.choices.device))
                      for key, sources in space.sources.items() if key in space.unnamed or space.is_fed(key)}
        if not self._beta:
            raise MethodError(f'{self!r} weighs the inputs of InputChoices, but no InputChoice of the model reads a LayerChoice. '
                              'Where the model adds up LayerChoices, let nni_darts_ext.nn.InputChoice(choose_from=keys) do it, '
                              'which keeps all inputs if n_chosen is left out.')

    def weigh_inputs(self, key: str) -> Optional[Tensor]:
        return torch.softmax(self._beta[key], 0)

    def parameters(self) -> Iterable[nn.Parameter]:
        return self._beta.values()
