"""A dilated convolution whose strides leave pixels out, as the undilated one of the other pixels that it is."""

from __future__ import annotations

from torch import Tensor, nn


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
