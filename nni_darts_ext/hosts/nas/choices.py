"""NNI's own LayerChoice and InputChoice: built, described, and searched by a mutator."""

from __future__ import annotations

from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple, Union

from nni.mutable.utils import auto_label
from nni.nas.nn.pytorch import InputChoice, LayerChoice, ModelSpace, MutableModule
from nni.nas.space import current_model
from torch import nn

from ...core.space import NO_KEY, Choice, InputNode, SearchSpace, edge_of, find_modules
from ...errors import SearchSpaceError
from ...loop.mutator import InPlaceMutator

__all__ = ['DartsMutator', 'LayerChoice', 'ModelSpace', 'describe', 'input_choice', 'layer_choice', 'read_space']


def layer_choice(candidates: Union[Sequence[nn.Module], Dict[str, nn.Module]], key: Optional[str], **kwargs: Any) -> nn.Module:
    return LayerChoice(candidates if isinstance(candidates, dict) else list(candidates), label=key, **kwargs)


def input_choice(choose_from: List[str], n_chosen: Optional[int], reduction: str, key: Optional[str], **kwargs: Any) -> nn.Module:
    # NNI may prefix a key with the name of the current scope: sources get the labels that LayerChoices of these keys have here.
    sources = [auto_label(source) if source != NO_KEY else NO_KEY for source in choose_from]
    module = InputChoice(len(choose_from), n_chosen=n_chosen, reduction=reduction, label=key, **kwargs)
    if current_model() is None:  # else NNI has built the module for the chosen inputs instead
        module.choose_from = sources
    return module


def describe(path: str, module: Any) -> Choice:
    if isinstance(module, LayerChoice):
        return edge_of(module, module.label, module.names, path)
    sources = getattr(module, 'choose_from', [NO_KEY] * module.n_candidates)
    reduction = module.reduction if isinstance(module, InputChoice) else module.how
    return InputNode(module.label, tuple(sources), module.n_chosen, path, reduction)


def read_space(model: nn.Module, choose_from: Optional[Mapping[str, Sequence[str]]] = None) \
        -> Tuple[SearchSpace, Dict[nn.Module, Choice]]:
    """The search space of a model, and the description of each module that is a choice. Raises :class:`SearchSpaceError` if the
    model has a choice that is neither a LayerChoice nor an InputChoice."""
    for path, module in model.named_modules():
        if isinstance(module, MutableModule) and module.mutables and not isinstance(module, (LayerChoice, InputChoice)):
            raise SearchSpaceError(
                f'{type(module).__name__} at {path!r} has choices of its own, but only LayerChoice and InputChoice can be '
                "searched here. Search with the strategy nni_darts_ext.DARTS instead, and apply the result with NNI's freeze or "
                'model_context.')
    choices = {module: describe(path, module) for path, module in find_modules(model, (LayerChoice, InputChoice))}
    return SearchSpace(choices.values(), choose_from=choose_from), choices


class DartsMutator(InPlaceMutator):
    __doc__ = InPlaceMutator.__doc__
    read_space = staticmethod(read_space)
