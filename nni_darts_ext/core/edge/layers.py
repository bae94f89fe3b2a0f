"""A candidate as the layers that it is made of, and how a single one runs."""

from __future__ import annotations

from typing import Any, Iterable, List, Tuple, Type

from torch import nn

from ..nested import map_tensors
from .convolutions import is_sparse, overruns, undilated, unstrided
from .sharing import KINDS

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)  # they do not overwrite their input
NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
MAKERS = (*CONVOLUTIONS, *NORMS, *KINDS, nn.Linear)
"""Their output is a new tensor."""
COMPUTE = ('forward', '_conv_forward')
"""The methods by which layers compute; subclasses override one of them."""


def parts_of(candidate: nn.Module) -> List[nn.Module]:
    """The candidate and, if it is a plain Sequential, the parts of its modules."""
    modules = candidate._modules.values() if is_plain(candidate, nn.Sequential) else ()
    return [candidate, *(part for module in modules if module is not None for part in parts_of(module))]


def layers_of(candidate: nn.Module) -> List[nn.Module]:
    """The layers of a plain Sequential, and of plain Sequentials in it; any other candidate is a layer itself."""
    return [part for part in parts_of(candidate) if not is_plain(part, nn.Sequential)]


def is_plain(module: nn.Module, kind: Any) -> bool:
    """Whether calling a module does what its kind does, and nothing else."""
    attributes = vars(module)
    return (isinstance(module, kind)
            and all(getattr(type(module), name, None) is getattr(kind, name, None) and name not in attributes for name in COMPUTE)
            and type(module).__call__ is nn.Module.__call__ and not attributes.get('inplace')
            and not (attributes.get('_forward_hooks') or attributes.get('_forward_pre_hooks')
                     or attributes.get('_backward_hooks') or attributes.get('_backward_pre_hooks')))


def is_one_of(module: nn.Module, kinds: Tuple[Type[nn.Module], ...]) -> bool:
    """Whether a module is plainly of one of these kinds."""
    return isinstance(module, kinds) and any(is_plain(module, kind) for kind in kinds)


def copied(structure: Any) -> Any:
    """A copy of a structure with the same tensors, into which others may be put."""
    return map_tensors(lambda tensor: tensor, structure)


def begins_in_place(layers: Iterable[nn.Module]) -> bool:
    """Whether a layer would overwrite the input, directly or after layers that may return their input itself."""
    for layer in layers:
        if vars(layer).get('inplace'):
            return True
        if isinstance(layer, MAKERS):
            return False
    return False


def run(layer: nn.Module, value: Any) -> Any:
    """``layer(value)``."""
    if isinstance(layer, nn.Conv2d) and (overruns(layer) or is_sparse(layer)) and is_plain(layer, nn.Conv2d):
        if overruns(layer):
            return unstrided(value, layer.weight, layer.bias, layer.stride)
        return undilated(layer, value)
    return layer(value)
