"""Work that candidates have in common: the ReLU and the pooling that they begin with, done once for each input.

In the paper's space all convolutions of an edge begin with a ReLU, and a state of a cell goes into several edges, each of which
rectifies and pools it alike.
"""

from __future__ import annotations

import weakref
from typing import Any, Hashable, MutableMapping, Optional

import torch
from torch import Tensor, nn

POOLINGS = (nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d, nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d)
KINDS = (nn.ReLU, *POOLINGS)


class SharedWork:
    """Outputs of layers without parameters or state. They are referenced weakly, so that they live no longer than without it.

    While gradients are recorded, the graph keeps them for the following layers, and therefore for the edges to come. Without a
    graph they are freed at once and computed again.
    """

    def __init__(self) -> None:
        self._kept: MutableMapping[Hashable, Tensor] = weakref.WeakValueDictionary()

    def run(self, layer: nn.Module, value: Tensor, settings: Optional[Hashable] = None) -> Tensor:
        """``layer(value)``, or what it gave when a layer like it was last given this very tensor. ``layer`` is plainly one of
        ``KINDS``, and ``settings`` what :func:`settings_of` gives for it, default: found out here."""
        if (value.is_leaf and value.requires_grad) or value.is_inference() or torch.is_inference_mode_enabled():
            return layer(value)  # to be used once: two passes over a leaf have graphs of their own, each freed alone
        key = (weakref.ref(value), value._version, torch.is_grad_enabled(), torch.is_autocast_enabled(),
               settings or settings_of(layer))
        output = self._kept.get(key)
        if output is None or output._version:  # new outputs have version 0; this one was written over
            self._kept[key] = output = layer(value)
        return output

    def __reduce__(self) -> Any:
        """Copies and pickles start empty."""
        return SharedWork, ()


def settings_of(layer: nn.Module) -> Hashable:
    """Equal for those of ``KINDS`` that give the same. What hosts add to them does not matter."""
    kind = next(kind for kind in KINDS if isinstance(layer, kind))
    settings = [getattr(layer, name) for name in kind.__constants__]
    return (kind, *(tuple(setting) if isinstance(setting, list) else setting for setting in settings))
