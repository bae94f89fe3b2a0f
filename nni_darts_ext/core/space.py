"""The search space: the edges of the supernet and the inputs chosen among them.

Each host translates its models into these descriptions; the rest of the core uses only the descriptions.
"""

from __future__ import annotations

import logging
import reprlib
from dataclasses import dataclass
from typing import AbstractSet, Any, Dict, Iterable, Iterator, List, Mapping, Optional, Sequence, Set, Tuple, Union

from torch import nn

from ..errors import SearchSpaceError
from .modules import Kinds, unregistered

_logger = logging.getLogger(__name__)

NO_KEY = ''
"""The entry of ``choose_from`` for an input that does not come from a LayerChoice. NNI's own constant has the same value."""

Name = Union[str, int]


@dataclass(frozen=True)
class Edge:
    """A LayerChoice: n candidates, of which at most one is derived."""

    key: str
    names: Tuple[Name, ...]
    """The candidates' names in the host: int for list candidates on NNI 3.0, else str."""
    path: str = ''
    """The path of the module in the model, for messages."""
    reduction: Optional[str] = None
    """The reduction of the candidates' outputs; None if the host has none."""


@dataclass(frozen=True)
class InputNode:
    """An InputChoice: ``n_chosen`` of its candidates are derived; all of them if None."""

    key: str
    choose_from: Tuple[str, ...]
    """The key of the source of each candidate as the model names it; :data:`NO_KEY` if it names none."""
    n_chosen: Optional[int]
    path: str = ''
    reduction: Optional[str] = None
    """The reduction of the chosen inputs; None if unknown."""

    @property
    def names_sources(self) -> bool:
        return any(source != NO_KEY for source in self.choose_from)


Choice = Union[Edge, InputNode]

Reader = Union[None, str, Tuple[str, int]]
"""What reads the output of a LayerChoice: another LayerChoice, by its key; a candidate of an InputChoice, by key and index; None
for anything else, the output of the model included."""
Readers = Mapping[str, AbstractSet[Reader]]
"""For the key of each LayerChoice its readers, direct or through other operations."""


