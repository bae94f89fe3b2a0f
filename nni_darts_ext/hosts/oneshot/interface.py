"""The methods and the documentation that the one-shot strategies of all hosts share."""

from __future__ import annotations

from typing import Any, Dict, List, Tuple

from ...core.logits import Logits
from ...core.ranking import RankedArchitecture
from ...core.space import Name
from ...loop.arguments import SHARED
from .oneshot_search import OneShotSearch
from .options import Options

DOCUMENTATION = """{host}

    Each LayerChoice gets n + 1 logits, the last one for the zero op. An InputChoice whose inputs come from LayerChoices has no
    logits: during the search it reduces all its inputs, and in the end it keeps the ``n_chosen`` inputs whose edges are
    strongest. Which LayerChoice an input comes from is taken from :func:`nni_darts_ext.nn.InputChoice`, or else found in the
    first forward pass. Other InputChoices, Cell, Repeat and value choices work as in NNI's strategy.

    The evaluator's ``training_step`` computes the losses of both steps; in the second order it is called more than once per
    batch. Only the passes of the weight step log, and only they update metrics of ``torchmetrics``.

    Lightning's own checkpoints, such as those of ``ModelCheckpoint(save_top_k=-1, every_n_epochs=1)`` among the callbacks of the
    evaluator's ``Trainer``, contain all that a search needs to resume: weights, logits, cuts, both optimisers, schedulers, the
    epoch and the random states. A new experiment with the same model, evaluator and strategy resumes from a checkpoint with
    {resume}. If the checkpoint was written at the end of an epoch, the result is that of a search without interruption, on a CPU
    bit for bit, unless data sets, loaders or their persistent workers have random states of their own.

    Parameters
    ----------
    """ + SHARED.format(progress="as set in the evaluator's ``Trainer``") + """
    mutation_hooks
        As in NNI: functions that mutate modules of further kinds. Default: none.
    gradient_clip_val
        As in NNI: the norm that the gradient of the weights is clipped to. Default: no clipping.{nnis}

    Attributes
    ----------
    search : Search
        The edges, inputs and logits of the model, once the experiment has mutated it.
    choices : Logits
        From the label of each LayerChoice to its logits.
    choose_from : dict
        For each InputChoice the labels of the LayerChoices that its candidates come from, as named or as found.

    Raises
    ------
    ArgumentError
        A keyword is unknown.
    TrainingError
        ``unrolled`` has another value; ``compile``, or ``recompute`` before PyTorch 2.1, is combined with something that needs
        second derivatives.
    MethodError
        A subclass of TrainingError: methods cannot be combined, or do not work in this search.
    """


class StrategyInterface:
    """A mixin for NNI's strategies."""

    _options: Options

    def run(self, *args: Any) -> Any:
        """Called by the experiment. If an error ends the search, its methods are notified."""
        try:
            return super().run(*args)  # type: ignore[misc]
        except BaseException as error:
            self.search.methods.end(error)
            raise

    @property
    def search(self) -> OneShotSearch:
        raise NotImplementedError

    def ranked(self, n: int = 10, form: str = 'classic') -> List[RankedArchitecture]:
        """The most probable architectures, see :meth:`nni_darts_ext.core.search.Search.ranked`.

        They cannot be evaluated here, as the evaluator's loop is Lightning's: run the supernet on data of your own in
        :meth:`strategy.search.fixed() <nni_darts_ext.core.search.Search.fixed>`."""
        return self.search.ranked(n, form)

    def cut(self, key: str, candidate: Name) -> None:
        """See :meth:`nni_darts_ext.core.search.Search.cut`.

        Before the experiment has mutated a model, its candidates are unknown. The cut is then made, or its error raised, when a
        model is mutated, and again for each further model."""
        self._change('cut', key, candidate)

    def restore(self, key: str, candidate: Name) -> None:
        """Undo :meth:`cut`, see :meth:`nni_darts_ext.core.search.Search.restore`."""
        self._change('restore', key, candidate)

    def _change(self, change: str, key: str, candidate: Name) -> None:
        if self.search.is_taken:
            getattr(self.search, change)(key, candidate)
        else:
            self._options.cuts.append((change, key, candidate))

    @property
    def choices(self) -> Logits:
        return self.search.choices

    @property
    def choose_from(self) -> Dict[str, Tuple[str, ...]]:
        return self.search.choose_from
