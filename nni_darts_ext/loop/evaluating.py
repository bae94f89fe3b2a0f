"""Compares architectures by the weights that the supernet has for them, without training them."""

from __future__ import annotations

import math
from typing import List, Mapping, Optional, Tuple

from ..core.bilevel.side_effects import on_batch_statistics, with_modes_restored
from ..core.decisions import Architecture
from ..core.random_states import with_random_states_restored
from ..core.ranking import RankedArchitecture
from ..errors import TrainingError
from .meters import Metrics
from .mutator import MutatorInterface
from .resuming import Resumable
from .steps import Host


class Evaluating(Resumable, Host):
    """The part of a trainer that evaluates architectures."""

    def evaluate(self, architecture: Optional[Architecture] = None) -> Metrics:
        """The loss and the metrics of the supernet on the validation data, with the weights of one architecture alone.

        Chosen candidates have the weight 1, all others 0, and inputs that are not kept are left out. Everything is in evaluation
        mode, except that BatchNorm normalises by the statistics of the batch: the running ones are those of the mixture. The
        search, its history, modes, running statistics and random states stay as they are. With several ranks, all of them must
        call it.

        Parameters
        ----------
        architecture
            An architecture in any form that ``apply_fixed_architecture`` takes. Default: the derived one.

        Raises
        ------
        ArchitectureError
            The architecture cannot be read or does not fit the search space.
        TrainingError
            The mutator is not one of nni_darts_ext. There is no validation data.
        """
        self._check_mutator()
        with self.mutator.fixed(self.mutator.export() if architecture is None else architecture), \
                on_batch_statistics(self.network()), with_modes_restored(self.mutator):
            return dict(self.steps.evaluate())

    def ranked(self, n: int = 10, by: Optional[str] = None) -> List[RankedArchitecture]:
        """The ``n`` most probable architectures, see :meth:`nni_darts_ext.core.search.Search.ranked`.

        Parameters
        ----------
        n
            The number of architectures. Default 10.
        by
            ``'loss'``, or the name of a metric that is better the larger it is: :meth:`evaluate` each architecture, and return
            the best one first. Default: they are in the order of their probability.

        Raises
        ------
        TrainingError
            There is no metric of this name; see also :meth:`evaluate`.
        """
        self._check_mutator()
        if by is not None:
            known = self.evaluate()
            if by not in known:
                raise TrainingError(f'Architectures cannot be ranked by {by!r}. Expected one of {sorted(known)}.')
        found = self.mutator.ranked(n, self.mutator.form)
        if by is None:
            return found

        def worth(one: RankedArchitecture) -> Tuple[bool, float]:
            value = (one.metrics or {})[by]
            return math.isnan(value), value if by == 'loss' else -value
        return sorted((one._replace(metrics=self.evaluate(one.architecture)) for one in found), key=worth)

    def _check_mutator(self) -> None:
        if not isinstance(self.mutator, MutatorInterface):
            raise TrainingError(f'The architectures of a {type(self.mutator).__name__} cannot be evaluated or ranked: its edges '
                                'are unknown. Leave mutator out to use the DartsMutator of nni_darts_ext.')

    def validate(self) -> Metrics:
        """The loss and metrics of the supernet on the validation data, not recorded in ``history``."""
        raise NotImplementedError

    def validated(self) -> Mapping[str, float]:
        with with_random_states_restored(self._loaders()):
            return self.validate()
