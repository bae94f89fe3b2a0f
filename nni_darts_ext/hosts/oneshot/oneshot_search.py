"""What a one-shot strategy adds to a model: the logits and the relaxation of its edges."""

from __future__ import annotations

import warnings
from typing import Any, Dict, Iterable, List, Mapping

import torch
from torch import Tensor, nn

from ...core.edge.compilation import CompiledMixture
from ...core.logits import Logits
from ...core.relaxation import Relaxation, relax
from ...core.search import Search
from ...core.space import NO_KEY, Choice, SearchSpace
from ...errors import MethodError, SearchSpaceError
from ...loop.steps import of_search
from ...methods import Methods
from .options import Options

ZERO_OP = 'zero_op'
"""The name of the zero op in logged probabilities."""


class OneShotSearch(Search, nn.Module):
    """The edges and inputs of a model that a strategy searches; there are none before :meth:`take`."""

    def __init__(self, options: Options) -> None:
        super().__init__()
        self._options = options
        self.zero_op_wins = options.zero_op_wins
        self.choices = Logits()
        self.space = SearchSpace([], may_lack_edges=True)
        self.is_taken = False
        self.methods = Methods(options.methods)

    def take(self, model: nn.Module, taken: Mapping[nn.Module, Choice], labels: Iterable[str]) -> None:
        """Check the choices, create their logits and relax them.

        Parameters
        ----------
        model
            The model that contains the choices.
        taken
            The choices by module. Modules that are :class:`FedInputs` relax themselves.
        labels
            All labels of the model; ``choose_from`` may name these.

        Raises
        ------
        MethodError
            A method needs edges, and there are none.
        """
        self.is_taken = True
        self.space = SearchSpace(taken.values(), labels, choose_from=self._options.choose_from, may_lack_edges=True)
        self.space.warn_of_narrowing()
        for edge in self.space.edges.values():
            if ZERO_OP in edge.names:
                raise SearchSpaceError(f'LayerChoice {edge.key!r} has a candidate named {ZERO_OP!r}, the name under which the '
                                       'zero op is logged. Give the candidate another name.')
            self.choices.add(edge.key, len(edge.names))
        for change, key, candidate in self._options.cuts:
            getattr(self, change)(key, candidate)
        useless = [method for method in self.methods if method.needs_edges and not self.space.edges]
        if useless:
            raise MethodError(f'{useless[0]!r} would have no effect: the model has no LayerChoice outside of NNI\'s own modules, '
                              'such as Cell, whose edges NNI relaxes. Leave it out.')
        relaxation = Relaxation(self.choices, self.space, self._options.recompute,
                                CompiledMixture(self._options.compile) if self._options.compile else None)
        self.methods.attach(self)
        self._relaxation = relaxation
        self.of_methods = nn.ParameterList(self.methods.parameters())
        self.methods.install(self, relaxation)
        for module, choice in taken.items():
            if isinstance(module, FedInputs):
                module.relaxation = relaxation
            else:
                relax(module, choice, relaxation)
        relaxation.watch(model)

    def start(self) -> Methods:
        """The methods of the search that starts now. Created in the process that searches, as one of them records the run."""
        self.methods = of_search(self._options.methods, True, self._options.run_dir, self._options.settings())
        self.methods.install(self, self._relaxation)
        return self.methods

    def __setstate__(self, state: Dict[str, Any]) -> None:
        super().__setstate__(state)
        self.methods.belong_to(self)

    def get_extra_state(self) -> Dict[str, Any]:
        """What the search has found besides the logits, for a checkpoint and for a process that runs no forward pass."""
        return {'sources': self.sources_found(), 'readers': self.readers_found(), 'selected': self.selected}

    def set_extra_state(self, state: Mapping[str, Any]) -> None:
        self.name_sources(state['sources'])
        self.name_readers(state.get('readers'))
        self.selected = state.get('selected')

    def named_probabilities(self) -> Dict[str, Dict[Any, Tensor]]:
        """For each edge the probabilities of its candidates and of the zero op, by name: differentiable scalars."""
        return {key: dict(zip((*self.space.edges[key].names, ZERO_OP), of_edge.unbind()))
                for key, of_edge in self.choices.all_probabilities().items()}

    def numbers(self) -> Dict[str, Dict[Any, float]]:
        """:meth:`named_probabilities` as plain numbers, copied from the device all at once."""
        probabilities = self.named_probabilities()
        tensors = [p for of_edge in probabilities.values() for p in of_edge.values()]
        numbers = iter(torch.stack(tensors).tolist() if tensors else [])
        return {label: {name: next(numbers) for name in of_edge} for label, of_edge in probabilities.items()}


class FedInputs:
    """A mixin for NNI's own mixed InputChoice. The logits of NNI's class are used only if the first forward pass shows that no
    input comes from a LayerChoice."""

    relaxation: Relaxation
    label: str
    how: str
    """The reduction of the InputChoice. Some hosts have a method of that name."""

    @classmethod
    def instead_of(cls, module: Any, name: str, memo: Dict[str, Any], mutate_kwargs: Dict[str, Any]) -> Any:
        """NNI's mixed InputChoice in place of ``module``; None if that names its sources, or if NNI cannot mix it."""
        named = any(source != NO_KEY for source in getattr(module, 'choose_from', ()))
        if named or module.reduction not in ('sum', 'mean'):
            return None
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')  # about n_chosen, which is corrected below
            try:
                mixed = cls.mutate(module, name, memo, mutate_kwargs)  # type: ignore[attr-defined]
            except ValueError:  # it differs from another one of its label: SearchSpace raises an error that says how
                return None
        if mixed is not None:
            mixed.n_chosen, mixed.how = module.n_chosen, module.reduction
        return mixed

    def forward(self, inputs: List[Any]) -> Any:
        self.relaxation.note(self.label, inputs)
        if self.relaxation.is_fed(self.label) or self.relaxation.decisions is not None:
            return self.relaxation.inputs(self.label, inputs, self.how)
        return super().forward(inputs)  # type: ignore[misc]

    def export(self, memo: Dict[str, Any]) -> Dict[str, Any]:
        return {} if self.relaxation.is_fed(self.label) else super().export(memo)  # type: ignore[misc]

    def export_probs(self, memo: Dict[str, Any]) -> Dict[str, Any]:
        return {} if self.relaxation.is_fed(self.label) else super().export_probs(memo)  # type: ignore[misc]
