"""The strategy of NasExperiment."""

from __future__ import annotations

from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple, Union

import torch
from nni.nas.evaluator.pytorch import Lightning
from nni.nas.nn.pytorch import ModelSpace
from nni.nas.oneshot.pytorch.strategy import DARTS as NniDARTS

from ...core.bilevel import choose
from ...core.layout import lay_out
from ...core.logits import Logits
from ...core.space import SearchSpace
from ...errors import EvaluatorError
from .module import DartsModule
from .supernet import MixedCell, Supernet


class DARTS(NniDARTS):
    """DARTS as a strategy of ``NasExperiment``: NNI's own, with zero op and edge strengths.

    Each LayerChoice gets n + 1 logits, the last one for the zero op. Each InputChoice that LayerChoices feed has no logits:
    it reduces all its inputs during the search and keeps the ``n_chosen`` whose edges are strongest. Which LayerChoice
    feeds which input is what :func:`nni_darts_ext.nn.InputChoice` was told, or else what the first forward pass shows.
    An InputChoice that none feeds, Cell, Repeat and value choices work as in NNI's strategy.

    Parameters
    ----------
    zero_op_wins
        See :func:`nni_darts_ext.core.derivation.derive`. Default False. The sample that NNI freezes has no word for an
        edge without a candidate, so here the option only weakens such edges.
    choose_from
        For InputChoices by label the sources of their candidates, where neither of the two above shall count.
    unrolled
        The second order, see :mod:`nni_darts_ext.core.bilevel`: True or ``'exact'`` for the exact gradient through one virtual
        step of the evaluator's optimiser, ``'finite_difference'`` for the paper's approximation of it. Default False, first
        order (source: NNI). The evaluator's ``training_step`` runs for it more than once a batch, on the validation batch at
        the virtual weights; what it logs on the training batch beforehand is not passed on.
    channels_last
        Whether model and images of four dimensions lie in memory with the channels last: the same numbers to rounding, and
        faster for convolutions and poolings on most devices. Default False.
    **kwargs
        Those of NNI's ``DARTS``: ``arc_learning_rate`` (default 3e-4, Adam with betas (0.5, 0.999) and weight decay
        1e-3), ``gradient_clip_val`` (default None), ``log_prob_every_n_step`` (default 10), ``warmup_epochs``
        (default 0), ``penalty`` (default None), ``mutation_hooks`` (default none).

    Attributes
    ----------
    choices : Logits
        From the label of each LayerChoice to its logits, once the model space has been mutated.
    choose_from : dict
        For each InputChoice the labels of the LayerChoices that feed its candidates, named or found out.

    Raises
    ------
    TrainingError
        ``unrolled`` is none of these.
    """

    def __init__(self, *, zero_op_wins: bool = False, choose_from: Optional[Mapping[str, Sequence[str]]] = None,
                 unrolled: Union[bool, str] = False, channels_last: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._unrolled = choose(unrolled)
        self._channels_last = channels_last
        self._named_sources = choose_from
        self._zero_op_wins = zero_op_wins
        self._added = Supernet(zero_op_wins)

    @property
    def choices(self) -> Logits:
        return self._added.choices

    @property
    def choose_from(self) -> Dict[str, Tuple[str, ...]]:
        return dict(self._added.space.sources) if self._added.space else {}

    def default_mutation_hooks(self) -> List[Any]:
        return [self._added.take_up, MixedCell.mutate, *super().default_mutation_hooks()]

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
        self._added = Supernet(self._zero_op_wins)
        with torch.random.fork_rng(devices=[]):  # so that a seed gives the logits that it gives to DartsMutator
            super().mutate_model(model)
        self._added.close(labels, self._named_sources)
        model.add_module('_darts', self._added)
        if self._channels_last:
            lay_out(model)
        return model

    def configure_oneshot_module(self, training_module: Any) -> DartsModule:
        module = DartsModule(
            training_module, arc_learning_rate=self.arc_learning_rate, gradient_clip_val=self.gradient_clip_val,
            log_prob_every_n_step=self.log_prob_every_n_step, warmup_epochs=self.warmup_epochs, penalty=self.penalty)
        module.unrolled, module.channels_last = self._unrolled, self._channels_last
        return module

    def _initialize(self, model_space: Any, engine: Any) -> Any:
        evaluator = getattr(model_space, 'evaluator', None)
        if not isinstance(evaluator, Lightning):
            raise EvaluatorError(
                f'DARTS trains a supernet step by step and needs a Lightning evaluator, found {type(evaluator).__name__}. '
                'Use Classification or Regression of nni.nas.evaluator.pytorch, or wrap a LightningModule of yours in its '
                'Lightning.')
        return super()._initialize(model_space, engine)
