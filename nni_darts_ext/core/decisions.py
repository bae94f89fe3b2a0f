"""Apply an architecture to a model, in any form that a family of NNI writes."""

from __future__ import annotations

import copy
import os
import reprlib
from typing import AbstractSet, Any, Dict, List, Mapping, Optional, Sequence, Tuple, Union

import torch
from torch import nn

from ..errors import ArchitectureError
from . import files
from .absent import absent, is_absent
from .derivation import unread
from .edge.layers import begins_in_place, layers_of
from .edge.mixture import reduce
from .export import SCHEMA, VERSION
from .modules import replace
from .nested import map_tensors, tensors_of
from .space import Choice, Edge, Readers, SearchSpace, candidates_of

Architecture = Union[str, 'os.PathLike[str]', Mapping[str, Any]]


MAX_SIZE = 2 ** 20
"""Maximum size in bytes of a file with an architecture. Those of NNI's largest spaces have some thousands."""


def load(architecture: Architecture) -> Mapping[str, Any]:
    """The architecture, or the one in the JSON file of that name, without its envelope. Raises :class:`ArchitectureError` if the
    file is missing, too large, not JSON or not a JSON object, or if the envelope has a version that this package cannot read."""
    if isinstance(architecture, Mapping):
        return _unwrapped(architecture, 'The architecture')
    if not isinstance(architecture, (str, os.PathLike)):
        raise ArchitectureError(f'A {type(architecture).__name__} is not an architecture. Expected a dict or the name of a file.')
    name = repr(os.fspath(architecture))
    try:
        content = files.parse(files.read(architecture, MAX_SIZE))
    except (OSError, ValueError) as error:
        raise ArchitectureError(f'The architecture {name} cannot be read: {error}. Expected a JSON file, as '
                                'trainer.export(file) or json.dump(mutator.export(), file) writes it.') from error
    if not isinstance(content, dict):
        raise ArchitectureError(f'{name} holds {type(content).__name__}. Expected an object that maps the key of each choice to '
                                'what was chosen.')
    return _unwrapped(content, name)


