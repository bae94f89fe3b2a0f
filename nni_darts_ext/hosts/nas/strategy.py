"""The strategy for NasExperiment."""

from __future__ import annotations

from typing import Any, Callable, Iterable, List, Mapping, Optional, Sequence, Tuple, Union

import torch
from nni.nas.evaluator.pytorch import Lightning
from nni.nas.nn.pytorch import ModelSpace
from nni.nas.oneshot.pytorch.strategy import DARTS as NniDARTS

from ...core import files
from ...core.edge.compilation import Compile
from ...core.edge.memory_format import lay_out
from ...core.space import SearchSpace
from ...errors import EvaluatorError
from ...loop.arguments import known_keywords
from ...loop.data import check_batches
from ...methods import Method
from ..oneshot.interface import DOCUMENTATION, StrategyInterface
from ..oneshot.options import Options
from .module import DartsModule
from .supernet import MixedCell, Supernet


class DARTS(StrategyInterface, NniDARTS):
    __doc__ = DOCUMENTATION.format(
        host="DARTS as a strategy of ``NasExperiment``: NNI's own, with zero op and edge strengths.",
        resume="``Lightning(..., fit_kwargs={'ckpt_path': file})``",
        nnis="""
    log_prob_every_n_step, warmup_epochs, penalty
        As in NNI: the number of steps between logged probabilities, the number of first epochs that train only the weights, and
        a penalty on the expected cost of the architecture. Default 10, 0 and none.

    NNI can freeze only samples in which each InputChoice keeps exactly ``n_chosen`` inputs. With ``zero_op_wins``, the strongest
    edges are therefore kept where too few would be left, even if the zero op has won them.""")

    @known_keywords
    def __init__(self, *, arc_learning_rate: float = 3e-4, unrolled: Union[bool, str] = False,
                 methods: Union[str, Iterable[Method]] = (), zero_op_wins: bool = False,
                 choose_from: Optional[Mapping[str, Sequence[str]]] = None, arc_betas: Tuple[float, float] = (0.5, 0.999),
                 arc_weight_decay: float = 1e-3, channels_last: bool = False,
                 recompute: bool = False, compile: Compile = False, run_dir: Optional[files.Path] = None,
                 progress: Optional[bool] = None, mutation_hooks: Optional[List[Any]] = None,
                 gradient_clip_val: Optional[float] = None, log_prob_every_n_step: int = 10, warmup_epochs: int = 0,
                 penalty: Any = None) -> None:
        self._options = Options.among(locals())
        super().__init__(arc_learning_rate=arc_learning_rate, gradient_clip_val=gradient_clip_val, penalty=penalty,
                         log_prob_every_n_step=log_prob_every_n_step, warmup_epochs=warmup_epochs,
                         **({} if mutation_hooks is None else {'mutation_hooks': mutation_hooks}))
        self._supernet = Supernet(self._options)

    @property
    def search(self) -> Supernet:
        return self._supernet

    def default_mutation_hooks(self) -> List[Any]:
        return [self._supernet.take_up, MixedCell.mutate, *super().default_mutation_hooks()]

    def mutate_model(self, model: ModelSpace) -> ModelSpace:
        """Turn a model space into the supernet, in place. Raises :class:`SearchSpaceError` if DARTS cannot search the model, see
        :class:`nni_darts_ext.core.space.SearchSpace`."""
        labels = list(model.simplify())
        if not labels:
            SearchSpace([])  # raises the error for a model without choices
        self._supernet = Supernet(self._options)
        with torch.random.fork_rng(devices=[]):  # so that a seed gives the same logits as with DartsMutator
            super().mutate_model(model)
        self._supernet.close(model, labels)
        model.add_module('_darts', self._supernet)
        if self._options.channels_last:
            lay_out(model)
        return model

    def train_dataloader(self, train_dataloader_fn: Callable[[], Any], val_dataloader_fn: Callable[[], Any]) -> Any:
        training, validation = train_dataloader_fn(), val_dataloader_fn()
        check_batches(training, 'weights')
        check_batches(validation, 'logits')
        return super().train_dataloader(lambda: training, lambda: validation)

    def configure_oneshot_module(self, training_module: Any) -> DartsModule:
        module = DartsModule(
            training_module, arc_learning_rate=self.arc_learning_rate, gradient_clip_val=self.gradient_clip_val,
            log_prob_every_n_step=self.log_prob_every_n_step, warmup_epochs=self.warmup_epochs, penalty=self.penalty)
        module.options = self._options
        return module

    def _initialize(self, model_space: Any, engine: Any) -> Any:
        evaluator = getattr(model_space, 'evaluator', None)
        if not isinstance(evaluator, Lightning):
            raise EvaluatorError(
                f'DARTS needs a Lightning evaluator, but found {type(evaluator).__name__}. Use Classification or Regression of '
                'nni.nas.evaluator.pytorch, or wrap your own LightningModule in its Lightning.')
        return super()._initialize(model_space, engine)
