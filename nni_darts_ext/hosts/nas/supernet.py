"""What the strategy adds to a model space."""

from __future__ import annotations

from typing import Any, Dict, Iterable, Iterator, List

from nni.nas.nn.pytorch import Cell, InputChoice, LayerChoice
from nni.nas.oneshot.pytorch.supermodule.base import BaseSuperNetModule
from nni.nas.oneshot.pytorch.supermodule.differentiable import DifferentiableMixedCell, DifferentiableMixedInput
from torch import nn

from ...core.space import refuse_nested
from ..oneshot.oneshot_search import ZERO_OP, FedInputs, OneShotSearch
from ..oneshot.options import Options
from .choices import describe


class Supernet(OneShotSearch, BaseSuperNetModule):
    """The search of a model space, with the methods that NNI calls on the modules of a supernet."""

    _keeps_n_chosen = True  # NNI refuses to freeze other samples

    def __init__(self, options: Options) -> None:
        super().__init__(options)
        self._taken: Dict[str, nn.Module] = {}
        self._cells: List[str] = []

    def take_up(self, module: nn.Module, name: str, memo: Dict[str, Any], mutate_kwargs: Dict[str, Any]) -> Any:
        """The mutation hook: takes all LayerChoices and InputChoices, except for the inputs of NNI's Cell."""
        if isinstance(module, Cell):
            self._cells.append(name)
        in_cell = any(name.startswith(f'{cell}.') for cell in self._cells)
        if isinstance(module, BaseSuperNetModule) or not isinstance(module, (LayerChoice, InputChoice)):
            return False
        if isinstance(module, InputChoice) and in_cell:
            return False
        refuse_nested(name, self._taken)
        mixed = MixedInput.instead_of(module, name, memo, mutate_kwargs) if isinstance(module, InputChoice) else None
        self._taken[name] = mixed or module
        return mixed or True

    def close(self, model: nn.Module, labels: Iterable[str]) -> None:
        """Relax the choices that :meth:`take_up` has found. ``labels`` are all labels of the model space."""
        self.take(model, {module: describe(name, module) for name, module in self._taken.items()}, labels)
        self._taken = {}

    def arch_parameters(self) -> Iterator[nn.Parameter]:
        yield from self.choices.parameters()
        yield from self.methods.parameters()

    def resample(self, memo: Dict[str, Any]) -> Dict[str, Any]:
        return {}

    def export(self, memo: Dict[str, Any]) -> Dict[str, Any]:
        return {label: choice for label, choice in self.architecture('sample').items() if label not in memo}

    def export_probs(self, memo: Dict[str, Any]) -> Dict[str, Any]:
        return {label: of_edge for label, of_edge in self.numbers().items() if label not in memo}

    def freeze(self, sample: Dict[str, Any]) -> None:
        """The frozen network contains nothing of the search."""
        return None


class MixedInput(FedInputs, DifferentiableMixedInput):
    """An InputChoice that does not name its sources."""


class MixedCell(DifferentiableMixedCell):
    """NNI's cell, whose edges have a zero op, with the probability of the zero op also logged."""

    def export_probs(self, memo: Dict[str, Any]) -> Dict[str, Any]:
        names = [*self.op_names, ZERO_OP]
        return {label: dict(zip(names, self._softmax(alpha).tolist()))
                for label, alpha in self._arch_alpha.items() if label not in memo}
