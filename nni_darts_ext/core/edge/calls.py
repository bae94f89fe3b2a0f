"""A layer run by the function that its module would call, where to call the module does nothing else.

A function holds as long as nothing about its layer changes (see :mod:`.plan`). Parameters and buffers are looked up in each call,
for others may be in their places for a while.
"""

from __future__ import annotations

from functools import partial
from typing import Any, Callable, Dict, Optional

import torch
from torch import Tensor, nn
from torch.nn.modules import module as of_all_modules

from .convolutions import is_sparse, overruns, undilated, unstrided
from .layers import COMPUTE, NORMS, is_one_of, is_plain

DIMENSIONS = {nn.BatchNorm1d: (2, 3), nn.BatchNorm2d: (4,), nn.BatchNorm3d: (5,)}
"""Of the values that a norm takes."""


class Counters:
    """The ``num_batches_tracked`` of an edge's norms: those that have run in the context are counted at its end, all at
    once. Until then a candidate that reads the counter of another one's norm finds that of the pass before."""

    def __init__(self) -> None:
        self._due: Dict[Tensor, None] = {}

    def add(self, batches: Tensor) -> None:
        if batches in self._due:  # of a norm that runs twice: one operation does not count it twice
            batches.add_(1)
        self._due[batches] = None

    def __enter__(self) -> None:
        pass

    def __exit__(self, *error: Any) -> None:
        due, self._due = list(self._due), {}
        if due:
            try:
                torch._foreach_add_(due, 1)
            except RuntimeError:  # vmap has no rule for it, and early versions only kernels for CPU and CUDA
                for batches in due:
                    batches.add_(1)


def running(layer: nn.Module, counters: Counters) -> Callable[[Any], Any]:
    """What does as ``layer(value)`` does."""
    if is_plain(layer, nn.Conv2d):
        if overruns(layer):  # type: ignore[arg-type]
            return lambda value: unstrided(value, layer.weight, layer.bias, layer.stride)  # type: ignore[arg-type]
        if is_sparse(layer):  # type: ignore[arg-type]
            return partial(undilated, layer)  # type: ignore[arg-type]
    if not _is_function(layer):
        return layer
    if is_plain(layer, nn.ReLU):
        return lambda value: nn.functional.relu(value)
    if is_plain(layer, nn.Conv2d) and layer.padding_mode == 'zeros' and {'weight', 'bias'} <= set(layer._parameters):
        parameters: Any = layer._parameters  # a parametrized weight, which is computed whenever it is read, is not among them
        settings: Any = (layer.stride, layer.padding, layer.dilation, layer.groups)
        return lambda value: nn.functional.conv2d(value, parameters['weight'], parameters['bias'], *settings)
    if is_one_of(layer, NORMS):
        return normalizing(layer, counters)
    return layer


def _is_function(layer: nn.Module) -> bool:
    """Whether parameters and buffers are where modules have them, and no hook or compiler waits for the call."""
    names = [*layer._parameters, *layer._buffers]
    has_hooks = any(hooks for name, hooks in vars(of_all_modules).items()
                    if name.startswith('_global_') and name.endswith('_hooks'))
    kind: Any = type(layer)  # that of functional_call in PyTorch 1.12 has a way of its own to look parameters up
    looks_up = kind.__getattribute__ is not object.__getattribute__ or kind.__getattr__ is not nn.Module.__getattr__
    computing = [getattr(kind, name).__module__ for name in ('__call__', *COMPUTE) if hasattr(kind, name)]
    is_pytorchs = all(module.startswith('torch.nn.modules.') for module in computing)  # and nobody has replaced it in the class
    return is_pytorchs and not (has_hooks or looks_up or vars(layer).get('_compiled_call_impl')
                                or any(hasattr(kind, name) for name in names))


def normalizing(norm: nn.Module, counters: Counters) -> Callable[..., Any]:
    """A function of a value, and of a scale of shape ``(channels,)`` in place of the norm's own, default None. It leaves counting
    batches to ``counters``."""
    parameters, buffers = norm._parameters, norm._buffers
    dimensions = next(dimensions for kind, dimensions in DIMENSIONS.items() if isinstance(norm, kind))
    training, tracks = norm.training, norm.track_running_stats
    momentum: Any = norm.momentum
    eps: Any = norm.eps
    is_function = (_is_function(norm) and momentum is not None and {'weight', 'bias'} <= set(parameters)
                   and {'running_mean', 'running_var', 'num_batches_tracked'} <= set(buffers))

    def run(value: Any, scale: Optional[Tensor] = None) -> Any:
        if not (is_function and type(value) is Tensor and value.dim() in dimensions and value.shape[0] > 1):
            return norm(value) if scale is None else _with_scale(norm, value, scale)
        mean, variance = buffers['running_mean'], buffers['running_var']
        by_batch = training or (mean is None and variance is None)
        if training and tracks:
            batches = buffers['num_batches_tracked']
            if batches is not None:
                counters.add(batches)
        elif training:
            mean = variance = None
        return torch.batch_norm(value, parameters['weight'] if scale is None else scale, parameters['bias'], mean, variance,
                                by_batch, momentum, eps, torch.backends.cudnn.enabled)
    return run


def _with_scale(norm: nn.Module, value: Any, scale: Tensor) -> Any:
    norm._parameters['weight'] = scale  # type: ignore[assignment]
    try:
        return norm(value)
    finally:
        norm._parameters['weight'] = None
