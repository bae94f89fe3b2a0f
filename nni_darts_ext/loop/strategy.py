"""What a one-shot strategy takes and offers, whichever host it is a strategy of."""

from __future__ import annotations

from typing import Any, Dict, Tuple

from ..core.logits import Logits
from ..core.space import Name
from .oneshot import OneShotSearch, Options

__all__ = ['DOCUMENTATION', 'Options', 'StrategyInterface']

DOCUMENTATION = """{host}

    Each LayerChoice gets n + 1 logits, the last one for the zero op. Each InputChoice that LayerChoices feed has no logits:
    it reduces all its inputs during the search and keeps the ``n_chosen`` whose edges are strongest. Which LayerChoice
    feeds which input is what :func:`nni_darts_ext.nn.InputChoice` was told, or else what the first forward pass shows.
    An InputChoice that none feeds, Cell, Repeat and value choices work as in NNI's strategy.

    The evaluator's ``training_step`` gives the losses of both steps. What it logs, and what metrics of ``torchmetrics`` in it add
    up, is of the training batches alone.

    Lightning's own checkpoints, say those of a ``ModelCheckpoint(save_top_k=-1, every_n_epochs=1)`` among the callbacks of the
    evaluator's ``Trainer``, hold all that a search goes on from: weights, logits, cuts, both optimisers, schedulers, the epoch
    and the random states. A new experiment with the same model, evaluator and strategy goes on from one with
    {resume}. From the end of an epoch it ends as one that ran through would have, on a CPU bit for bit, unless data sets,
    loaders or their persistent workers have random states of their own.

    Parameters
    ----------
    zero_op_wins
        See :func:`nni_darts_ext.core.derivation.derive`. Default False. {zero_op_wins}
    choose_from
        For InputChoices by label the sources of their candidates, where neither of the two above shall count.
    unrolled
        The second order, see :mod:`nni_darts_ext.core.bilevel`: True or ``'exact'`` for the exact gradient through one virtual
        step of the evaluator's optimiser, ``'finite_difference'`` for the paper's approximation of it. Default False, first
        order (source: NNI). The evaluator's ``training_step`` runs for it more than once a batch, on the validation batch at
        the virtual weights.
    channels_last
        Whether model and images of four dimensions lie in memory with the channels last: the same numbers to rounding, and
        faster for convolutions and poolings on most devices. Default False.
    recompute
        Whether what an edge computes on the way is computed again in the backward pass instead of kept for it: far less memory,
        more time, the same numbers; running statistics move once. Default False.
    compile
        Whether ``torch.compile`` makes one program of each kind of edge, or the name of its mode (``'reduce-overhead'``, say). It
        takes minutes at first. Where it cannot, a warning says why and the search goes on without. Not with the exact second
        order, ``eigenvalue`` and ``early_stopping``, which need second derivatives. Default False.
    shrink
        From which epoch on, counted from 0, an edge keeps how many candidates: with ``{{10: 5, 20: 3}}`` the weakest go after ten
        epochs and after twenty, as in P-DARTS. See :class:`nni_darts_ext.loop.shrinking.Shrinking`. NNI's own choices (Cell,
        Repeat, value choices) keep theirs. Default: all stay.
    eigenvalue
        Whether the dominant eigenvalue of the validation loss' Hessian in the logits is computed after each epoch, on the epoch's
        first validation batch, and recorded in ``run_dir``. See :mod:`nni_darts_ext.core.bilevel.curvature`. Default False.
    early_stopping
        Whether the search ends when that eigenvalue grows too fast, with the logits of before. See
        :class:`nni_darts_ext.loop.early_stopping.EarlyStopping`. Default False.
    run_dir
        A folder for the run: settings, metrics and weights of each epoch, the architecture, which ``nni-darts-ext show``,
        ``plot`` and ``report`` read, also while the search runs; TensorBoard's scalars where that is installed. See
        :mod:`nni_darts_ext.run`. One that holds a run is gone on with when the search goes on, and refused when it starts anew.
        Default: none.
    **kwargs
        Those of NNI's ``DARTS``: {kwargs}.

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
    TrainingError
        ``unrolled`` is none of these; ``recompute`` with an argument that needs second derivatives before PyTorch 2.1,
        ``compile`` with one at all;
        ``shrink`` is no schedule, or, when the search begins, one that goes beyond the last epoch.
    """


class StrategyInterface:
    """Put before the host's strategy."""

    _options: Options

    def run(self, *args: Any) -> Any:
        """Called by the experiment. What follows the search hears of an error that ends it."""
        try:
            return super().run(*args)  # type: ignore[misc]
        except BaseException as error:
            for follower in self.search.followers:
                follower.end(error)
            raise

    @property
    def search(self) -> OneShotSearch:
        raise NotImplementedError

    def cut(self, key: str, candidate: Name) -> None:
        """:meth:`nni_darts_ext.core.search.Search.cut`. Before the experiment has taken a model up, nobody knows its candidates:
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
