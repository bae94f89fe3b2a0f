"""Find what reads the outputs of LayerChoices by a symbolic trace of the model (:mod:`torch.fx`), without a forward pass."""

from __future__ import annotations

import copy
import inspect
import logging
from typing import Any, Dict, Iterator, List, Mapping, NamedTuple, Optional, Set

import torch
from torch import fx, nn

from .modules import replaced
from .space import Choice, Edge, InputNode, Reader, Readers

_logger = logging.getLogger(__name__)


class Flow(NamedTuple):
    """Where the outputs of the edges of a model go."""

    readers: Readers
    """What reads the output of each edge in the trace."""
    straight: Set[str]
    """The edges whose outputs only InputChoices read, directly."""


def flow(model: nn.Module, choices: Mapping[nn.Module, Choice]) -> Optional[Flow]:
    """Trace a model in training and evaluation mode, with the default arguments of its forward and with each flag flipped.

    ``choices`` has the choice that each choice module of the model stands for. The result is None if the model cannot be traced,
    for example because its control flow depends on data.
    """
    if model in choices:
        return None
    readers: Dict[str, Set[Reader]] = {}
    seen: Set[str] = set()
    indirect: Set[str] = set()
    try:
        for graph, modules in _graphs(model, choices):
            called = ((node, modules.get(str(node.target))) for node in graph.nodes if node.op == 'call_module')
            found = {node: module.choice for node, module in called if isinstance(module, _StandIn)}
            _collect(graph, found, readers)
            seen.update(choice.key for choice in found.values() if isinstance(choice, Edge))
            indirect.update(choice.key for node, choice in found.items()
                          if not all(isinstance(found.get(user), InputNode) for user in node.users))
    except Exception as error:  # raised by the model's own code, which receives symbols instead of tensors
        _logger.info('%s cannot be traced: %s: %s', type(model).__name__, type(error).__name__, error)
        return None
    return Flow({key: readers.get(key, set()) for key in seen}, seen - indirect)


def _graphs(model: nn.Module, choices: Mapping[nn.Module, Choice]) -> Iterator[Any]:
    """The graphs of a model, each with the modules that it calls by name. The model's attributes do not change."""
    with replaced(model, {module: _StandIn(choice) for module, choice in choices.items()}):
        shared = {id(tensor): tensor for tensor in (*model.parameters(), *model.buffers())}
        traced = copy.deepcopy(model, shared)  # because a forward may store results in attributes
    modules = dict(traced.named_modules())
    defaults = {name: parameter.default for name, parameter in inspect.signature(type(model).forward).parameters.items()
                if parameter.default is not inspect.Parameter.empty}
    flipped = [{**defaults, name: not value} for name, value in defaults.items() if isinstance(value, bool)]
    for is_training in (True, False):
        for arguments in (defaults, *flipped):
            with torch.random.fork_rng(devices=[]):
                yield _Tracer().trace(traced.train(is_training), arguments), modules


def _collect(graph: fx.Graph, choices: Mapping[fx.Node, Choice], readers: Dict[str, Set[Reader]]) -> None:
    """Add what reads the outputs of edges in a graph."""
    def read(nodes: Set[fx.Node], reader: Reader) -> None:
        for choice in (choices[node] for node in nodes):
            if isinstance(choice, Edge):
                readers.setdefault(choice.key, set()).add(reader)
    for node in graph.nodes:
        choice = choices.get(node)
        if isinstance(choice, Edge):
            read(_behind((node.args, node.kwargs), choices), choice.key)
        elif choice is not None:
            for i, candidate in _candidates(node, choice).items():
                read(_behind(candidate, choices), None if i is None else (choice.key, i))
        elif node.op == 'output':
            read(_behind(node.args, choices), None)
        elif _writes(node):  # the trace does not follow values that are written into a tensor
            target, *others = node.args
            read(_behind((others, node.kwargs), choices) - _behind(target, choices), None)


def _writes(node: fx.Node) -> bool:
    """Whether a node changes its first argument in place."""
    name = str(node.target if node.op == 'call_method' else getattr(node.target, '__name__', ''))
    in_place = name in ('setitem', '__setitem__') or (name.endswith('_') and not name.endswith('__'))
    return node.op in ('call_method', 'call_function') and in_place and bool(node.args)


class _StandIn(nn.Module):
    """Replaces a choice of any host in the trace."""

    def __init__(self, choice: Choice) -> None:
        super().__init__()
        self.choice = choice


class _Tracer(fx.Tracer):
    """Traces PyTorch's own modules only if they contain choices, and never traces choices."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        if isinstance(m, _StandIn):
            return True
        return super().is_leaf_module(m, module_qualified_name) and not any(isinstance(one, _StandIn) for one in m.modules())


def _candidates(node: fx.Node, choice: InputNode) -> Dict[Optional[int], Any]:
    """The candidates of an InputChoice by index; under None if they cannot be distinguished."""
    given, *_ = [*node.args, *node.kwargs.values()]
    if isinstance(given, (list, tuple)):
        return dict(enumerate(given))
    if isinstance(given, dict) and set(given) == set(choice.choose_from):  # classic NNI also accepts a dict by key
        return {i: given[key] for i, key in enumerate(choice.choose_from)}
    return {None: given}


def _behind(value: Any, choices: Mapping[fx.Node, Choice]) -> Set[fx.Node]:
    """The nearest choices that a value is computed from."""
    found: Set[fx.Node] = set()
    seen: Set[fx.Node] = set()
    ahead: List[fx.Node] = []
    fx.node.map_arg(value, ahead.append)
    while ahead:
        node = ahead.pop()
        if node in seen:
            continue
        seen.add(node)
        if node in choices:
            found.add(node)
        else:
            ahead.extend(node.all_input_nodes)
    return found
