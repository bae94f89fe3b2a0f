"""The arguments of a strategy that NNI's does not have."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any, Dict, Iterable, List, Mapping, Optional, Sequence, Tuple, Union

import torch
from torch import nn

from ...core import files
from ...core.edge.compilation import Compile
from ...core.space import Name
from ...loop.mutator import check_execution
from ...methods import Method, Methods


@dataclass(frozen=True)
class Options:
    """See :data:`nni_darts_ext.loop.arguments.SHARED` for what they mean."""

    unrolled: Union[bool, str]
    methods: Iterable[Method]
    zero_op_wins: bool
    choose_from: Optional[Mapping[str, Sequence[str]]]
    arc_betas: Tuple[float, float]
    arc_weight_decay: float
    channels_last: bool
    recompute: bool
    compile: Compile
    run_dir: Optional[files.Path]
    progress: Optional[bool]
    cuts: List[Tuple[str, str, Name]] = field(default_factory=list, init=False)
    """The calls of ``cut`` and ``restore`` before there was a model: name of the method, key, candidate."""

    def __post_init__(self) -> None:
        given = Methods(self.methods, 'the strategy DARTS')
        object.__setattr__(self, 'methods', given.all)
        check_execution(self.recompute, self.compile, self.unrolled, given)

    @classmethod
    def among(cls, arguments: Mapping[str, Any]) -> Options:
        """Select the options from all arguments of a constructor."""
        return cls(**{one.name: arguments[one.name] for one in fields(cls) if one.init})

    def settings(self) -> Dict[str, Any]:
        """The settings to record in the run's folder."""
        return {**{one.name: getattr(self, one.name) for one in fields(self) if one.init and one.name != 'run_dir'},
                'methods': [repr(method) for method in self.methods]}

    def optimizer(self, logits: Iterable[nn.Parameter], learning_rate: float) -> torch.optim.Optimizer:
        """The optimiser of the logits."""
        return torch.optim.Adam(logits, learning_rate, betas=self.arc_betas, weight_decay=self.arc_weight_decay)
