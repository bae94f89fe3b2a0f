"""NNI 2.8 - 2.10: one-shot strategies around a Lightning module, for RetiariiExperiment with the oneshot engine."""

from __future__ import annotations

import inspect
from typing import Any, Dict, Iterable, Iterator, List, Mapping, Optional, Sequence, Tuple, Union

import torch
from torch import Tensor, nn

from ..core import files
from ..core.edge.compilation import Compile
from ..core.edge.memory_format import lay_out
from ..core.space import Choice, SearchSpace, refuse_nested
from ..errors import ArgumentError, EvaluatorError, SearchSpaceError
from ..loop.arguments import known_keywords
from ..loop.data import check_batches
from ..methods import Method
from . import refuse_foreign
from .oneshot.bilevel_module import BilevelSteps
from .oneshot.interface import DOCUMENTATION, StrategyInterface
from .oneshot.oneshot_search import FedInputs, OneShotSearch
from .oneshot.options import Options
from .retiarii import SEARCHED_BY_STRATEGIES, VALUES, InputChoice, LayerChoice, describe, other_choices

# NNI's package of strategies must be imported first: it disables its own one-shot strategies if they were imported before it.
try:
    from nni.nas.strategy import DARTS as NniDARTS  # isort: skip
    from nni.nas.evaluator.pytorch.lightning import Lightning
    from nni.nas.nn.pytorch import Cell
    from nni.nas.oneshot.pytorch.base_lightning import BaseSuperNetModule, traverse_and_mutate_submodules
    from nni.nas.oneshot.pytorch.differentiable import DartsLightningModule
    from nni.nas.oneshot.pytorch.strategy import OneShotStrategy
    from nni.nas.oneshot.pytorch.supermodule.differentiable import DifferentiableMixedInput
except ImportError:  # NNI 2.8
    from nni.retiarii.strategy import DARTS as NniDARTS  # isort: skip
    from nni.retiarii.evaluator.pytorch.lightning import Lightning
    from nni.retiarii.nn.pytorch import Cell
    from nni.retiarii.oneshot.pytorch.base_lightning import BaseSuperNetModule, traverse_and_mutate_submodules
    from nni.retiarii.oneshot.pytorch.differentiable import DartsLightningModule
    from nni.retiarii.oneshot.pytorch.strategy import OneShotStrategy
    from nni.retiarii.oneshot.pytorch.supermodule.differentiable import DifferentiableMixedInput

__all__ = ['DARTS', 'DartsModule']

assert callable(traverse_and_mutate_submodules)  # NNI 3.0 does not have it


class MixedInput(FedInputs, DifferentiableMixedInput):
    """An InputChoice that does not name its sources."""


