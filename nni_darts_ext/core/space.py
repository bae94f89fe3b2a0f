"""What is searched: the edges of the supernet and the inputs chosen among them.

Hosts read their models into these descriptions; everything else in the core works on the descriptions alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import AbstractSet, Dict, Iterable, Iterator, List, Mapping, Optional, Sequence, Set, Tuple, Union

from torch import nn

from ..errors import SearchSpaceError
from .modules import Kinds, unregistered

NO_KEY = ''
"""Stands in ``choose_from`` for an input with no LayerChoice behind it. NNI's own constant has the same value."""

Name = Union[str, int]


@dataclass(frozen=True)
class Edge:
    """A LayerChoice: n candidates, of which at most one is derived."""

    key: str
    names: Tuple[Name, ...]
    """The candidates' names as the host spells them: int for list candidates on NNI 3.0, else str."""
    path: str = ''
    """Where the module sits in the model, for messages."""


@dataclass(frozen=True)
class InputNode:
    """An InputChoice: ``n_chosen`` of its candidates are derived, all of them when that is None."""

    key: str
    choose_from: Tuple[str, ...]
    """The key of the source of each candidate as the model spells it, :data:`NO_KEY` where it names none."""
    n_chosen: Optional[int]
    path: str = ''
    reduction: str = 'sum'


Choice = Union[Edge, InputNode]

Reader = Union[None, str, Tuple[str, int]]
"""What reads the output of a LayerChoice: another LayerChoice, by its key; a candidate of an InputChoice, by key and index; None
for anything else, the output of the model included."""
Readers = Mapping[str, AbstractSet[Reader]]
"""For the key of each LayerChoice what reads its output, directly or through other operations."""


class SearchSpace:
    """A validated set of choices, in the order of the model's modules; choices that share a key count once.

    Parameters
    ----------
    choices
        All choices found in the model, duplicates included.
    other_keys
        Keys that ``choose_from`` may name although no logits belong to them (NNI's mutable scopes).
        They count like :data:`NO_KEY`.
    choose_from
        Sources that the user names for InputChoices by key; they go before those of the model.
    may_lack_edges
        Whether a space without edges is one, because the host searches more than these choices. Default False.

    Attributes
    ----------
    sources
        For each InputNode the key of the source of each candidate, :data:`NO_KEY` where there is none.
    unnamed
        The InputNodes of which nobody has named a source yet.
    readers
        What reads the output of each edge; None until a forward pass has shown it.
    layer_choices
        Every LayerChoice of the model, also those that share a key.

    Raises
    ------
    SearchSpaceError
        No edge at all; a key shared by choices of different kinds or sizes; an unknown key in ``choose_from``;
        ``n_chosen`` out of range.
    """

    def __init__(self, choices: Iterable[Choice], other_keys: Iterable[str] = (),
                 choose_from: Optional[Mapping[str, Sequence[str]]] = None, may_lack_edges: bool = False) -> None:
        self.edges: Dict[str, Edge] = {}
        self.inputs: Dict[str, InputNode] = {}
        self.sources: Dict[str, Tuple[str, ...]] = {}
        self.unnamed: Set[str] = set()
        self.readers: Optional[Readers] = None
        self.layer_choices: List[Edge] = []
        for choice in choices:
            self._add(choice)
        if not self.edges and not may_lack_edges:
            raise SearchSpaceError('The model has no LayerChoice: there is nothing to search. Build the candidates of each edge with '
                                   'nni_darts_ext.nn.LayerChoice.')
        for node in self.inputs.values():
            self.sources[node.key] = node.choose_from
            if all(source == NO_KEY for source in node.choose_from):
                self.unnamed.add(node.key)
        for key, sources in (choose_from or {}).items():
            self.name_sources(key, tuple(sources))
        self._check_sources(set(self.edges) | set(self.inputs) | set(other_keys) | {NO_KEY})

    def name_sources(self, key: str, sources: Tuple[str, ...]) -> None:
        """Say where the candidates of an InputNode come from."""
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

    def _add(self, choice: Choice) -> None:
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
        known = same_kind.setdefault(choice.key, choice)
        if _size(known) != _size(choice):
            raise SearchSpaceError(
                f'Key {choice.key!r} is shared by choices of different sizes: {_size(known)} candidates at '
                f'{known.path!r}, {_size(choice)} at {choice.path!r}. Choices that share a key share one decision '
                'and must have the same candidates: make them equal, or give one of them another key.')

    def _check_sources(self, known: set) -> None:
        for key, sources in self.sources.items():
            unknown = sorted({source for source in sources if source not in known})
            if unknown:
                raise SearchSpaceError(
                    f'InputChoice {key!r} names {unknown} in choose_from, which the model does not have. Its keys '
                    f'are {sorted(self.edges)}. Name one of these, or InputChoice.NO_KEY where no LayerChoice '
                    'stands behind a candidate.')


def _size(choice: Choice) -> int:
    return len(choice.names if isinstance(choice, Edge) else choice.choose_from)


def check_n_chosen(n_chosen: Optional[int], n_candidates: int, key: Optional[str]) -> None:
    """Raise ``SearchSpaceError`` unless ``n_chosen`` is None or between 0 and ``n_candidates``."""
    if n_chosen is not None and not 0 <= n_chosen <= n_candidates:
        raise SearchSpaceError(
            f'InputChoice {key!r} shall choose n_chosen={n_chosen} of {n_candidates} candidates. '
            f'Expected None (keep all) or a number from 0 to {n_candidates}.')


def find_modules(model: nn.Module, kinds: Kinds, scopes: Kinds = ()) -> List[Tuple[str, nn.Module]]:
    """All modules of the given kinds with their paths, each module once, in the order of the model's modules.

    Modules that are also of one of the ``scopes`` may hold further choices; any other choice may not.

    Raises
    ------
    SearchSpaceError
        A choice lies inside another one, or in a plain container, where PyTorch does not see it.
    """
    for path, module in unregistered(model, kinds):
        raise SearchSpaceError(f'The {type(module).__name__} in {path!r} lies in a plain list, tuple or dict, where neither '
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
    """Raise ``SearchSpaceError`` if the choice at ``path`` lies inside one of the choices at ``outer``."""
    for around in outer:
        if path.startswith(f'{around}.' if around else ''):
            raise SearchSpaceError(
                f'The choice at {path!r} lies inside the choice at {around!r}. DARTS weighs the candidates of an edge '
                'against each other and cannot search a choice within a candidate: move it out, or turn its '
                'alternatives into candidates of the outer choice.')


def candidates_of(module: nn.Module, edge: Edge) -> List[nn.Module]:
    """The candidates of a LayerChoice, which every host registers first, and in their order."""
    return [candidate for candidate in list(module._modules.values())[:len(edge.names)] if candidate is not None]


def candidates_in(model: nn.Module, space: SearchSpace) -> Dict[str, List[nn.Module]]:
    """For each edge of a model's search space its candidates, those of every LayerChoice with its key."""
    modules = dict(model.named_modules())
    found: Dict[str, List[nn.Module]] = {}
    for edge in space.layer_choices:
        if edge.path in modules:
            found.setdefault(edge.key, []).extend(candidates_of(modules[edge.path], edge))
    return found
