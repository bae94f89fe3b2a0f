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
from typing import Any, Dict, Iterable, Optional, Union

from .core import files
from .nnictl.task import EVALUATE, FINAL, RUN, SEARCH, Task

__all__ = ['EVALUATE', 'FINAL', 'SEARCH', 'Trial', 'start']

PathLike = Union[str, 'os.PathLike[str]']


def start(skip_connections: Optional[Iterable[str]] = None, storage: Optional[PathLike] = None) -> Trial:
    """Get the task of this trial from NNI. Outside an experiment it is a search with seed 0.

    In several processes, of which each must call the same methods, rank 0 alone talks to NNI. There must be a process group of
    ``torch.distributed`` before.

    Parameters
    ----------
    skip_connections
        The names of the candidates that count as skip connections in the collapse indicators. Default: those of
        :data:`nni_darts_ext.core.criteria.SKIP_CONNECTIONS`.
    storage
        A folder that outlives the trial, in which each task of each experiment has a folder of its own: a trial that is repeated,
        also on another machine, finds there what it had written before. Default: none.

    Raises
    ------
    TrainingError
        There are several processes, but no process group.
    """
    import nni  # on every rank before rank 0 reports, as importing it may empty the file of reports

    from .loop import processes
    processes.refuse_strangers()
    processes.check_device(processes.device())
    told = [nni.get_next_parameter(), nni.get_experiment_id(), os.environ.get('NNI_OUTPUT_DIR')] if processes.is_first() else []
    parameters, experiment, output = processes.gathered(told)[0]
    return Trial(Task.of(parameters), skip_connections, output, None if storage is None else Path(storage, experiment).absolute())


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
    storage : Path or None
        The folder of the task in the ``storage`` that was passed to :func:`start`, which a repeated trial gets again; None
        without one.
    run_dir : Path or None
        A folder in ``storage``, else in ``output``, for ``DartsTrainer(run_dir=...)``; None outside an experiment without
        ``storage``, where several trials would share it.
    checkpoint_dir : Path or None
        A folder in ``storage`` for the checkpoints of a training from scratch; None without ``storage``.
    """

    def __init__(self, task: Task, skip_connections: Optional[Iterable[str]] = None, output: Optional[str] = None,
                 storage: Optional[Path] = None) -> None:
        self._task = task
        self._skip_connections = skip_connections
        self._collapse: Any = None
        self.phase, self.seed, self.architecture, self.hyperparameters, self.random_architecture = task
        self.output = Path(output or '.')
        self.storage = None if storage is None else storage / task.name()
        kept = self.storage or (self.output if output else None)
        self.run_dir = None if kept is None else kept / RUN
        self.checkpoint_dir = None if self.storage is None else self.storage / 'checkpoints'

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
        reported = self._report_of(accuracy)
        if mutator is not None:
            indicators = self._watch(mutator).read()._asdict()
            reported.update((name, value) for name, value in indicators.items() if value is not None)
        _tell('report_intermediate_result', reported)
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
        from .loop import processes
        reported = {**costs, **self._report_of(accuracy)}
        architecture = self.architecture if mutator is None else mutator.export()
        if architecture is not None and self._task.architecture is None:
            reported['architecture'] = architecture
        _tell('report_final_result', reported)
        if 'architecture' in reported and processes.is_first():
            files.write(self.output / 'architecture.json', json.dumps(architecture, indent=2, sort_keys=True).encode('utf-8'))
        return reported

    def _report_of(self, accuracy: float) -> Dict[str, Any]:
        """A report contains its task, because NNI 3.0 may assign it to another trial, and the run of a search in ``storage``."""
        stored = {'run': str(self.run_dir)} if self.storage is not None and self.phase == SEARCH else {}
        return {'default': float(accuracy), 'task': self._task.parameters(), **stored}

    def _watch(self, mutator: Any) -> Any:
        """The indicators of a mutator, created on first use because they import torch."""
        from .core.collapse import SKIP_CONNECTIONS, CollapseWatch
        if self._collapse is None:
            self._collapse = CollapseWatch(mutator, self._skip_connections or SKIP_CONNECTIONS)
        return self._collapse


def _tell(report: str, value: Dict[str, Any]) -> None:
    """Report to NNI, from rank 0 alone."""
    import nni

    from .loop import processes
    if processes.is_first():
        getattr(nni, report)(value)
