"""The mixture of an edge, compiled where the PyTorch at hand can."""

from __future__ import annotations

import importlib
import logging
from functools import partial
from typing import Any, Dict, Mapping, Optional, Sequence, Tuple, Union

import torch
from torch import Tensor, nn

from ...errors import TrainingError
from ..logits import Relaxed
from .layers import run
from .mixture import mix
from .overwriting import Overwritten, Watch
from .plan import Plan
from .shapes import is_weighed
from .sharing import SharedWork

_logger = logging.getLogger(__name__)

KINDS = 256
"""How many kinds of edges are compiled at most. They differ in candidates, shapes, and what gradients are asked for."""

Compile = Union[bool, str]


def check(compile: Compile, needs: Optional[str]) -> None:
    """Raise :class:`TrainingError` where a ``compile`` argument is none, or ``needs``, another one, needs second derivatives,
    which compiled code has not."""
    if not isinstance(compile, (bool, str)):
        raise TrainingError(f'compile={compile!r} is neither True, False nor the name of a mode of torch.compile.')
    if compile and needs:
        raise TrainingError(f'compile={compile!r} has no second derivatives, and {needs} needs them. Use compile=False, or leave '
                            "that out; unrolled='finite_difference' needs none.")


class CompiledMixture:
    """:func:`nni_darts_ext.core.edge.mixture.mix` by ``torch.compile``, once for each kind of edge; edges of a kind share code.

    ``mode`` is True or a mode of ``torch.compile``. If compiling fails, because of this PyTorch, this Python, a missing C++
    compiler or something in a candidate, a warning gives the reason and the search continues without it.
    """

    def __init__(self, mode: Compile) -> None:
        self._mode = mode if isinstance(mode, str) else None
        self._failed = False
        self._compiled: Any = None

    def __call__(self, candidates: Union[Plan, Sequence[nn.Module]], relaxed: Relaxed, args: Sequence[Any],
                 kwargs: Mapping[str, Any], reduction: str = 'sum', shared: Optional[SharedWork] = None,
                 keep_all: bool = False) -> Any:
        plan = candidates if isinstance(candidates, Plan) else Plan(candidates)
        plainly = partial(mix, plan, relaxed, args, kwargs, reduction, shared, keep_all)
        if self._failed or reduction != 'sum' or not relaxed.live or len(args) != 1 or kwargs:
            return plainly()
        weights = relaxed.weights
        if len(relaxed.live) < len(plan.candidates):
            weights = torch.stack([weights[i] for i in relaxed.live])
        watch = Watch(args)
        try:
            shared = SharedWork() if shared is None else shared
            starts = [plan.chains[i].start(args[0], shared) for i in relaxed.live]
            mixed = self._run([(value, [step.layer for step in steps]) for value, steps in starts], weights)
        except Exception as error:  # the compiler's are of many kinds
            mixed = plainly()  # raises what is not the compiler's
            self._failed = True
            _logger.warning('torch.compile cannot compile the edges, and the search goes on without it: %s: %s',
                            type(error).__name__, error)
        if watch.is_broken():
            raise Overwritten(None)
        return mixed

    def _run(self, chains: Sequence[Tuple[Any, Sequence[nn.Module]]], weights: Tensor) -> Any:
        if self._compiled is None:
            if not hasattr(torch, 'compile'):
                raise RuntimeError(f'PyTorch {torch.__version__} has none. It came with 2.0.')
            self._compiled = torch.compile(_plain_sum, dynamic=False, **_how(self._mode, weights.device))
        config = importlib.import_module('torch._dynamo.config')
        limits = {name: KINDS for name in ('recompile_limit', 'cache_size_limit') if hasattr(config, name)}
        with config.patch(limits):
            return self._compiled(chains, weights)

    def __reduce__(self) -> Any:
        """Copies and pickles do not contain compiled code."""
        return CompiledMixture, (self._mode or True,)


def _how(mode: Optional[str], device: torch.device) -> Dict[str, Any]:
    """The arguments of ``torch.compile`` for a mode.

    On a CPU the compiler lays images out with channels last, but only in passes with convolutions. It does not count those of
    backward passes, and depthwise ones are up to four times slower as it lays them out then (PyTorch 2.13).
    """
    inductor = importlib.import_module('torch._inductor')
    layout = 'force_layout_optimization'
    if device.type != 'cpu' or not hasattr(inductor, 'list_mode_options') or layout not in inductor.list_options():
        return {'mode': mode}
    return {'options': {**(inductor.list_mode_options(mode) if mode else {}), layout: True}}


def _plain_sum(chains: Sequence[Tuple[Any, Sequence[nn.Module]]], weights: Tensor) -> Any:
    total: Optional[Tensor] = None
    for (value, layers), weight in zip(chains, weights.unbind()):
        for layer in layers:
            value = run(layer, value)
        if not (isinstance(value, Tensor) and is_weighed(value)):
            raise TypeError('The candidates return more than a tensor of floating numbers.')  # which runs without compilation
        weighed = value * weight
        if total is not None and total.shape != weighed.shape:
            raise ValueError('The candidates return different shapes.')  # without compilation it is said which
        total = weighed if total is None else total + weighed
    return total