class DartsModule(BilevelSteps, DartsLightningModule):
    """NNI's one-shot module for DARTS with zero op and edge strengths. Only the architecture optimiser holds the logits, in the
    order of the model, and each step computes only the gradients of its own parameters."""

    def __init__(self, inner_module: Any, options: Options, mutation_hooks: Optional[List[Any]] = None, **kwargs: Any) -> None:
        refuse_foreign(inner_module.model, (LayerChoice, InputChoice), 'lightning')
        paths = {module: path for path, module in inner_module.model.named_modules()}
        in_cells = {module for cell in paths if isinstance(cell, Cell) for module in cell.modules()}
        taken: Dict[nn.Module, Choice] = {}
        # The base class traverses the model before modules can be registered.
        self.__dict__.update(_paths=paths, _in_cells=in_cells, _taken=taken)
        with torch.random.fork_rng(devices=[]):  # so that a seed gives the same logits as with DartsMutator
            super().__init__(inner_module, mutation_hooks=mutation_hooks, **kwargs)
        _refuse_what_is_left(inner_module.model)
        if not taken and not self.nas_modules:
            SearchSpace([])  # raises the error for a model without choices
        self.options = options
        if options.channels_last:
            lay_out(inner_module)
        self.search = OneShotSearch(options)
        self.search.take(inner_module.model, taken, [choice.key for choice in taken.values()])

    def default_mutation_hooks(self) -> List[Any]:
        return [self._take_up, *super().default_mutation_hooks()]

    def _take_up(self, module: nn.Module, name: str, memo: Dict[str, Any], mutate_kwargs: Dict[str, Any]) -> Any:
        """The mutation hook: takes all LayerChoices and InputChoices, except for the inputs of NNI's Cell."""
        if isinstance(module, BaseSuperNetModule) or not isinstance(module, (LayerChoice, InputChoice)):
            return False
        if isinstance(module, InputChoice) and module in self._in_cells:
            return False
        path = self._paths.get(module, name)
        refuse_nested(path, [choice.path for choice in self._taken.values()])
        mixed = MixedInput.instead_of(module, name, memo, mutate_kwargs) if isinstance(module, InputChoice) else None
        self._taken[mixed or module] = describe(path, module)
        return mixed or True

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        outputs = self.take_steps(batch, batch_idx)
        if hasattr(self, 'advance_lr_schedulers'):
            self.advance_lr_schedulers(batch_idx)
            with torch.no_grad():
                ours = _flat(self.search.named_probabilities())  # tensors, for which the CPU need not wait
            self.log_dict({f'prob/{name}': p for name, p in {**super().export_probs(), **ours}.items()})
        else:  # NNI 2.8, which does not log probabilities
            self.call_lr_schedulers(batch_idx)
        return outputs

    def inner(self) -> Any:
        return self.model

    def on_train_start(self) -> Any:
        self._counted = self.trainer.global_step  # a search that resumes has counted some
        return super().on_train_start()

    def advance_weights(self, loss: Tensor, batch_idx: int) -> None:
        if hasattr(self, 'advance_optimization'):
            self.advance_optimization(loss, batch_idx, self.gradient_clip_val)
        else:
            self.call_weight_optimizers('zero_grad')
            self.manual_backward(loss)
            self.call_weight_optimizers('step')
        if self.trainer.global_step == self._counted:  # no architecture step: it is counted as if there were one
            optimizer = self.architecture_optimizers()
            optimizer._on_before_step()
            optimizer._on_after_step()
        self._counted = self.trainer.global_step

    _counted = 0
    """The number of steps that Lightning has counted."""

    def arch_parameters(self) -> List[nn.Parameter]:
        nnis = [parameter for module in self.nas_modules for parameter in module.parameters(arch=True)]
        return list(dict.fromkeys([*self.search.choices.parameters(), *self.search.methods.parameters(), *nnis]))

    def architecture_optimizers(self) -> Any:
        """The optimiser as wrapped by Lightning. Lightning counts only the steps of wrapped optimisers, and writes no checkpoint
        if it has counted none."""
        optimizers, own = self.optimizers(), set(self.arch_parameters())
        of_logits = [optimizer for optimizer in (optimizers if isinstance(optimizers, list) else [optimizers])
                     if own.issuperset(p for group in optimizer.param_groups for p in group['params'])]
        return of_logits[0] if of_logits else super().architecture_optimizers()  # a subclass's, which check_holdings refuses

    def configure_optimizers(self) -> Any:
        configured = super().configure_optimizers()
        own = set(self.arch_parameters())
        for optimizer in _optimizers(configured):
            if not own.issuperset(p for group in optimizer.param_groups for p in group['params']):
                for group in optimizer.param_groups:  # the optimiser of the weights, to which NNI also gives its alphas
                    group['params'] = [parameter for parameter in group['params'] if parameter not in own]
        return configured

    def export(self) -> Dict[str, Any]:
        return {**self.search.architecture('sample'), **super().export()}

    def export_probs(self) -> Dict[str, Any]:
        nnis = super().export_probs() if hasattr(DartsLightningModule, 'export_probs') else {}
        return {**nnis, **_flat(self.search.numbers())}


def _refuse_what_is_left(model: nn.Module) -> None:
    """Refuse choices that no hook has taken, which NNI would silently ignore. Raises :class:`SearchSpaceError`, immediately or,
    for a choice of values that it calls, in the first forward pass."""
    for what, kind in other_choices(model):
        if kind not in (*SEARCHED_BY_STRATEGIES, *VALUES):
            raise SearchSpaceError(f'{what} is a choice that no one-shot strategy searches. Fix its value, or give the strategy '
                                   'mutation_hooks that handle it.')
    for module in model.modules():
        if isinstance(module, VALUES):
            module.register_forward_pre_hook(_refuse_called)


