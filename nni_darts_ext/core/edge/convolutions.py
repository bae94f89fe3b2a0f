"""Convolutions that are replaced by equal ones: strides that make PyTorch write beyond its memory on some CPUs, and dilations.

A dilated convolution whose strides leave pixels out is an undilated one of the other pixels.
"""

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


def is_sparse(convolution: nn.Conv2d) -> bool:
    """Whether it reads, along both sides of an image, only every d-th pixel from the first one on, where d is its dilation.

    So do the dilated convolutions of the paper's reduction cells, of dilation 2, stride 2 and paddings 2 and 4.
    """
    dilation = convolution.dilation
    if dilation == (1, 1) or convolution.padding_mode != 'zeros' or isinstance(convolution.padding, str):
        return False
    return all(stride % d == padding % d == 0
               for d, stride, padding in zip(dilation, convolution.stride, convolution.padding))


def undilated(convolution: nn.Conv2d, value: Tensor) -> Tensor:
    """``convolution(value)`` of one that :func:`is_sparse`, for images of shape ``(..., channels, height, width)``.

    On a CPU the backward pass of a dilated depthwise convolution with strides takes up to ten times as long as this one.
    """
    (down, right), (rows, columns) = convolution.dilation, convolution.stride
    above, left = (int(padding) for padding in convolution.padding)
    return nn.functional.conv2d(value[..., ::down, ::right], convolution.weight, convolution.bias,
                                (rows // down, columns // right), (above // down, left // right), 1, convolution.groups)
