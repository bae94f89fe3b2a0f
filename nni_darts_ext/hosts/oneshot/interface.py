"""What a one-shot strategy offers, whichever host it is a strategy of."""

from __future__ import annotations

from typing import Any, Dict, Tuple

from ...core.logits import Logits
from ...core.space import Name
from ...loop.arguments import SHARED
from .oneshot_search import OneShotSearch
from .options import Options

DOCUMENTATION = """{host}

    Each LayerChoice gets n + 1 logits, the last one for the zero op. Each InputChoice that LayerChoices feed has no logits:
    it reduces all its inputs during the search and keeps the ``n_chosen`` whose edges are strongest. Which LayerChoice
    feeds which input is what :func:`nni_darts_ext.nn.InputChoice` was told, or else what the first forward pass shows.
    An InputChoice that none feeds, Cell, Repeat and value choices work as in NNI's strategy.

    The evaluator's ``training_step`` gives the losses of both steps, in the second order more than once a batch. What it logs,
    and what metrics of ``torchmetrics`` in it add up, is of the training batches alone.

    Lightning's own checkpoints, say those of a ``ModelCheckpoint(save_top_k=-1, every_n_epochs=1)`` among the callbacks of the
    evaluator's ``Trainer``, hold all that a search needs to resume: weights, logits, cuts, both optimisers, schedulers, the epoch
    and the random states. A new experiment with the same model, evaluator and strategy resumes from one with
    {resume}. From the end of an epoch it ends as one that ran through would have, on a CPU bit for bit, unless data sets,
    loaders or their persistent workers have random states of their own.

    Parameters
    ----------
    """ + SHARED.format(progress="what the evaluator's ``Trainer`` says") + """
    mutation_hooks
        NNI's: functions that take up modules of further kinds. Default: none.
    gradient_clip_val
        NNI's: the norm that the gradient of the weights is clipped to. Default: no clipping.{nnis}

    Attributes
    ----------
    search : Search
        What is searched, once the experiment has taken the model up.
    choices : Logits
        From the label of each LayerChoice to its logits.
    choose_from : dict
        For each InputChoice the labels of the LayerChoices that feed its candidates, named or found out.

    Raises
    ------
    ArgumentError
        A keyword is unknown.
    TrainingError
        ``unrolled`` is none of these; ``recompute`` with something that needs second derivatives before PyTorch 2.1, ``compile``
        with it at all.
    MethodError
        A TrainingError, too: methods that cannot be combined, or that the search cannot have.
    """


class StrategyInterface:
    """Put before the host's strategy."""

    _options: Options

    def run(self, *args: Any) -> Any:
        """Called by the experiment. The methods of the search are told of an error that ends it."""
        try:
            return super().run(*args)  # type: ignore[misc]
        except BaseException as error:
            self.search.methods.end(error)
            raise

    @property
    def search(self) -> OneShotSearch:
        raise NotImplementedError

    def cut(self, key: str, candidate: Name) -> None:
        """:meth:`nni_darts_ext.core.search.Search.cut`. Before the experiment has taken a model up, its candidates are unknown:
        then they are cut, or the error is raised, when it does, and for every model that it takes up."""
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