def _unwrapped(content: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """The architecture inside an envelope (see :func:`nni_darts_ext.core.export.enveloped`); without one, the content itself."""
    if content.get('schema') != SCHEMA:
        return content
    version, architecture = content.get('version'), content.get('architecture')
    if type(version) is not int or version != VERSION:
        raise ArchitectureError(f'{name} has version {reprlib.repr(version)} of {SCHEMA}, but this nni_darts_ext reads only '
                                f'version {VERSION}. Read it with the nni_darts_ext that wrote it.')
    if set(content) != {'schema', 'version', 'architecture'} or not isinstance(architecture, Mapping):
        raise ArchitectureError(f'{name} has {list(content)} around {type(architecture).__name__}. Expected "schema", '
                                '"version" and "architecture", an object that maps the key of each choice to what was chosen.')
    return architecture


def decide(space: SearchSpace, architecture: Mapping[str, Any], strict: bool = True,
           readers: Optional[Readers] = None) -> Dict[str, List[bool]]:
    """For each choice of a space, whether an architecture keeps each of its candidates.

    Parameters
    ----------
    space
        The search space of the model.
    architecture
        For each key a name, an index, a list of these, or a list of bools. The exports of every family are accepted: classic
        (``[]`` for a dropped edge), Retiarii's, and samples of NNI 3.0 (which name a candidate for every edge; edges whose
        output nothing reads are dropped).
    strict
        Whether every choice must have a decision and every key must be a choice of the model. Default True. If False, choices
        without a decision are left out of the result and unknown keys are ignored.
    readers
        What reads the outputs of the edges in the model, see :func:`nni_darts_ext.core.derivation.unread`. Default None: unknown.

    Raises
    ------
    ArchitectureError
        Keys are missing or unexpected; a choice has no such candidate; an InputChoice keeps a dropped edge.
    """
    missing = [choice.key for choice in space if choice.key not in architecture]
    unexpected = [key for key in architecture if key not in space.edges and key not in space.inputs]
    if strict and (missing or unexpected):
        raise ArchitectureError(f'The architecture does not fit this model: keys {missing} are missing, {unexpected} are '
                                'unexpected. Apply it to the model that was searched, or pass strict=False.')
    decisions = {choice.key: _parse(choice, space, architecture[choice.key]) for choice in space if choice.key in architecture}
    kept = {key: decision for key, decision in decisions.items() if key in space.inputs}
    for key, decision in kept.items():
        for source in (source for source, is_kept in zip(space.sources[key], decision) if is_kept):
            if source in space.edges and not any(decisions.get(source, [True])):
                raise ArchitectureError(
                    f'InputChoice {key!r} keeps the input from LayerChoice {source!r}, which the architecture drops. (NNI\'s own '
                    f'DartsMutator writes such architectures if InputChoices share an edge.) Name a candidate for {source!r}, '
                    f'one of {list(space.edges[source].names)}, or leave it out of {key!r}.')
    dropped = unread(space, kept, readers)
    return {key: [False] * len(decision) if key in dropped else decision for key, decision in decisions.items()}


def dropped_but_read(space: SearchSpace, decisions: Mapping[str, List[bool]], readers: Readers) -> List[str]:
    """The edges that are dropped although the remaining network reads their outputs."""
    unneeded = unread(space, {key: decisions[key] for key in space.inputs if key in decisions}, readers)
    return [key for key in space.edges if key in readers and not any(decisions.get(key, [True])) and key not in unneeded]


def _parse(choice: Choice, space: SearchSpace, value: Any) -> List[bool]:
    names = [str(name) for name in choice.names] if isinstance(choice, Edge) else list(choice.choose_from)
    sources = names if isinstance(choice, Edge) else list(space.sources[choice.key])
    values = list(value) if isinstance(value, (list, tuple)) else [value]
    decision = values
    if not values or not all(isinstance(one, bool) for one in values):
        chosen = set()
        for one in values:
            if isinstance(one, int) and not isinstance(one, bool) and 0 <= one < len(names):
                chosen.add(one)
            elif isinstance(one, str) and names.count(one) == 1:  # including NO_KEY
                chosen.add(names.index(one))
            elif isinstance(one, str) and one and sources.count(one) == 1:  # a source that the model itself does not name
                chosen.add(sources.index(one))
            else:
                raise _unfit(choice, sources, value)
        decision = [i in chosen for i in range(len(names))]
    if len(decision) != len(names) or (isinstance(choice, Edge) and sum(decision) > 1):
        raise _unfit(choice, names, value)
    return decision


def _unfit(choice: Choice, names: Sequence[str], value: Any) -> ArchitectureError:
    if isinstance(choice, Edge):
        return ArchitectureError(f'LayerChoice {choice.key!r} cannot be {reprlib.repr(value)}. Expected one of {list(names)}, an '
                                 f'index from 0 to {len(names) - 1}, or [] to drop it.')
    return ArchitectureError(f'InputChoice {choice.key!r} cannot keep {reprlib.repr(value)}. Expected some of the sources '
                             f'{list(names)} or indices from 0 to {len(names) - 1}.')


def apply(model: nn.Module, choices: Mapping[nn.Module, Choice], decisions: Mapping[str, List[bool]],
          as_none: AbstractSet[str] = frozenset()) -> nn.Module:
    """Replace each choice by what was chosen. Candidates that were not chosen leave neither parameters nor computation.

    A choice is replaced wherever a module of the model holds it: under every name, and in lists, tuples and dicts among its
    attributes. Other references to the choice, such as closures, call what was chosen.

    Parameters
    ----------
    model
        The model, changed in place.
    choices
        The choice that each of its choice modules stands for.
    decisions
        The result of :func:`decide`. Choices without a decision stay.
    as_none
        The dropped edges that return None, as NNI's do. The others return an absent tensor, which operations between the edge
        and an InputChoice accept. Default: no edge returns None.

    Returns
    -------
    nn.Module
        The model, or what was chosen if the model itself is a choice.
    """
    chosen = {module: _chosen(module, choice, decisions[choice.key], choice.key in as_none)
              for module, choice in choices.items() if choice.key in decisions}
    replace(model, chosen)
    for module, instead in chosen.items():
        vars(module)['forward'] = instead.__call__
    return chosen.get(model, model)


def _chosen(module: Any, choice: Choice, decision: List[bool], as_none: bool) -> nn.Module:
    kept = [i for i, is_kept in enumerate(decision) if is_kept]
    chosen: nn.Module
    if not isinstance(choice, Edge):
        chosen = ChosenInputs(choice.key, kept, module.reduction, choice.choose_from)
    elif kept:
        chosen = candidates_of(module, choice)[kept[0]]
        if begins_in_place(layers_of(chosen)):  # it would overwrite an input that other edges also read
            chosen.register_forward_pre_hook(_with_copies)
    else:
        chosen = DroppedEdge(None if as_none else candidates_of(module, choice)[0])
    return WithMask(chosen, decision) if getattr(module, 'return_mask', False) else chosen


def _with_copies(module: nn.Module, args: Any) -> Any:
    return map_tensors(torch.clone, args)


class DroppedEdge(nn.Module):
    """An edge whose output nothing reads. It has no parameters and computes nothing.

    By default it returns None, as NNI's does. With a module ``like`` it returns an :class:`nni_darts_ext.core.absent.Absent`
    tensor of the shape of this module's output, for operations between the edge and the InputChoice.
    """

    def __init__(self, like: Optional[nn.Module] = None) -> None:
        super().__init__()
        self._gives_none = like is None
        try:
            self._like = () if like is None else (copy.deepcopy(like).to('meta'),)  # in a tuple, so that it is not registered
        except Exception:  # it cannot be copied: the output is assumed to have the shape of the input
            self._like = ()

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        if self._gives_none:
            return None
        given = absent((args, kwargs))
        dtype = next((tensor.dtype for tensor in tensors_of(given) if tensor.is_floating_point()), None)
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            for like in self._like:
                try:
                    return absent(like.to(dtype).eval()(*given[0], **given[1]))
                except Exception:  # an operation without a shape function
                    break
        return given[0][0] if args else next(iter(given[1].values()))


class ChosenInputs(nn.Module):
    """An InputChoice after its decision: reduces the chosen inputs. Raises :class:`ArchitectureError` if one of them was computed
    from an edge that was dropped."""

    def __init__(self, key: str, chosen: List[int], reduction: str, choose_from: Sequence[str]) -> None:
        super().__init__()
        self.key = key
        self.chosen = chosen
        self.reduction = reduction
        self.choose_from = choose_from

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        candidates, = (*args, *kwargs.values())  # the parameter's name differs between hosts
        if isinstance(candidates, Mapping):  # classic NNI also accepts a dict
            candidates = [candidates[key] for key in self.choose_from]
        kept = [candidates[i] for i in self.chosen]
        for i, value in zip(self.chosen, kept):
            if value is None or is_absent(value):
                raise ArchitectureError(
                    f'InputChoice {self.key!r} keeps its candidate {i}, which is computed from a LayerChoice that the '
                    'architecture drops. Name a candidate for that LayerChoice, or export the architecture again after a forward '
                    'pass of the supernet, which finds out what reads each LayerChoice.')
        return reduce(kept, self.reduction) if kept or self.reduction == 'none' else None

    def extra_repr(self) -> str:
        return f'{self.key!r}, chosen={self.chosen}, reduction={self.reduction!r}'


class WithMask(nn.Module):
    """Returns the output and the mask of the chosen candidates, for ``return_mask=True`` of classic NNI."""

    def __init__(self, module: nn.Module, decision: List[bool]) -> None:
        super().__init__()
        self.module = module
        self.decision = decision

    def forward(self, *args: Any, **kwargs: Any) -> Tuple[Any, List[bool]]:
        return self.module(*args, **kwargs), self.decision
