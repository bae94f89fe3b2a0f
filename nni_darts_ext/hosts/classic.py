"""NNI 2.0 - 2.8, ``nni.nas.pytorch``: choices have keys, a Mutator runs them, ``DartsTrainer`` takes the Mutator."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any, Dict, Iterable, List, Mapping, Optional, Sequence, Tuple, Union

from nni.nas.pytorch import mutables
from nni.nas.pytorch.mutables import LayerChoice
from nni.nas.pytorch.mutator import Mutator
from nni.nas.pytorch.trainer import Trainer
from torch import Tensor, nn

from ..core.space import Choice, InputNode, SearchSpace, edge_of, find_modules
from ..loop.mutator import MutatorInterface
from ..methods import Method
from . import refuse_foreign

__all__ = ['DartsMutator', 'LayerChoice', 'ModelSpace', 'Trainer', 'input_choice', 'layer_choice', 'read_space']

ModelSpace = nn.Module


def layer_choice(candidates: Union[Sequence[nn.Module], Dict[str, nn.Module]], key: Optional[str], **kwargs: Any) -> nn.Module:
    named = OrderedDict(candidates) if isinstance(candidates, dict) else list(candidates)
    return LayerChoice(named, key=key, **kwargs)


def input_choice(choose_from: List[str], n_chosen: Optional[int], reduction: str, key: Optional[str], **kwargs: Any) -> nn.Module:
    return mutables.InputChoice(choose_from=choose_from, n_chosen=n_chosen, reduction=reduction, key=key, **kwargs)


class DartsMutator(MutatorInterface, Mutator):
    """DARTS' relaxation and derivation on NNI's classic choices: ``nni.algorithms.nas.pytorch.darts.DartsMutator``
    without its faults.

    NNI's own trainer takes it, ``DartsTrainer(model, ..., mutator=DartsMutator(model))``, and
    ``nni.nas.pytorch.fixed.apply_fixed_architecture`` takes what it exports.

    Parameters
    ----------
    model
        A model with NNI's ``LayerChoice`` and ``InputChoice``. From now on its choices run by this mutator.
    zero_op_wins
        See :func:`nni_darts_ext.core.derivation.derive`. Default False, what NNI does.
    choose_from
        The sources of the candidates of InputChoices, by key; they take precedence over those that the model names. Default: the
        sources that the model names; where it names none, they are found in the first forward pass.
    methods
        Additions to plain DARTS, a list of objects of :mod:`nni_darts_ext.methods` that need no epochs. NNI's own trainer does
        not add regularisers: for methods that have one, use :class:`nni_darts_ext.DartsTrainer`. Default: none.

    Raises
    ------
    SearchSpaceError
        DARTS cannot search the model, see :class:`nni_darts_ext.core.space.SearchSpace`.
    MethodError
        Methods cannot be combined, or need epochs.
    """

    def __init__(self, model: nn.Module, zero_op_wins: bool = False,
                 choose_from: Optional[Mapping[str, Sequence[str]]] = None, methods: Union[str, Iterable[Method]] = ()) -> None:
        space, _ = read_space(model, choose_from)  # before NNI's own checks, whose messages say less
        super().__init__(model)
        self._open(space, zero_op_wins, methods)
        self._relaxation.watch(model, weighs=False)  # NNI's choices use the weights that reset() has computed

    def on_forward_layer_choice(self, mutable: Any, *args: Any, **kwargs: Any) -> Tuple[Any, Tensor]:
        """The mixture of the candidates and, as a mask, their weights. Called by NNI's LayerChoice."""
        if self._connect_all:  # NNI is tracing the graph of the whole supernet
            return super().on_forward_layer_choice(mutable, *args, **kwargs)
        weights = self._get_decision(mutable)
        relaxed = self._as_relaxed(mutable.key, weights)
        return self._relaxation.edge(mutable.key, list(mutable), args, kwargs, mutable.reduction, relaxed, mutable), weights

    def on_forward_input_choice(self, mutable: Any, tensor_list: List[Any]) -> Tuple[Any, Tensor]:
        """All inputs reduced and, as a mask, all true. Called by NNI's InputChoice."""
        if self._connect_all:
            return super().on_forward_input_choice(mutable, tensor_list)
        return self._relaxation.inputs(mutable.key, tensor_list, mutable.reduction), self._get_decision(mutable)


def read_space(model: nn.Module, choose_from: Optional[Mapping[str, Sequence[str]]] = None) \
        -> Tuple[SearchSpace, Dict[nn.Module, Choice]]:
    """The search space of a model, and the description of each module that is a choice."""
    refuse_foreign(model, (mutables.Mutable,), 'classic')
    found = find_modules(model, mutables.Mutable, scopes=mutables.MutableScope)
    other_keys = [module.key for _, module in found if isinstance(module, mutables.MutableScope)]
    choices: Dict[nn.Module, Choice] = {}
    for path, module in found:
        if isinstance(module, LayerChoice):
            choices[module] = edge_of(module, module.key, module.names, path)
        elif isinstance(module, mutables.InputChoice):
            choices[module] = InputNode(module.key, tuple(module.choose_from), module.n_chosen, path, module.reduction)
    return SearchSpace(choices.values(), other_keys, choose_from), choices