def _refuse_called(module: nn.Module, args: Any) -> None:
    raise SearchSpaceError(f'The forward pass calls {module!r}. One-shot strategies search a choice of values only where it is '
                           "an argument of one of NNI's modules. Use it so, or fix its value.")


def _flat(probabilities: Mapping[str, Mapping[Any, Any]]) -> Dict[str, Any]:
    return {f'{label}/{name}': p for label, of_edge in probabilities.items() for name, p in of_edge.items()}


def _optimizers(configured: Any) -> Iterator[torch.optim.Optimizer]:
    """The optimisers in what ``configure_optimizers`` returned, in any form that Lightning allows."""
    if isinstance(configured, torch.optim.Optimizer):
        yield configured
    elif isinstance(configured, (list, tuple)):
        for part in configured:
            yield from _optimizers(part)
    elif isinstance(configured, dict):
        yield from _optimizers(configured.get('optimizer'))


class DARTS(StrategyInterface, NniDARTS):
    __doc__ = DOCUMENTATION.format(
        host="""DARTS as a strategy of ``RetiariiExperiment`` (``config.execution_engine = 'oneshot'``): NNI's own, with zero op
    and edge strengths.""",
        resume="``Trainer(resume_from_checkpoint=file)``", nnis=' From NNI 2.10 on.')

    model: Optional[DartsModule]

    @known_keywords
    def __init__(self, *, arc_learning_rate: float = 3e-4, unrolled: Union[bool, str] = False,
                 methods: Union[str, Iterable[Method]] = (), zero_op_wins: bool = False,
                 choose_from: Optional[Mapping[str, Sequence[str]]] = None, arc_betas: Tuple[float, float] = (0.5, 0.999),
                 arc_weight_decay: float = 1e-3, channels_last: bool = False,
                 recompute: bool = False, compile: Compile = False, run_dir: Optional[files.Path] = None,
                 progress: Optional[bool] = None, mutation_hooks: Optional[List[Any]] = None,
                 gradient_clip_val: Optional[float] = None) -> None:
        self._options = Options.among(locals())
        nnis: Dict[str, Any] = {'arc_learning_rate': arc_learning_rate, 'mutation_hooks': mutation_hooks}
        if gradient_clip_val is not None:
            if 'gradient_clip_val' not in inspect.signature(DartsLightningModule.__init__).parameters:
                raise ArgumentError('gradient_clip_val needs NNI 2.10 or later. The installed NNI does not clip gradients in a '
                                    'one-shot search: leave it out.')
            nnis['gradient_clip_val'] = gradient_clip_val
        OneShotStrategy.__init__(self, DartsModule, options=self._options, **nnis)

    @property
    def search(self) -> OneShotSearch:
        return self.model.search if self.model else OneShotSearch(self._options)

    def preprocess_dataloader(self, train_dataloaders: Any, val_dataloaders: Any) -> Any:
        check_batches(train_dataloaders, 'weights')
        check_batches(val_dataloaders, 'logits')
        return super().preprocess_dataloader(train_dataloaders, val_dataloaders)

    def run(self, base_model: Any, applied_mutators: Any) -> None:
        if not isinstance(base_model.evaluator, Lightning):
            raise EvaluatorError(
                f'DARTS needs a Lightning evaluator, but found {type(base_model.evaluator).__name__}. Use Classification or '
                'Regression of nni.retiarii.evaluator.pytorch, or wrap your own LightningModule in its Lightning.')
        ignored = getattr(base_model.evaluator, 'fit_kwargs', None)
        if ignored:
            raise EvaluatorError(f'The evaluator has fit_kwargs={ignored}, which this NNI ignores in a one-shot search. To '
                                 "resume from a checkpoint, give its file to the evaluator's "
                                 'Trainer(resume_from_checkpoint=...).')
        super().run(base_model, applied_mutators)
