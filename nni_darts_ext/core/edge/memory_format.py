"""Images with their channels last in memory, in which CPUs and tensor cores convolve faster. The numbers stay the same."""

from __future__ import annotations

import logging
from typing import Any, Iterable, Mapping

import torch
from torch import Tensor, nn

from ..nested import map_tensors
from .convolutions import FEW, overruns
from .layers import is_plain, layers_of

_logger = logging.getLogger(__name__)

NAMED = 3
"""How many convolutions a warning names."""


def channels_last(value: Any) -> Any:
    """A batch whose tensors of four dimensions lie in memory with the channels last. The others stay."""
    return map_tensors(_channels_last, value)


def _channels_last(value: Tensor) -> Tensor:
    is_dense = value.layout == torch.strided  # sparse and nested tensors have no such order
    return value.contiguous(memory_format=torch.channels_last) if value.dim() == 4 and is_dense else value


def lay_out(model: nn.Module) -> None:
    """Let the parameters of four dimensions lie that way, too. They stay the same objects."""
    for parameter in model.parameters():
        parameter.data = _channels_last(parameter.data)


def warn_of_overruns(model: nn.Module, edges: Mapping[str, Iterable[nn.Module]], argument: str) -> None:
    """Warn of the convolutions for which :func:`nni_darts_ext.core.edge.convolutions.overruns` holds and that the model runs
    itself.

    Plain convolutions in the candidates of ``edges`` run otherwise. The warning depends on the sizes and not on the CPU, because
    a search may be resumed on another machine. ``argument`` is the search's argument that puts the channels last.
    """
    keys = {module: key for key, candidates in edges.items() for candidate in candidates for module in candidate.modules()}
    safe = {layer for candidates in edges.values() for candidate in candidates for layer in layers_of(candidate)
            if is_plain(layer, nn.Conv2d)}
    found = [repr(path) + (f' of LayerChoice {keys[module]!r}' if module in keys else '')
             for path, module in model.named_modules()
             if isinstance(module, nn.Conv2d) and module not in safe and overruns(module)]
    if found:
        _logger.warning(
            'On x86 CPUs without AVX-512 PyTorch writes beyond its memory in the backward pass of a 1x1 convolution with a '
            'stride and fewer than %d input channels, under %s. The model runs such ones itself: %s%s. Let them read '
            'x[..., ::stride, ::stride] with stride 1, which is the same, give them more channels, or search without %s.',
            FEW, argument, ', '.join(found[:NAMED]), f' and {len(found) - NAMED} more' if len(found) > NAMED else '', argument)
