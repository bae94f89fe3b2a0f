"""Partial channel connections: a part of the channels runs through an edge, the others bypass it (Xu et al., equation 2)."""

from __future__ import annotations

from typing import Optional

import torch
from torch import Tensor, fx, nn

from ...errors import SearchSpaceError
from ..sources import pass_on


class PartialChannels(nn.Module):
    """See :func:`nni_darts_ext.nn.PartialChannels`. The first ``channels // k`` channels run through ``edge``; input and output
    have ``channels`` channels, of which ``k`` is a divisor."""

    def __init__(self, edge: nn.Module, channels: int, k: int) -> None:
        super().__init__()
        self.edge, self.channels, self.k = edge, channels, k

    def forward(self, x: Optional[Tensor]) -> Optional[Tensor]:
        """``x``, of shape ``(N, channels, H, W)``, becomes a tensor of this shape, or of half the height and width."""
        part = None if x is None else x[:, :self.channels // self.k]  # NNI's own functions make dropped edges return None
        return joined(self.edge(part), x, self.channels, self.k)

    def extra_repr(self) -> str:
        return f'channels={self.channels}, k={self.k}'


@fx.wrap
def joined(part: Optional[Tensor], x: Optional[Tensor], channels: int, k: int) -> Optional[Tensor]:
    """What an edge has made of the first of k parts of the channels of ``x``, and the other parts, shuffled.

    A function that symbolic tracing does not enter, because what it does depends on shapes. Raises :class:`SearchSpaceError` if
    the number of channels is not as expected, or an image is neither as large as before nor half as large.
    """
    if part is None or x is None:
        return None
    others = x[:, channels // k:]
    if part.shape[2:] != x.shape[2:] and x.dim() == 4:
        others = nn.functional.max_pool2d(others, 2, ceil_mode=True)
    if x.shape[1] != channels or (part.shape[0], part.shape[1] * (k - 1), *part.shape[2:]) != tuple(others.shape):
        raise SearchSpaceError(
            f'PartialChannels got an input of shape {tuple(x.shape)}, and the edge made the shape {tuple(part.shape)} of its '
            f'first {channels // k} channels. Expected {channels} channels in the input and {channels // k} from the edge, with '
            'the same height and width as before, or half of them (rounded up) for an edge with stride 2.')
    # Stacked, channel c of part g comes to c * k + g: the concatenation and its shuffling in one copy.
    return pass_on(part, torch.stack([part, *others.chunk(k - 1, dim=1)], dim=2).flatten(1, 2))