class SearchSpace:
    """A validated set of choices, in the order of the model's modules; choices that share a key count once.

    Parameters
    ----------
    choices
        All choices found in the model, duplicates included.
    other_keys
        Keys that ``choose_from`` may name although they have no logits (NNI's mutable scopes). They count as :data:`NO_KEY`.
    choose_from
        Sources of InputChoices by key, named by the user. They override those of the model.
    may_lack_edges
        Whether a space without edges is allowed, because the host also searches other choices. Default False.

    Attributes
    ----------
    sources
        For each InputNode the key of the source of each candidate; :data:`NO_KEY` if there is none.
    given
        The entries of ``sources`` that the model or the user names, without those that a forward pass has found.
    unnamed
        The InputNodes that have no named source yet.
    readers
        What reads the output of each edge; None before the first forward pass.
    layer_choices
        Every LayerChoice of the model, including those that share a key.

    Raises
    ------
    SearchSpaceError
        There is no edge; choices of different kinds, candidates, ``n_chosen`` or sources share a key; ``choose_from`` has an
        unknown key; ``n_chosen`` is out of range.
    """

    def __init__(self, choices: Iterable[Choice], other_keys: Iterable[str] = (),
                 choose_from: Optional[Mapping[str, Sequence[str]]] = None, may_lack_edges: bool = False) -> None:
        self.edges: Dict[str, Edge] = {}
        self.inputs: Dict[str, InputNode] = {}
        self.readers: Optional[Readers] = None
        self.layer_choices: List[Edge] = []
        self._narrowing: Dict[str, Choice] = {}
        choose_from = choose_from or {}
        for choice in choices:
            self._add(choice, choice.key in choose_from)
        if not self.edges and not may_lack_edges:
            raise SearchSpaceError('The model has no LayerChoice: there is nothing to search. Build the candidates of each edge '
                                   'with nni_darts_ext.nn.LayerChoice.')
        self.sources: Dict[str, Tuple[str, ...]] = {key: node.choose_from for key, node in self.inputs.items()}
        self.unnamed: Set[str] = {key for key, node in self.inputs.items() if not node.names_sources}
        for key, sources in choose_from.items():
            self.name_sources(key, tuple(sources))
        self.given = {key: sources for key, sources in self.sources.items() if key not in self.unnamed}
        self._check_sources(set(self.edges) | set(self.inputs) | set(other_keys) | {NO_KEY})

    def name_sources(self, key: str, sources: Tuple[str, ...]) -> None:
        """Set the sources of the candidates of an InputNode."""
        if key not in self.inputs or len(sources) != len(self.inputs[key].choose_from):
            raise SearchSpaceError(
                f'choose_from names {len(sources)} sources for {key!r}, but the model has '
                + (f'an InputChoice of {len(self.inputs[key].choose_from)} candidates there.' if key in self.inputs
                   else f'no such InputChoice, only {sorted(self.inputs)}.') + ' Name one source for each candidate.')
        self.sources[key] = sources
        self.unnamed.discard(key)

    def __iter__(self) -> Iterator[Choice]:
        yield from self.edges.values()
        yield from self.inputs.values()

    def is_fed(self, key: str) -> bool:
        """Whether an edge is known to feed one of the candidates of the InputNode ``key``."""
        return any(source in self.edges for source in self.sources[key])

    def _add(self, choice: Choice, is_named: bool) -> None:
        """``is_named``: whether the user names its sources."""
        same_kind: Dict[str, Choice] = self.edges if isinstance(choice, Edge) else self.inputs  # type: ignore[assignment]
        other_kind = self.inputs if isinstance(choice, Edge) else self.edges
        if isinstance(choice, Edge):
            self.layer_choices.append(choice)
        if choice.key in other_kind:
            raise SearchSpaceError(
                f'Key {choice.key!r} names an InputChoice and a LayerChoice ({other_kind[choice.key].path!r} and '
                f'{choice.path!r}). A key stands for one decision: give one of the two another key.')
        if isinstance(choice, InputNode):
            check_n_chosen(choice.n_chosen, len(choice.choose_from), choice.key)
        if choice.reduction == 'concat' and _kept(choice) < _offered(choice):
            self._narrowing.setdefault(choice.key, choice)
        known = same_kind.setdefault(choice.key, choice)
        one, other = _meaning(known), _meaning(choice)
        for what in one:
            if one[what] != other[what] and None not in (one[what], other[what]) and not (what == 'sources' and is_named):
                raise SearchSpaceError(
                    f'Key {choice.key!r} is shared by choices with different {what}: {one[what]} at {known.path!r}, '
                    f'{other[what]} at {choice.path!r}. Choices that share a key share one decision, which must mean the same '
                    'for all of them: make them equal, in the same order, or give one of them another key.')
        if one.get('sources', ()) is None:
            same_kind[choice.key] = choice  # this one may name the sources

    def warn_of_narrowing(self) -> None:
        """Warn of choices whose output has fewer channels in the derived network than in the supernet."""
        for key, choice in self._narrowing.items():
            _logger.warning(
                "The choice %r at %r has reduction='concat': in the search its output has the channels of all %d candidates, in "
                'the derived network only those of %d. Build the layers that follow it to match the derived network, or use '
                "reduction='sum' or 'mean'%s.", key, choice.path, _offered(choice), _kept(choice),
                '' if isinstance(choice, Edge) else ' or n_chosen=None')

    def _check_sources(self, known: set) -> None:
        for key, sources in self.sources.items():
            unknown = sorted({source for source in sources if source not in known})
            if unknown:
                raise SearchSpaceError(
                    f'InputChoice {key!r} names {unknown} in choose_from, which the model does not have. Its keys '
                    f'are {sorted(self.edges)}. Name one of these, or InputChoice.NO_KEY for a candidate that does not come '
                    'from a LayerChoice.')


def _meaning(choice: Choice) -> Dict[str, Any]:
    """What choices with the same key must have in common; None if unknown. Reductions may differ, as in NNI."""
    if isinstance(choice, Edge):
        return {'candidates': list(choice.names)}
    return {'numbers of candidates': _offered(choice), 'n_chosen': _kept(choice),
            'sources': list(choice.choose_from) if choice.names_sources else None}


