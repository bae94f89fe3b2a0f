"""The task of one trial of an experiment, and its parameters."""

from __future__ import annotations

import hashlib
import json
import math
from types import MappingProxyType
from typing import Any, Dict, Mapping, NamedTuple, Optional

SEARCH, EVALUATE, FINAL = PHASES = ('search', 'evaluate', 'final')
"""The phases: search an architecture; train one from scratch for a short time; train the best one for a long time."""

COSTS = ('parameters', 'multiply_adds')
"""What a training may report of its network."""

RUN = 'run'
"""The folder of the run of a search, in that of its trial, and its name in what the trial reports."""

_OWN = ('phase', 'seed', 'architecture', 'random_architecture')


class Task(NamedTuple):
    """One search, or one training from scratch."""

    phase: str = SEARCH
    seed: int = 0
    architecture: Optional[Dict[str, Any]] = None
    """The architecture to train; None for a search, and for a random one, which the trial draws."""
    hyperparameters: Mapping[str, Any] = MappingProxyType({})
    """The hyper-parameters of a search that the experiment's search space varies."""
    random_architecture: Optional[int] = None
    """The number of the random architecture to train, with which the trial draws it."""

    @classmethod
    def of(cls, parameters: Optional[Mapping[str, Any]]) -> Task:
        """The task of a trial's parameters. Defaults to a search with seed 0."""
        parameters = parameters or {}
        return cls(parameters.get('phase', SEARCH), parameters.get('seed', 0), parameters.get('architecture'),
                   {name: value for name, value in parameters.items() if name not in _OWN},
                   parameters.get('random_architecture'))

    def parameters(self) -> Dict[str, Any]:
        """The parameters of the trial, for JSON."""
        trained = {'architecture': self.architecture, 'random_architecture': self.random_architecture}
        return {'phase': self.phase, 'seed': self.seed, **self.hyperparameters,
                **{name: value for name, value in trained.items() if value is not None}}

    def name(self) -> str:
        """A short name for files, such as ``search-0-7d865e959b24``."""
        return f'{self.phase}-{self.seed}-{hashlib.sha256(self.key().encode()).hexdigest()[:12]}'

    def key(self) -> str:
        """A key of the task that NNI's manager and database do not change."""
        return canonical(self.parameters())

    def digest(self) -> bytes:
        """A short form of :meth:`key`, 16 bytes."""
        return hashlib.blake2b(self.key().encode(), digest_size=16).digest()


def task_of(result: Any, parameters: Optional[Mapping[str, Any]]) -> Task:
    """The task of a trial's result: as the result itself names it, else from the parameters that NNI has recorded.

    They may differ in NNI 3.0, which may give a trial the parameters that it records for another one.
    """
    reported = result.get('task') if isinstance(result, Mapping) else None
    return Task.of(reported if isinstance(reported, Mapping) else parameters)


def canonical(value: Any) -> str:
    """JSON text that is equal for equal values, even after they have passed through JavaScript.

    NNI's manager is written in JavaScript, where every number is a double and 2.0 becomes 2.
    """
    return json.dumps(json.loads(json.dumps(value), parse_int=_double, parse_float=_double), sort_keys=True)


def _double(digits: str) -> float:
    return float(digits) + 0.0  # JavaScript writes -0.0 as 0


def accuracy_of(result: Any) -> Optional[float]:
    """The finite number in a trial's result; None if there is none."""
    number = result.get('default') if isinstance(result, Mapping) else result
    if not isinstance(number, (int, float)) or isinstance(number, bool) or not math.isfinite(number):
        return None
    return float(number)


def costs_of(result: Any) -> Dict[str, float]:
    """The finite numbers of :data:`COSTS` in a trial's result."""
    given = result if isinstance(result, Mapping) else {}
    return {name: given[name] for name in COSTS if accuracy_of(given.get(name)) is not None}


def run_of(result: Any) -> Optional[str]:
    """The folder of its run that a search reports; None if it does not."""
    folder = result.get(RUN) if isinstance(result, Mapping) else None
    return folder if isinstance(folder, str) else None


def architecture_of(result: Any) -> Optional[Dict[str, Any]]:
    """The architecture in the result of a trial; None if there is none."""
    architecture = result.get('architecture') if isinstance(result, Mapping) else None
    return dict(architecture) if isinstance(architecture, Mapping) and architecture else None
