"""How the candidates of a LayerChoice run: found out once, and again when something about them has changed."""

from __future__ import annotations

from typing import Any, Callable, Hashable, List, NamedTuple, Optional, Sequence, Tuple

from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from .calls import Counters, normalizing, running
from .layers import CONVOLUTIONS, NORMS, begins_in_place, copied, is_one_of, is_plain, layers_of, parts_of
from .saved_tensors import is_cheap
from .sharing import KINDS, POOLINGS, SharedWork, settings_of

COMPARED = (nn.Sequential, *CONVOLUTIONS, *NORMS, *KINDS)
"""Modules of which, if plain, all attributes are compared. Of others only the type and ``inplace`` are."""


class Step(NamedTuple):
    """A layer in a candidate."""

    layer: Any
    run: Callable[[Any], Any]
    """``layer(value)``, with fewer calls where the layer is plain."""
    is_cheap: bool
    """Whether a norm follows that would save the output for the backward pass, where it can be computed again instead."""


class Plan:
    """What does not change from pass to pass about the candidates of a LayerChoice, which are given in their order."""

    def __init__(self, candidates: Sequence[nn.Module]) -> None:
        self.candidates = list(candidates)
        self._next_hook = RemovableHandle.next_id
        parts = [part for candidate in candidates for part in parts_of(candidate)]
        compared = [part for part in parts if is_one_of(part, COMPARED)]
        self._parts, self._types = parts, list(map(type, parts))
        self._others = [vars(part) for part in parts if part not in compared]
        self._in_place = [attributes.get('inplace') for attributes in self._others]
        self._attributes = [*map(vars, compared), *(part._modules for part in compared if isinstance(part, nn.Sequential))]
        self._values = [tuple(attributes.values()) for attributes in self._attributes]
        self.counters = Counters()
        self.chains = [Chain(candidate, self.counters) for candidate in candidates]

    def is_of(self, candidates: Sequence[nn.Module]) -> bool:
        """Whether these are still the candidates, and since then nothing was set in them and no hook was registered."""
        try:
            return (RemovableHandle.next_id == self._next_hook and self.candidates == candidates
                    and self._types == list(map(type, self._parts))
                    and self._values == [tuple(attributes.values()) for attributes in self._attributes]
                    and self._in_place == [attributes.get('inplace') for attributes in self._others])
        except Exception:  # of what cannot be compared, and so is another
            return False


class Chain:
    """A candidate as the layers that it is made of."""

    def __init__(self, candidate: nn.Module, counters: Counters) -> None:
        self.candidate = candidate
        self.layers = layers_of(candidate)
        self._clones = begins_in_place(self.layers)
        self._shared = _shared_settings(self.layers)
        self._all_steps = [
            Step(layer, running(layer, counters), after is not None and is_one_of(after, NORMS) and is_cheap(layer))
            for layer, after in zip(self.layers, [*self.layers[1:], None])]
        self._other_steps = self._all_steps[1:]
        self._norm = self.layers[-1] if self.layers and is_one_of(self.layers[-1], NORMS) else None
        self.normalize: Any = None if self._norm is None else normalizing(self._norm, counters)
        """Runs the norm at its end with another scale; None where there is none."""

    def start(self, value: Any, shared: SharedWork) -> Tuple[Any, List[Step]]:
        """The value and the steps that are left after the work that is shared. A value that a layer would overwrite is cloned, as
        others read it too; lists and dicts are copied."""
        if not isinstance(value, Tensor):
            return copied(value), self._all_steps
        if self._clones:
            return value.clone(), self._all_steps
        if self._shared is not None and type(value) is Tensor:
            return shared.run(self.layers[0], value, self._shared), self._other_steps
        return value, self._all_steps

    def takes_scale(self) -> bool:
        """Whether the last layer is a plain norm without scale and shift of its own."""
        return self._norm is not None and self._norm._parameters.get('weight', 'elsewhere') is None


def _shared_settings(layers: List[nn.Module]) -> Optional[Hashable]:
    """The settings by which the first layer is shared: of a ReLU or pooling whose output nothing overwrites, because a
    convolution, a norm or nothing follows. Else None."""
    if not layers:
        return None
    first, second = layers[0], layers[1] if len(layers) > 1 else None
    if is_plain(first, nn.ReLU):
        return settings_of(first) if isinstance(second, CONVOLUTIONS) else None
    begins_alike = is_one_of(first, POOLINGS) and not getattr(first, 'return_indices', False) and (
        second is None or isinstance(second, (*CONVOLUTIONS, *NORMS)))
    return settings_of(first) if begins_alike else None
