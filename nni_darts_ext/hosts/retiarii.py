"""NNI 2.0 - 2.10, ``nni.retiarii.nn.pytorch``: choices have labels, and call no mutator when they run."""

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
    from nni.retiarii.oneshot.interface import BaseOneShotTrainer as Trainer  # a base of nni_darts_ext.DartsTrainer
except ImportError:
    # The experiment of NNI 2.0 takes only NNI's own trainers, whose import needs a compatible torchvision.
    with contextlib.suppress(Exception):
        from nni.retiarii.trainer.pytorch import DartsTrainer as Trainer  # noqa: F401

__all__ = ['DartsMutator', 'LayerChoice', 'ModelSpace', 'input_choice', 'layer_choice', 'read_space']

ModelSpace = nn.Module

# NNI 2.0 has key instead of label, and candidates in lists only.
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
    if isinstance(module, InputChoice):  # under fixed_arch NNI builds the module for the chosen inputs instead
        module.choose_from = choose_from
    return module


def read_space(model: nn.Module, choose_from: Optional[Mapping[str, Sequence[str]]] = None) \
        -> Tuple[SearchSpace, Dict[nn.Module, Choice]]:
    """The search space of a model, and the description of each module that is a choice. Raises :class:`SearchSpaceError` if the
    model has a choice that is neither a LayerChoice nor an InputChoice."""
    refuse_foreign(model, (LayerChoice, InputChoice), 'retiarii')
    for what, of_kind in other_choices(model):
        other_way = (", or search with the strategy nni_darts_ext.DARTS on NNI 2.8 - 2.10 and apply the result with NNI's "
                     'fixed_arch') if of_kind in SEARCHED_BY_STRATEGIES else ''
        raise SearchSpaceError(f'{what} is a choice that cannot be searched here: only LayerChoice and InputChoice can. Fix its '
                               f'value{other_way}.')
    choices = {module: describe(path, module) for path, module in find_modules(model, (LayerChoice, InputChoice))}
    return SearchSpace(choices.values(), choose_from=choose_from), choices


def _kinds(*names: str) -> Tuple[Type[Any], ...]:
    """Those of these classes of NNI that the installed version has."""
    return tuple(getattr(retiarii, name) for name in names if hasattr(retiarii, name))


VALUES = _kinds('ValueChoice', 'ChoiceOf')
"""Choices of values. An expression of a choice of values is one as well."""
OTHERS = VALUES + _kinds('Repeat', 'NasBench101Cell', 'Placeholder')
ARGUMENT, PARAMETER = 'argument', 'parameter'
SEARCHED_BY_STRATEGIES = (ARGUMENT, *_kinds('Repeat'))


def other_choices(model: nn.Module) -> Iterator[Tuple[str, Any]]:
    """The choices of a model other than LayerChoices and InputChoices: a description for messages, and the kind. That is a class
    of :data:`OTHERS` for a module; :data:`ARGUMENT` for a choice of values as an argument of a module, which runs with the first
    value; :data:`PARAMETER` for a ``ModelParameterChoice``."""
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
    """The arguments of a module's constructor, by name or position. Up to 2.5 NNI records them in ``_init_parameters``."""
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
