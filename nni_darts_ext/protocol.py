"""The protocol between ``DartsTuner`` and its trials, for your own trial scripts.

    from nni_darts_ext import protocol

    trial = protocol.start()                    # the task: trial.phase, trial.seed, trial.architecture, trial.hyperparameters
    ...
    trial.epoch(accuracy, trainer.mutator)      # after each epoch; in a training without the mutator
    trial.result(accuracy, trainer.mutator)     # at the end
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, Dict, Iterable, Optional

from .nnictl.task import EVALUATE, FINAL, SEARCH, Task

__all__ = ['EVALUATE', 'FINAL', 'SEARCH', 'Trial', 'start']


def start(skip_connections: Optional[Iterable[str]] = None) -> Trial:
    """Get the task of this trial from NNI. Outside an experiment it is a search with seed 0.

    Parameters
    ----------
    skip_connections
        The names of the candidates that count as skip connections in the collapse indicators. Default: those of
        :data:`nni_darts_ext.core.criteria.SKIP_CONNECTIONS`.
    """
    import nni
    return Trial(Task.of(nni.get_next_parameter()), skip_connections)


class Trial:
    """The task of a trial, and the methods that report its results.

    Attributes
    ----------
    phase : str
        ``'search'``, ``'evaluate'`` (a short training from scratch) or ``'final'`` (a long one).
    seed : int
        The seed of the search or training.
    architecture : dict or None
        The architecture to train; None for a search, and for a random one before :meth:`architecture_for` has drawn it.
    hyperparameters : dict
        The hyper-parameters of a search that the experiment's search space varies.
    random_architecture : int or None
        The number of the random architecture to train, if it is one.
    output : Path
        NNI's folder for the trial's files; the working directory outside an experiment.
    run_dir : Path or None
        A folder in ``output`` for ``DartsTrainer(run_dir=...)``; None outside an experiment, where several trials would share it.
    """

    def __init__(self, task: Task, skip_connections: Optional[Iterable[str]] = None) -> None:
        self._task = task
        self._skip_connections = skip_connections
        self._collapse: Any = None
        self.phase, self.seed, self.architecture, self.hyperparameters, self.random_architecture = task
        self.output = Path(os.environ.get('NNI_OUTPUT_DIR') or '.')
        self.run_dir = self.output / 'run' if os.environ.get('NNI_OUTPUT_DIR') else None

    def architecture_for(self, model: Any) -> Dict[str, Any]:
        """The architecture to train, for :func:`nni_darts_ext.apply_fixed_architecture` on this model.

        A random one is drawn from the search space of the model; :meth:`result` reports it.
        """
        if self.architecture is None and self.random_architecture is not None:
            from .fixed import random_architecture
            self.architecture = random_architecture(model, self.random_architecture)
        return self.architecture or {}

    def epoch(self, accuracy: float, mutator: Any = None) -> Dict[str, Any]:
        """Report an epoch: the accuracy and, for a search, the indicators of collapse that ``DartsAssessor`` reads.

        Returns
        -------
        dict
            The reported result.
        """
        import nni
        reported = self._report_of(accuracy)
        if mutator is not None:
            indicators = self._watch(mutator).read()._asdict()
            reported.update((name, value) for name, value in indicators.items() if value is not None)
        nni.report_intermediate_result(reported)
        return reported

    def result(self, accuracy: float, mutator: Any = None, **costs: float) -> Dict[str, Any]:
        """Report the final result: the accuracy and, for a search or a random one, the architecture, which is also written to
        ``architecture.json`` in ``output``. ``nni-darts-ext best`` also shows ``parameters`` and ``multiply_adds`` of a network
        that was trained, such as ``**nni_darts_ext.cost(network, inputs)._asdict()``.

        Returns
        -------
        dict
            The reported result.
        """
        import nni
        reported = {**costs, **self._report_of(accuracy)}
        architecture = self.architecture if mutator is None else mutator.export()
        if architecture is not None and self._task.architecture is None:
            reported['architecture'] = architecture
            (self.output / 'architecture.json').write_text(json.dumps(architecture, indent=2, sort_keys=True))
        nni.report_final_result(reported)
        return reported

    def _report_of(self, accuracy: float) -> Dict[str, Any]:
        """A report contains its task, because NNI 3.0 may assign it to another trial."""
        return {'default': float(accuracy), 'task': self._task.parameters()}

    def _watch(self, mutator: Any) -> Any:
        """The indicators of a mutator, created on first use because they import torch."""
        from .core.collapse import SKIP_CONNECTIONS, CollapseWatch
        if self._collapse is None:
            self._collapse = CollapseWatch(mutator, self._skip_connections or SKIP_CONNECTIONS)
        return self._collapse
