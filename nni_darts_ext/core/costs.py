"""What networks cost: parameters, multiply-adds and latency, of a network and of the candidates in a supernet.

A candidate that returns what it is given, such as ``nn.Identity``, costs 0.

Multiply-adds are those of a forward pass in evaluation mode, for one sample: the first dimension of the first tensor that the
model is given counts as the batch. From PyTorch 2.1 on ``torch.utils.flop_counter`` counts them: those of convolutions and
matrix products, which attention consists of, but not of recurrent layers. Before, they are those of the layers Conv,
ConvTranspose and Linear. Norms, poolings, activations and sums count nothing. Nothing of the model changes, nor do random states.
"""

from __future__ import annotations

import statistics
import time
from contextlib import contextmanager
from functools import partial
from typing import Any, Callable, Dict, Iterable, Iterator, List, Mapping, NamedTuple, Sequence, Tuple, TypeVar

import torch
from torch import Tensor, distributed, nn
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd
from torch.nn.modules.module import register_module_forward_hook

from .bilevel.side_effects import evaluating, without_side_effects
from .decisions import DroppedEdge
from .edge.mixture import reduce
from .nested import map_tensors, tensors_of
from .random_states import with_random_states_restored
from .search import Search
from .space import Edge, candidates_in, candidates_of

FlopCounter: Any
try:
    from torch.utils.flop_counter import FlopCounterMode as FlopCounter
except ImportError:  # before PyTorch 2.1
    FlopCounter = None

RUNS = 10
"""The passes whose median is the latency, after one that is not timed."""

T = TypeVar('T')
Meter = Callable[[], float]
"""What has been spent so far."""


class Cost(NamedTuple):
    """What a network costs."""

    parameters: int
    multiply_adds: float
    """For one sample."""


class Costs(NamedTuple):
    """What the parts of a supernet cost, in one unit."""

    fixed: float
    """Of everything outside the LayerChoices."""
    candidates: Dict[str, List[float]]
    """For each edge its candidates, in their order, each added up over all LayerChoices with that key."""


def cost(model: nn.Module, *inputs: Any, **kwargs: Any) -> Cost:
    """The parameters and multiply-adds of a network, such as the result of :func:`nni_darts_ext.apply_fixed_architecture`.

    Parameters
    ----------
    model
        A network without choices. Parameters that it uses several times count once.
    inputs, kwargs
        What it is called with. Multiply-adds are those of one sample, whatever the size of the batch, see
        :mod:`nni_darts_ext.core.costs`.
    """
    absent: List[float] = []
    with _undisturbed(model), _multiply_adds() as spent:
        dropped = [module for module in model.modules() if isinstance(module, DroppedEdge)]  # runs on tensors without data
        hooks = [*(module.register_forward_pre_hook(lambda *_: absent.append(-spent())) for module in dropped),
                 *(module.register_forward_hook(lambda *_: absent.append(spent())) for module in dropped)]
        try:
            model(*inputs, **kwargs)
            total = spent() - sum(absent)
        finally:
            for hook in hooks:
                hook.remove()
    return Cost(_size(model.parameters()), total / _batch_size((inputs, kwargs)))


def parameters(search: Search, model: nn.Module, *call: Any) -> Costs:
    """The numbers of parameters in a supernet, without logits. What several modules of a candidate share counts once.

    Parameters
    ----------
    search
        That of the supernet.
    call
        Not needed: what the model is called with, which the other costs depend on.
    """
    found: Dict[str, List[float]] = {}
    own = set(search.parameters()) if isinstance(search, nn.Module) else set()  # a strategy's is a part of the model
    for key, candidates in candidates_in(model, search.space).items():
        n = len(search.space.edges[key].names)
        of_each = [{parameter for candidate in candidates[i::n] for parameter in candidate.parameters()} for i in range(n)]
        found[key] = [_size(of_one) for of_one in of_each]
        own.update(*of_each)
    return Costs(_size(set(model.parameters()) - own), found)


