"""Less memory for more time: what an edge computes on the way is computed again in the backward pass instead of kept for it."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any, Callable, ContextManager, Iterable

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ..errors import TrainingError
from .aside import buffers_aside
from .bilevel import choose, unrolled_exact
from .logits import Relaxed


def check(recompute: bool, unrolled: Any) -> None:
    """Raise ``TrainingError`` where this PyTorch cannot recompute for an order of DARTS."""
    has_second_derivatives = hasattr(torch.utils.checkpoint, 'set_checkpoint_early_stop')  # since 2.1, like them
    if recompute and choose(unrolled) is unrolled_exact and not has_second_derivatives:
        raise TrainingError(f'recompute=True has no second derivatives in PyTorch {torch.__version__}, and unrolled={unrolled!r} '
                            "needs them. Use unrolled='finite_difference', recompute=False, or PyTorch 2.1 or later.")


def recomputed(compute: Callable[[Relaxed], Any], relaxed: Relaxed, candidates: Iterable[nn.Module]) -> Any:
    """``compute(relaxed)``, of which the graph keeps the inputs alone.

    Parameters
    ----------
    compute
        Runs the candidates, the same whenever it is called. It is called once more in each backward pass, with the random state
        of the first time, and running statistics do not move again.
    relaxed
        The relaxation of the edge.
    candidates
        The modules that run.
    """
    modules = [module for candidate in candidates for module in candidate.modules()]
    calls = 0

    def run(weights: Tensor) -> Any:
        nonlocal calls
        calls += 1
        again: ContextManager[None] = buffers_aside(modules) if calls > 1 else nullcontext()
        with again:
            return compute(Relaxed(weights, relaxed.live))
    return checkpoint(run, relaxed.weights, use_reentrant=False)
