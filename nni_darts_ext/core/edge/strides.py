"""1x1 convolutions whose strides make PyTorch write beyond its memory on some CPUs: how they run without strides."""

from __future__ import annotations

from typing import Optional, Tuple

from torch import Tensor, nn

FEW = 8
"""Input channels from which on nothing is overrun: as many 32-bit numbers as a register of AVX2 holds."""


def overruns(convolution: nn.Conv2d) -> bool:
    """Whether its backward pass may write beyond its memory, which ends in any error, anywhere.

    It does on x86 CPUs with AVX2 and without AVX-512, for 32-bit floats, where images or weights lie in memory with the channels
    last. Seen with PyTorch 1.12 to 2.13; reported as https://github.com/uxlfoundation/oneDNN/issues/6035.
    """
    return (convolution.in_channels < FEW and convolution.stride != (1, 1) and convolution.kernel_size == (1, 1)
            and convolution.groups == 1 and convolution.padding in ((0, 0), 'valid'))


def unstrided(value: Tensor, weight: Tensor, bias: Optional[Tensor], stride: Tuple[int, ...]) -> Tensor:
    """``conv2d(value, weight, bias, stride)`` of one that :func:`overruns`, on the pixels that it reads.

    With so few channels that takes about as long (PyTorch 2.13; 1.2 to 4 times as long with 1.12). With more, and images with the
    channels last, it takes up to eight times as long, so those run as they are.
    """
    rows, columns = stride
    return nn.functional.conv2d(value[..., ::rows, ::columns], weight, bias)