def _offered(choice: Choice) -> int:
    return len(choice.names if isinstance(choice, Edge) else choice.choose_from)


def _kept(choice: Choice) -> int:
    if isinstance(choice, Edge):
        return 1
    return _offered(choice) if choice.n_chosen is None else choice.n_chosen


def check_n_chosen(n_chosen: Optional[int], n_candidates: int, key: Optional[str]) -> None:
    """Raise ``SearchSpaceError`` unless ``n_chosen`` is None or between 0 and ``n_candidates``."""
    if n_chosen is not None and not 0 <= n_chosen <= n_candidates:
        raise SearchSpaceError(
            f'InputChoice {key!r} has n_chosen={n_chosen} of {n_candidates} candidates. '
            f'Expected None (keep all) or a number from 0 to {n_candidates}.')


def find_modules(model: nn.Module, kinds: Kinds, scopes: Kinds = ()) -> List[Tuple[str, nn.Module]]:
    """All modules of the given kinds with their paths, each module once, in the order of the model's modules.

    Only modules that are also one of the ``scopes`` may contain further choices. Raises :class:`SearchSpaceError` if a choice is
    inside another one, or in a plain container, where PyTorch does not see it.
    """
    for path, module in unregistered(model, kinds):
        raise SearchSpaceError(f'The {type(module).__name__} in {path!r} is in a plain list, tuple or dict, where neither '
                               'PyTorch nor NNI finds it. Use torch.nn.ModuleList or ModuleDict.')
    found: List[Tuple[str, nn.Module]] = []
    outer: List[str] = []
    for path, module in model.named_modules():
        if isinstance(module, kinds):
            refuse_nested(path, outer)
            found.append((path, module))
            if not isinstance(module, scopes):
                outer.append(path)
    return found


def refuse_nested(path: str, outer: Iterable[str]) -> None:
    """Raise ``SearchSpaceError`` if the choice at ``path`` is inside one of the choices at ``outer``."""
    for around in outer:
        if path.startswith(f'{around}.' if around else ''):
            raise SearchSpaceError(
                f'The choice at {path!r} lies inside the choice at {around!r}. DARTS cannot search a choice within a candidate: '
                'move it out, or turn its alternatives into candidates of the outer choice.')


def edge_of(module: nn.Module, key: str, names: Iterable[Name], path: str) -> Edge:
    """The description of a LayerChoice whose candidates have these names. Raises :class:`SearchSpaceError` if it has no
    candidates, or one is not a module."""
    edge = Edge(key, tuple(names), path, getattr(module, 'reduction', None))
    check_candidates(((name, module._modules.get(str(name))) for name in edge.names), f'{key!r} at {path!r}')
    return edge


def check_candidates(candidates: Iterable[Tuple[Name, Any]], which: str) -> None:
    """Raise ``SearchSpaceError`` unless there are candidates and all are modules. ``which`` names the LayerChoice."""
    named = list(candidates)
    if not named:
        raise SearchSpaceError(f'LayerChoice {which} has no candidates. Give it at least one module.')
    for name, candidate in named:
        if not isinstance(candidate, nn.Module):
            raise SearchSpaceError(f'Candidate {name!r} of LayerChoice {which} is {reprlib.repr(candidate)}. Expected a module: '
                                   'an nn.Sequential for several layers, nn.Identity() for a skip connection. The zero op needs '
                                   'no candidate, as every edge has it.')


def candidates_of(module: nn.Module, edge: Edge) -> List[nn.Module]:
    """The candidates of a LayerChoice. Every host registers them under their names."""
    return [module._modules[str(name)] for name in edge.names]  # type: ignore[misc]


def candidates_in(model: nn.Module, space: SearchSpace) -> Dict[str, List[nn.Module]]:
    """For each edge of a model's search space the candidates of every LayerChoice with its key."""
    modules = dict(model.named_modules())
    found: Dict[str, List[nn.Module]] = {}
    for edge in space.layer_choices:
        if edge.path in modules:
            found.setdefault(edge.key, []).extend(candidates_of(modules[edge.path], edge))
    return found
