"""Contexts for passes that do not change buffers (running statistics), random states or modes."""

from __future__ import annotations

from contextlib import contextmanager
from typing import Dict, Iterable, Iterator

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


@contextmanager
def without_side_effects(model: nn.Module) -> Iterator[None]:
    """Restore the buffers of a model and the random states of its devices at the end."""
    devices = sorted({parameter.device.index for parameter in model.parameters() if parameter.device.type == 'cuda'})
    with torch.random.fork_rng(devices), on_copied_buffers(model.modules()):
        yield


@contextmanager
def on_copied_buffers(modules: Iterable[nn.Module]) -> Iterator[None]:
    """Replace the buffers of modules by copies in the context. Buffers that modules share stay shared."""
    kept = [(module._buffers, dict(module._buffers)) for module in modules if module._buffers]
    copies: Dict[Tensor, Tensor] = {}
    try:
        for buffers, originals in kept:
            for name, buffer in originals.items():
                if buffer is not None:
                    if buffer not in copies:
                        copies[buffer] = buffer.detach().clone()
                    buffers[name] = copies[buffer]
        yield
    finally:
        for buffers, originals in kept:
            buffers.update(originals)


@contextmanager
def on_batch_statistics(model: nn.Module) -> Iterator[None]:
    """Let BatchNorm use the statistics of each batch in evaluation mode, in place of running ones, which stay as they are."""
    norms = [module for module in model.modules() if isinstance(module, _BatchNorm)]
    with on_copied_buffers(norms):
        for norm in norms:
            norm._buffers.update(running_mean=None, running_var=None)
        yield


@contextmanager
def with_modes_restored(module: nn.Module) -> Iterator[None]:
    """Restore the training or evaluation mode of each submodule at the end."""
    modes = {part: part.training for part in module.modules()}
    try:
        yield
    finally:
        for part, mode in modes.items():
            part.training = mode


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Put a module into evaluation mode in the context, without calling ``eval()``, which it may override."""
    with with_modes_restored(module):
        for part in module.modules():
            part.training = False
        yield
