"""The strategy of NasExperiment."""

from __future__ import annotations

from typing import Any, Callable, List

import torch
from nni.nas.evaluator.pytorch import Lightning
from nni.nas.nn.pytorch import ModelSpace
from nni.nas.oneshot.pytorch.strategy import DARTS as NniDARTS

from ...core.edge.memory_format import lay_out
from ...core.space import SearchSpace
from ...errors import EvaluatorError
from ...loop.data import check_batches
from ...loop.strategy import DOCUMENTATION, Options, StrategyInterface
from .module import DartsModule
from .supernet import MixedCell, Supernet


class DARTS(StrategyInterface, NniDARTS):
    __doc__ = DOCUMENTATION.format(
        host="DARTS as a strategy of ``NasExperiment``: NNI's own, with zero op and edge strengths.",
        resume="``Lightning(..., fit_kwargs={'ckpt_path': file})``",
        zero_op_wins="""NNI freezes only samples in which an InputChoice keeps ``n_chosen`` inputs, so the strongest edges stay
        that it needs for that, though the zero op has won them.""",
        kwargs="""``arc_learning_rate`` (default 3e-4, Adam with betas (0.5, 0.999) and weight decay 1e-3), ``gradient_clip_val``
        (default None), ``log_prob_every_n_step`` (default 10), ``warmup_epochs`` (default 0), ``penalty`` (default None),
        ``mutation_hooks`` (default none)""")

    def __init__(self, **kwargs: Any) -> None:
        self._options = Options.taken_from(kwargs)
        super().__init__(**kwargs)
        self._supernet = Supernet(self._options)

    @property
    def search(self) -> Supernet:
        return self._supernet

    def default_mutation_hooks(self) -> List[Any]:
        return [self._supernet.take_up, MixedCell.mutate, *super().default_mutation_hooks()]

    def mutate_model(self, model: ModelSpace) -> ModelSpace:
        """Turn a model space into the supernet, in place.

        Raises
        ------
        SearchSpaceError
            The model is no search space for DARTS: see :class:`nni_darts_ext.core.space.SearchSpace`.
        """
        labels = list(model.simplify())
        if not labels:
            SearchSpace([])  # says so
        self._supernet = Supernet(self._options)
        with torch.random.fork_rng(devices=[]):  # so that a seed gives the logits that it gives to DartsMutator
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
                f'DARTS trains a supernet step by step and needs a Lightning evaluator, found {type(evaluator).__name__}. '
                'Use Classification or Regression of nni.nas.evaluator.pytorch, or wrap a LightningModule of yours in its '
                'Lightning.')
        return super()._initialize(model_space, engine)
