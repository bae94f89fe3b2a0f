"""Perturbation-based architecture selection: what the supernet needs most is kept, instead of what has the largest weight.

R. Wang, M. Cheng, X. Chen, X. Tang, C.-J. Hsieh, "Rethinking Architecture Selection in Differentiable NAS", ICLR 2021, arXiv
2108.04392.
"""

from __future__ import annotations

import logging
import math
from typing import Any, Dict, List, Mapping, Optional, Sequence

import torch
from torch import Tensor

from ..core.bilevel.side_effects import on_batch_statistics
from ..core.derivation import unread
from ..errors import CheckpointError, MethodError
from .base import At, EndOfEpoch, Method

_logger = logging.getLogger(__name__)


class PerturbationSelection(Method):
    r"""Keeps on each edge the candidate without which the supernet has the largest validation loss (the paper, algorithm 1).

    .. math:: o^*_e = \arg\max_o \mathcal{L}_{val}(S \setminus o), \quad o \in e

    Candidate o is left out by the weight 0; the other weights stay as they are. All other candidates of the edge, and its zero
    op, are then cut. When all edges are decided, each InputChoice keeps the ``n_chosen`` inputs without which the loss is
    largest (topology selection). An input is left out by leaving out the LayerChoice that it comes from, in all InputChoices
    that read it; inputs from elsewhere are kept last. Edges that no input is left of do not run any more.

    The last epochs of the search are those of the selection: only the weights are trained in them. Before the first and at the
    end of each, equal shares of the edges and InputChoices are decided one after another, in an order that the search's seed
    determines. The learning rate is that of the schedule; the authors start again with a tenth of the initial one. They also
    keep training the logits of edges that are not decided yet, and leave out the inputs of a node one after another.

    BatchNorm normalises by the statistics of the batch when a candidate is left out, as in the authors' code, because the running
    ones are those of the whole supernet. Everything else is in evaluation mode.

    With a :class:`~nni_darts_ext.methods.warmup.Warmup` of all epochs before the selection the logits never move, and the
    selection alone decides, as in the "fix alpha" experiments of the paper.

    Each candidate and each input costs one validation, a forward pass over the whole validation data, as in the authors' code; a
    rehearsal after the first epoch costs another one. For the six edges of NAS-Bench-201 with four candidates that is as much as
    about four epochs of first order. With ``compile``, each edge is also compiled without each of its candidates.

    Parameters
    ----------
    epochs
        The number of epochs of the selection. Default None: a fifth of the search, at least one (source: the authors' code for
        NAS-Bench-201, 5 epochs for each but the first of 6 edges, after 100 epochs of search).
    metric
        What is compared. Default ``'loss'``, which every search has. Any other name is that of a metric that is better the
        larger it is: of those of ``DartsTrainer``, such as ``'acc'``, or in a strategy of the numbers that the evaluator's
        ``training_step`` logs, such as ``'train_acc'``. The default of the authors' code is the accuracy.

    Raises
    ------
    MethodError
        ``epochs`` is not a positive number; the search has no epochs before the selection, no known number of epochs or no
        LayerChoice. After the first epoch: there is no such metric, or a validation batch has one sample and the model a
        BatchNorm. In the selection: it is not finite.
    CheckpointError
        A search whose selection had begun resumes with another number of epochs.
    """

    needs_epochs = True
    # The first two end the search before the selection, or take it back. The last one runs one candidate of an edge in
    # evaluations, without which the others would all be equal.
    conflicts = ('EarlyStopping', 'StopAtSkips', 'GumbelSoftmax')

    def __init__(self, epochs: Optional[int] = None, metric: str = 'loss') -> None:
        if epochs is not None and not (isinstance(epochs, int) and epochs > 0):
            raise MethodError(f'PerturbationSelection(epochs={epochs!r}): expected a number of at least 1, or None for a fifth '
                              'of the search.')
        self.epochs, self.metric = epochs, metric
        self._total: Optional[int] = None
        """The number of epochs of the search."""
        self._has_begun = False
        self._tried: Mapping[str, Sequence[int]] = {}
        """By edge the entries that are left out in an evaluation."""
        self._dropped: Mapping[str, Sequence[int]] = {}
        """All entries of the edges that no InputChoice has kept."""

    def begin(self, at: At) -> None:
        self._total, self._has_begun = at.epochs, False
        if at.epochs is None:
            raise MethodError(f'{self!r} needs the number of epochs, which is unknown here. Set max_epochs.')
        if at.epochs <= self._length(at):
            raise MethodError(f'{self!r} needs {self._length(at)} of the last epochs and at least one before, but the search has '
                              f'{at.epochs}. Search longer, or pass fewer epochs.')
        if not at.search.space.edges:
            raise MethodError(f'{self!r} has nothing to select: no LayerChoice of the model is searched here. Leave it out.')

    def before_epoch(self, at: At) -> None:
        self._drop(at)

    def takes_architecture_step(self, at: At) -> bool:
        return self._point(at) < 1

    def reweigh(self, weights: Mapping[str, Tensor], at: At) -> Mapping[str, Tensor]:
        left_out = {**self._dropped, **self._tried}
        return {key: of_edge.index_fill(0, torch.tensor(left_out[key], device=of_edge.device), 0) if key in left_out else of_edge
                for key, of_edge in weights.items()} if left_out else weights

    def after_epoch(self, at: At, end: EndOfEpoch) -> Optional[str]:
        if at.epoch == 0:
            self._need(at, end, {})  # raises now what would otherwise end the search when the selection begins
        for key in self._due(at):
            self._has_begun = True
            if key in at.search.space.edges:
                self._decide_edge(key, at, end)
            else:
                self._decide_inputs(key, at, end)
        return None

    # The decisions ---------------------------------------------------------------------------------------------------------

    def _length(self, at: At) -> int:
        """The number of epochs of the selection."""
        assert at.epochs is not None
        return max(1, at.epochs // 5) if self.epochs is None else self.epochs

    def _point(self, at: At) -> int:
        """0 in the epoch before the selection, negative before that, and 1 in its first epoch."""
        assert at.epochs is not None and at.epoch is not None
        return at.epoch - (at.epochs - self._length(at)) + 1

    def _due(self, at: At) -> List[str]:
        """The keys of the choices to decide after this epoch."""
        space, draw = at.search.space, at._replace(epoch=None).generator('PerturbationSelection')
        nodes = [key for key, node in space.inputs.items() if node.n_chosen is not None and node.n_chosen < len(node.choose_from)
                 and space.is_fed(key)]
        order = [keys[i] for keys in (list(space.edges), nodes) for i in torch.randperm(len(keys), generator=draw).tolist()]
        return [key for i, key in enumerate(order) if i * (self._length(at) + 1) // len(order) == self._point(at)]

    def _decide_edge(self, key: str, at: At, end: EndOfEpoch) -> None:
        choices, names = at.search.choices, at.search.space.edges[key].names
        choices.read(key)
        running = [i for i in range(len(names)) if i not in choices.cuts(key)]
        if not running:  # the zero op alone
            return
        needs = {i: self._need(at, end, {key: [i]}) if len(running) > 1 else 0.0 for i in running}
        kept = max(running, key=lambda i: needs[i])
        for i in set(range(len(names) + 1)).difference(choices.cuts(key), [kept]):
            choices.cut(key, i)
        self._log(at, f'LayerChoice {key!r} keeps {names[kept]!r}', {names[i]: need for i, need in needs.items()})

    def _decide_inputs(self, key: str, at: At, end: EndOfEpoch) -> None:
        search = at.search
        sources = search.space.sources[key]
        needs = {i: self._need(at, end, _whole([source], at)) for i, source in enumerate(sources) if source in search.space.edges}
        strongest = sorted(range(len(sources)), key=lambda i: (-needs.get(i, -math.inf), i))
        kept = sorted(strongest[:search.space.inputs[key].n_chosen])
        search.selected = {**(search.selected or {}), str(key): [i in kept for i in range(len(sources))]}
        self._drop(at)
        self._log(at, f'InputChoice {key!r} keeps the inputs {kept}', needs)

    def _need(self, at: At, end: EndOfEpoch, left_out: Mapping[str, Sequence[int]]) -> float:
        """How bad the supernet is without these entries."""
        self._tried = left_out
        try:
            _weigh_anew(at, left_out)
            with on_batch_statistics(end.network):
                found = end.evaluate()
        except ValueError as error:
            if 'more than 1 value per channel' not in str(error):
                raise
            raise MethodError(f'{self!r}: BatchNorm cannot normalise a validation batch of one sample by its own statistics. '
                              'Pass validation data whose last batch is larger, such as a loader with drop_last=True.') from error
        finally:
            self._tried = {}
            _weigh_anew(at, left_out)
        if self.metric not in found:
            raise MethodError(f'{self!r} compares {self.metric!r}, but a validation of this search gives {sorted(found)}. Pass '
                              'one of these.')
        if left_out and not math.isfinite(found[self.metric]):
            raise MethodError(f'{self!r}: the {self.metric} of the supernet without the entries {dict(left_out)} is '
                              f'{found[self.metric]}. Lower the learning rates.')
        return found[self.metric] if self.metric == 'loss' else -found[self.metric]

    def _drop(self, at: At) -> None:
        """Let the edges that no InputChoice has kept run no more."""
        space = at.search.space
        self._dropped = _whole(unread(space, at.search.selected, space.readers) if at.search.selected else (), at)
        _weigh_anew(at, self._dropped)

    def _log(self, at: At, decision: str, needs: Mapping[Any, float]) -> None:
        sign = 1 if self.metric == 'loss' else -1
        _logger.info('After epoch %d %s: the %s without each is %s.', at.epoch, decision, self.metric,
                     {name: round(sign * need, 5) for name, need in needs.items()})

    # What it holds ---------------------------------------------------------------------------------------------------------

    def state_dict(self) -> Dict[str, Any]:
        return {'total': self._total if self._has_begun else None}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        if state['total'] not in (None, self._total):
            raise CheckpointError(f'the selection began in a search of {state["total"]} epochs, which has {self._total} now')
        self._has_begun = state['total'] is not None


def _whole(keys: Any, at: At) -> Dict[str, Sequence[int]]:
    """All entries of some edges."""
    return {key: range(len(at.search.space.edges[key].names) + 1) for key in keys}


def _weigh_anew(at: At, keys: Any) -> None:
    for key in keys:
        at.search.choices[key]  # handed out, so that which candidates run is read again in the next pass
