"""What belongs to which step of the bilevel optimisation (Liu et al., algorithm 1)."""

from __future__ import annotations

from contextlib import contextmanager
from typing import Iterable, Iterator

from torch import nn


@contextmanager
def frozen(parameters: Iterable[nn.Parameter]) -> Iterator[None]:
    """Keep a backward pass away from some parameters: neither computed nor accumulated for them.

    The architecture step freezes the weights and the weight step the logits, so that neither moves what the other owns.
    """
    held = [parameter for parameter in parameters if parameter.requires_grad]
    for parameter in held:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in held:
            parameter.requires_grad_(True)
