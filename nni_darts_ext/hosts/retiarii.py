"""NNI 2.0 - 2.10, ``nni.retiarii.nn.pytorch``: choices carry labels, and nothing in them runs a search."""

from __future__ import annotations

import contextlib
import inspect
from collections import OrderedDict
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple, Union

import nni.retiarii.nn.pytorch as retiarii
from nni.retiarii.nn.pytorch import InputChoice, LayerChoice
from torch import nn

from ..core.mutator import InPlaceMutator
from ..core.space import NO_KEY, Choice, Edge, InputNode, SearchSpace, find_modules
from ..errors import SearchSpaceError

try:
    from nni.retiarii.oneshot.interface import BaseOneShotTrainer as Trainer  # DartsTrainer looks for it
except ImportError:
    # The first version's experiment takes NNI's own trainers alone, and those need a torchvision that works.
    with contextlib.suppress(Exception):
        from nni.retiarii.trainer.pytorch import DartsTrainer as Trainer  # noqa: F401

__all__ = ['DartsMutator', 'LayerChoice', 'ModelSpace', 'input_choice', 'layer_choice', 'read_space']

ModelSpace = nn.Module

# The first version says key, and knows candidates in lists only.
_FIRST = 'label' not in inspect.signature(LayerChoice.__init__).parameters
_LABEL = 'key' if _FIRST else 'label'


def layer_choice(candidates: Union[Sequence[nn.Module], Dict[str, nn.Module]], key: Optional[str], **kwargs: Any) -> nn.Module:
    modules: Any = OrderedDict(candidates) if isinstance(candidates, dict) else list(candidates)
    if isinstance(modules, list) or not _FIRST:
        return LayerChoice(modules, **{_LABEL: key}, **kwargs)
    module = LayerChoice([], **{_LABEL: key}, **kwargs)
    module.op_candidates = list(modules.values())
    for name, candidate in modules.items():
        module.add_module(name, candidate)
    return module


def input_choice(choose_from: List[str], n_chosen: Optional[int], reduction: str, key: Optional[str], **kwargs: Any) -> nn.Module:
    module = InputChoice(len(choose_from), n_chosen=n_chosen, reduction=reduction, **{_LABEL: key}, **kwargs)
    if isinstance(module, InputChoice):  # under fixed_arch NNI has built the chosen inputs at once
        module.choose_from = choose_from
    return module


def read_space(model: nn.Module, choose_from: Optional[Mapping[str, Sequence[str]]] = None) \
        -> Tuple[SearchSpace, Dict[nn.Module, Choice]]:
    """The search space of a model, and what each of its modules is in it. Every choice of it must be one of the two kinds."""
    others = tuple(getattr(retiarii, name) for name in ('ValueChoice', 'Repeat', 'NasBench101Cell') if hasattr(retiarii, name))
    for path, module in model.named_modules():
        if isinstance(module, others):
            raise SearchSpaceError(f'{type(module).__name__} at {path!r} is a choice that DARTS does not search here: a model '
                                   'may have LayerChoice and InputChoice alone. Fix its value.')
    choices = {module: describe(path, module) for path, module in find_modules(model, (LayerChoice, InputChoice))}
    return SearchSpace(choices.values(), choose_from=choose_from), choices


def describe(path: str, module: Any) -> Choice:
    if isinstance(module, LayerChoice):
        return Edge(module.label, tuple(getattr(module, 'names', module._modules)), path)
    sources = getattr(module, 'choose_from', [NO_KEY] * module.n_candidates)
    return InputNode(module.label, tuple(sources), module.n_chosen, path, module.reduction)


class DartsMutator(InPlaceMutator):
    __doc__ = InPlaceMutator.__doc__
    read_space = staticmethod(read_space)
