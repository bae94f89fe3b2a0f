"""Outputs that are cheap to compute are not saved for the backward pass, but computed again.

A BatchNorm after a 1x1 convolution saves its input, which is nearly half of what the paper's candidates save. The convolution,
whose own input is saved anyway, computes it again in the backward pass. With few channels that takes little time.
"""

from __future__ import annotations

from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from typing import Any, Callable, Iterator, Optional

from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.nn.utils.parametrize import is_parametrized

from ...errors import SearchSpaceError
from .convolutions import overruns, unstrided
from .layers import is_plain
from .overwriting import Watch

CHEAP = 32
"""The maximum number of input channels. The convolution takes 1.5 times as long there as the BatchNorm does forward,
with 16 channels 0.6 times, with 64 2.8 times (one thread of a CPU, images of 16 x 16, or of 32 x 32 with 16 channels)."""
SMALL = 1 << 18
"""In bytes. Smaller outputs are saved, because the call that computes them again would cost more."""


def is_cheap(layer: nn.Module) -> bool:
    """Whether the output of a layer may be cheap to compute again: it is a plain 1x1 convolution."""
    return (isinstance(layer, nn.Conv2d) and is_plain(layer, nn.Conv2d) and all(side == 1 for side in layer.kernel_size)
            and layer.padding_mode == 'zeros' and not is_parametrized(layer))  # reading a weight would compute it


def recomputing(layer: nn.Conv2d, value: Any, output: Any) -> Optional[Callable[[], Tensor]]:
    """A function that computes the ``output`` of an :func:`is_cheap` layer again; None if it is better saved."""
    if not output.requires_grad or output.numel() * output.element_size() < SMALL:
        return None
    weight, bias = layer.weight, layer.bias
    if weight.shape[1] > CHEAP or not output.dtype == value.dtype == weight.dtype:  # they differ under autocast
        return None
    # Detached, because the output has its graph already, and because weights are moved for a while in the second order.
    tensors = value.detach(), weight.detach(), None if bias is None else bias.detach()
    compute = partial(unstrided, *tensors, layer.stride) if overruns(layer) else partial(
        nn.functional.conv2d, *tensors, layer.stride, layer.padding, layer.dilation, layer.groups)
    return partial(_again, Watch(tensors), compute)


def _again(watch: Watch, compute: Callable[[], Tensor]) -> Tensor:
    if watch.is_broken():  # of tensors that are kept PyTorch says so itself
        raise SearchSpaceError('The input of a convolution, or its weight, has been written over before the backward pass, which '
                               'computes the convolution again. Let the model leave it alone until then (no += or inplace=True).')
    return compute()


@contextmanager
def without_saving(value: Tensor, again: Callable[[], Tensor]) -> Iterator[None]:
    """In this context graphs save ``again`` instead of ``value``, which it computes. Derivatives of any order flow through the
    graph by which ``value`` was computed at first."""
    given = [value]

    def pack(saved: Tensor) -> Any:
        return again if saved.is_set_to(given[0]) else saved

    try:
        with ExitStack() as hooks:
            with suppress(RuntimeError):  # of the transforms in torch.func, which know no hooks: there all is kept
                hooks.enter_context(saved_tensors_hooks(pack, lambda kept: kept if isinstance(kept, Tensor) else kept()))
            yield
    finally:
        given.clear()  # for the graph keeps the hooks