def multiply_adds(search: Search, model: nn.Module, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Costs:
    """The multiply-adds in a supernet for one sample, counted in one pass. Candidates that are cut do not run and cost 0."""
    with _undisturbed(model), _multiply_adds() as spent:
        found = _measured(search, model, args, kwargs, spent)
    n = _batch_size((args, kwargs))
    return Costs(found.fixed / n, {key: [one / n for one in of_edge] for key, of_edge in found.candidates.items()})


def latency(search: Search, model: nn.Module, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Costs:
    """The milliseconds that the parts of a supernet take for a whole batch, on the device at hand: the median of :data:`RUNS`
    passes without gradients. Candidates that are cut do not run and cost 0."""
    is_cuda = any(tensor.is_cuda for tensor in tensors_of((args, kwargs)))

    def now() -> float:
        if is_cuda:
            torch.cuda.synchronize()
        return time.perf_counter() * 1000
    with _undisturbed(model):
        _, *runs = [_measured(search, model, args, kwargs, now) for _ in range(RUNS + 1)]
    return Costs(statistics.median(run.fixed for run in runs), {
        key: [statistics.median(of_one) for of_one in zip(*(run.candidates[key] for run in runs))] for key in runs[0].candidates})


def has_others() -> bool:
    """Whether several processes search together."""
    return distributed.is_available() and distributed.is_initialized() and distributed.get_world_size() > 1


def of_first(value: T) -> T:
    """The value of the first process, in all processes of a search."""
    if not has_others():
        return value
    sent = [value]
    distributed.broadcast_object_list(sent, 0)
    return sent[0]


def _measured(search: Search, model: nn.Module, args: Sequence[Any], kwargs: Mapping[str, Any], spent: Meter) -> Costs:
    """One pass through a model whose LayerChoices run their candidates unweighed."""
    modules = dict(model.named_modules())
    choices = [(modules[edge.path], edge) for edge in search.space.layer_choices if edge.path in modules]
    found = {edge.key: [0.0] * len(edge.names) for _, edge in choices}
    cuts = {key: search.choices.cuts(key) for key in found}
    inside: List[float] = []

    def run(module: nn.Module, edge: Edge, *args: Any, **kwargs: Any) -> Any:
        begin = spent()
        outputs: List[Any] = []
        live = [i for i in range(len(edge.names)) if i not in cuts[edge.key]] or [0]  # which tells the shape of the zero op
        for i in live:
            candidate = candidates_of(module, edge)[i]
            own_args, own_kwargs = _copied((args, kwargs))  # for it may write over them
            before = spent()
            outputs.append(candidate(*own_args, **own_kwargs))
            is_skip = len(own_args) == 1 and outputs[-1] is own_args[0]
            found[edge.key][i] += 0 if is_skip else spent() - before
        reduced = reduce(outputs, edge.reduction or 'sum')
        inside.append(spent() - begin)
        return (reduced, None) if getattr(module, 'return_mask', False) else reduced
    kept: List[Tuple[Dict[str, Any], Any]] = [(module.__dict__, module.__dict__.get('forward')) for module, _ in choices]
    try:
        for module, edge in choices:
            module.__dict__['forward'] = partial(run, module, edge)
        own_args, own_kwargs = _copied((tuple(args), dict(kwargs)))
        begin = spent()
        model.forward(*own_args, **own_kwargs)  # without the hooks of a pass
        return Costs(spent() - begin - sum(inside), found)
    finally:
        for attributes, forward in kept:
            attributes.pop('forward')
            attributes.update({} if forward is None else {'forward': forward})


@contextmanager
def _undisturbed(model: nn.Module) -> Iterator[None]:
    with torch.no_grad(), with_random_states_restored(), without_side_effects(model), evaluating(model):
        try:
            yield
        finally:
            torch.clear_autocast_cache()  # its casts have no graph


@contextmanager
def _multiply_adds() -> Iterator[Meter]:
    """Counts the multiply-adds in the context."""
    if FlopCounter is not None:
        with _without_fused_attention(), FlopCounter(display=False) as counter:
            yield lambda: counter.get_total_flops() / 2
        return
    total = [0.0]

    def add(module: nn.Module, args: Any, output: Any) -> None:
        if isinstance(module, (nn.Linear, _ConvNd)):
            rows = args[0] if isinstance(module, _ConvTransposeNd) else output
            total[0] += rows.numel() * module.weight[0].numel()
    hook = register_module_forward_hook(add)
    try:
        yield lambda: total[0]
    finally:
        hook.remove()


@contextmanager
def _without_fused_attention() -> Iterator[None]:
    """Runs attention as matrix products where PyTorch can be told to: its counter does not know all operations that fuse them."""
    try:
        from torch.backends import mha
        from torch.nn.attention import SDPBackend, sdpa_kernel
    except ImportError:
        yield
        return
    was = mha.get_fastpath_enabled()
    try:
        mha.set_fastpath_enabled(False)
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        mha.set_fastpath_enabled(was)


def _copied(value: Tuple[Any, Any]) -> Any:
    return map_tensors(torch.clone, value)


def _size(found: Iterable[Tensor]) -> int:
    return sum(parameter.numel() for parameter in found)


def _batch_size(given: Any) -> int:
    shape = next((tensor.shape for tensor in tensors_of(given)), ())
    return shape[0] if shape else 1
