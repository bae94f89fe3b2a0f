"""NNI 2.0 - 2.10, ``nni.retiarii.nn.pytorch``: choices carry labels, and nothing in them runs a search."""

from __future__ import annotations

import contextlib
import inspect
from collections import OrderedDict
from typing import Any, Dict, Iterator, List, Mapping, Optional, Sequence, Tuple, Type, Union

import nni.retiarii.nn.pytorch as retiarii
from nni.retiarii.nn.pytorch import InputChoice, LayerChoice
from torch import nn

from ..core.nested import parts_of
from ..core.space import NO_KEY, Choice, InputNode, SearchSpace, edge_of, find_modules
from ..errors import SearchSpaceError
from ..loop.mutator import InPlaceMutator
from . import refuse_foreign

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
    refuse_foreign(model, (LayerChoice, InputChoice), 'retiarii')
    for what, of_kind in other_choices(model):
        other_way = (", or use the strategy nni_darts_ext.DARTS of NNI 2.8 - 2.10 to search and NNI's fixed_arch to apply what "
                     'was found') if of_kind in SEARCHED_BY_STRATEGIES else ''
        raise SearchSpaceError(f'{what} is a choice that DARTS does not search here: a model may have LayerChoice and '
                               f'InputChoice alone. Fix its value{other_way}.')
    choices = {module: describe(path, module) for path, module in find_modules(model, (LayerChoice, InputChoice))}
    return SearchSpace(choices.values(), choose_from=choose_from), choices


def _kinds(*names: str) -> Tuple[Type[Any], ...]:
    """Those of NNI's classes that the installed version has."""
    return tuple(getattr(retiarii, name) for name in names if hasattr(retiarii, name))


VALUES = _kinds('ValueChoice', 'ChoiceOf')
"""Choices of values; what is computed from them is one, too."""
OTHERS = VALUES + _kinds('Repeat', 'NasBench101Cell', 'Placeholder')
ARGUMENT, PARAMETER = 'argument', 'parameter'
SEARCHED_BY_STRATEGIES = (ARGUMENT, *_kinds('Repeat'))


def other_choices(model: nn.Module) -> Iterator[Tuple[str, Any]]:
    """What NNI can choose in a model beside LayerChoices and InputChoices.

    Yields
    ------
    tuple of str and Any
        The choice in words, and its kind: one of :data:`OTHERS`, a module; :data:`ARGUMENT`, a choice of values that a module was
        given, which runs with the first of them; :data:`PARAMETER`, one that a model chooses for itself.
    """
    for path, module in model.named_modules():
        its = f'{type(module).__name__} at {path!r}'
        for kind in OTHERS:
            if isinstance(module, kind):
                yield its, kind
                break
        for name, value in _arguments(module):
            if _holds_choice(value):
                yield f'{value!r} for {name} of {its}', ARGUMENT
        for parameter in getattr(getattr(module, '_model_namespace', None), 'parameter_specs', ()):
            yield f'ModelParameterChoice {parameter.name!r} of {its}', PARAMETER


def _arguments(module: nn.Module) -> Iterator[Tuple[Any, Any]]:
    """What NNI remembers that a module was made with, by name or place; up to 2.5 it remembers it elsewhere."""
    yield from getattr(module, '_init_parameters', {}).items()
    yield from enumerate(getattr(module, 'trace_args', ()))
    yield from getattr(module, 'trace_kwargs', {}).items()


def _holds_choice(value: Any) -> bool:
    return isinstance(value, VALUES) or any(_holds_choice(part) for part in (parts_of(value) or {}).values())


def describe(path: str, module: Any) -> Choice:
    if isinstance(module, LayerChoice):
        return edge_of(module, module.label, getattr(module, 'names', module._modules), path)
    sources = getattr(module, 'choose_from', [NO_KEY] * module.n_candidates)
    return InputNode(module.label, tuple(sources), module.n_chosen, path, module.reduction)


class DartsMutator(InPlaceMutator):
    __doc__ = InPlaceMutator.__doc__
    read_space = staticmethod(read_space)
