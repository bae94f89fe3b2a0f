"""What reads the outputs of LayerChoices in a model that has not run, found by a symbolic trace (:mod:`torch.fx`)."""

from __future__ import annotations

import inspect
import logging
from typing import Any, Dict, List, Mapping, NamedTuple, Optional, Set

import torch
from torch import fx, nn

from .modules import replaced
from .space import Choice, Edge, InputNode, Reader, Readers

_logger = logging.getLogger(__name__)


class Flow(NamedTuple):
    """Where the outputs of the edges of a model go."""

    readers: Readers
    """What reads the output of each edge."""
    straight: Set[str]
    """The edges whose outputs go straight to InputChoices, with nothing in between."""


def flow(model: nn.Module, choices: Mapping[nn.Module, Choice]) -> Optional[Flow]:
    """Trace a model.

    Parameters
    ----------
    model
        The model.
    choices
        What each of its choice modules is.

    Returns
    -------
    Flow or None
        None where the model cannot be traced: the control flow of its forward depends on data, say.
    """
    if model in choices:
        return None
    instead: Dict[nn.Module, nn.Module] = {module: _StandIn(choice) for module, choice in choices.items()}
    defaults = {name: parameter.default for name, parameter in inspect.signature(type(model).forward).parameters.items()
                if parameter.default is not inspect.Parameter.empty}
    try:
        with torch.random.fork_rng(devices=[]), replaced(model, instead):
            graph = _Tracer().trace(model, defaults)
            modules = dict(model.named_modules())
    except Exception as error:  # of the model's own code, which meets symbols in the place of tensors
        _logger.info('%s cannot be traced: %s: %s', type(model).__name__, type(error).__name__, error)
        return None
    called = ((node, modules.get(str(node.target))) for node in graph.nodes if node.op == 'call_module')
    found: Dict[fx.Node, Choice] = {node: module.choice for node, module in called if isinstance(module, _StandIn)}
    edges = {choice.key for choice in choices.values() if isinstance(choice, Edge)}
    seen = {choice.key for choice in found.values()}
    readers: Dict[str, Set[Reader]] = {key: set() if key in seen else {None} for key in edges}

    def read(value: Any, reader: Reader) -> None:
        for node in _behind(value, found):
            if isinstance(found[node], Edge):
                readers[found[node].key].add(reader)
    for node, choice in found.items():
        if isinstance(choice, Edge):
            read((node.args, node.kwargs), choice.key)
            continue
        for i, candidate in _candidates(node, choice).items():
            read(candidate, None if i is None else (choice.key, i))
    read([node.args for node in graph.nodes if node.op == 'output'], None)
    astray = {choice.key for node, choice in found.items()
              if not all(isinstance(found.get(user), InputNode) for user in node.users)}
    return Flow(readers, seen & edges - astray)


class _StandIn(nn.Module):
    """A choice in the trace, whichever host it is of."""

    def __init__(self, choice: Choice) -> None:
        super().__init__()
        self.choice = choice


class _Tracer(fx.Tracer):
    """Looks into modules of PyTorch's own only if they hold choices, and never into choices."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        if isinstance(m, _StandIn):
            return True
        return super().is_leaf_module(m, module_qualified_name) and not any(isinstance(one, _StandIn) for one in m.modules())


def _candidates(node: fx.Node, choice: InputNode) -> Dict[Optional[int], Any]:
    """The candidates of an InputChoice by index; under None what cannot be told apart."""
    given, *_ = [*node.args, *node.kwargs.values()]
    if isinstance(given, (list, tuple)):
        return dict(enumerate(given))
    if isinstance(given, dict) and set(given) == set(choice.choose_from):  # classic NNI takes it by key
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
