"""Less memory for more time: what an edge computes on the way is computed again in the backward pass instead of kept for it."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any, Callable, ContextManager, Iterable, Optional

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ...errors import SearchSpaceError, TrainingError
from ..bilevel.side_effects import on_copied_buffers
from ..logits import Relaxed
from .overwriting import Watch


def check(recompute: bool, needs: Optional[str]) -> None:
    """Raise ``TrainingError`` where this PyTorch cannot recompute for ``needs``, an argument that needs second derivatives."""
    has_second_derivatives = hasattr(torch.utils.checkpoint, 'set_checkpoint_early_stop')  # since 2.1, like them
    if recompute and needs and not has_second_derivatives:
        raise TrainingError(f'recompute=True has no second derivatives in PyTorch {torch.__version__}, and {needs} needs them. '
                            "Use recompute=False, PyTorch 2.1 or later, or leave that out. unrolled='finite_difference' "
                            'needs none.')


def recomputed(compute: Callable[[Relaxed], Any], relaxed: Relaxed, candidates: Iterable[nn.Module],
               inputs: Any) -> Any:
    """``compute(relaxed)``, of which the graph keeps only the inputs.

    ``compute`` runs the ``candidates`` of an edge, the same in each call. It is called again in each backward pass, with the
    random state of the first call, and running statistics are not updated again. ``inputs``, tensors in any structure, are what
    the candidates read. :class:`SearchSpaceError` is raised in the backward pass if they have been written over.
    """
    watch = Watch(inputs)
    modules = [module for candidate in candidates for module in candidate.modules()]
    calls = 0

    def run(weights: Tensor) -> Any:
        nonlocal calls
        calls += 1
        if watch.is_broken():
            raise SearchSpaceError('The input of a LayerChoice has been written over before the backward pass, which computes it '
                                   'again. Let the model leave the input alone (no += or inplace=True), or use recompute=False.')
        again: ContextManager[None] = on_copied_buffers(modules) if calls > 1 else nullcontext()
        with again:
            return compute(Relaxed(weights, relaxed.live))
    return checkpoint(run, relaxed.weights, use_reentrant=False)
