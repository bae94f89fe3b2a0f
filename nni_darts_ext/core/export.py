"""The forms in which a derived architecture is exported."""

from __future__ import annotations

from typing import Any, Dict, List, Mapping, Union

from .derivation import Derivation
from .space import Choice, Edge, Name, SearchSpace

SCHEMA, VERSION = 'nni_darts_ext/architecture', 1


def to_classic(space: SearchSpace, derivation: Derivation) -> Dict[str, Any]:
    """``{key: name | index | list}`` as classic NNI writes it, edges first.

    A single name is not in a list; ``[]`` if nothing is chosen. Indices are used if the names are all digits or not distinct.
    """
    return {choice.key: _readable(choice, derivation.decisions[choice.key]) for choice in space}


def to_sample(space: SearchSpace, derivation: Derivation) -> Dict[str, Any]:
    """``{label: name}`` for edges and ``{label: [indices]}`` for inputs: a sample with which NNI 3.0 freezes a space.

    A sample cannot drop an edge: it names the best candidate of a dropped edge, and the inputs leave the edge out. In the
    network that NNI makes from it, the edge is computed although nothing reads it.
    """
    sample: Dict[str, Any] = {key: edge.names[derivation.best[key]] for key, edge in space.edges.items()}
    for key in space.inputs:
        sample[key] = [i for i, chosen in enumerate(derivation.decisions[key]) if chosen]
    return sample


def in_form(form: str, space: SearchSpace, derivation: Derivation) -> Dict[str, Any]:
    """An architecture in one of the forms ``'classic'`` and ``'sample'``."""
    forms = {'classic': to_classic, 'sample': to_sample}
    if form not in forms:
        raise ValueError(f'form={form!r} is unknown. Expected one of {sorted(forms)}.')
    return forms[form](space, derivation)


def enveloped(architecture: Mapping[str, Any]) -> Dict[str, Any]:
    """An architecture in an envelope that says what the file is. NNI itself reads only architectures without an envelope."""
    return {'schema': SCHEMA, 'version': VERSION, 'architecture': dict(architecture)}


def _readable(choice: Choice, decision: List[bool]) -> Union[Name, List[Name]]:
    names = [str(name) for name in choice.names] if isinstance(choice, Edge) else list(choice.choose_from)
    by_name = len(set(names)) == len(names) and not (isinstance(choice, Edge) and all(name.isdigit() for name in names))
    chosen: List[Name] = [names[i] if by_name else i for i, kept in enumerate(decision) if kept]
    return chosen[0] if len(chosen) == 1 else chosen
