"""The hyper-parameters with which an experiment searches."""

from __future__ import annotations

import itertools
from typing import Any, Dict, Iterator, Mapping

from ..errors import SearchSpaceError
from .task import Task


def combinations(search_space: Mapping[str, Any], seed: int) -> Iterator[Dict[str, Any]]:
    """The hyper-parameters of the searches with one seed.

    Parameters
    ----------
    search_space
        In NNI's form, ``{name: {'_type': ..., '_value': [...]}}``.
    seed
        The seed of the random values, so that the same experiment always has the same searches.

    Raises
    ------
    SearchSpaceError
        A name is reserved by the tuner, or NNI does not have a type.
    """
    import numpy as np
    from nni import parameter_expressions

    for name, spec in search_space.items():
        if name in Task._fields:
            raise SearchSpaceError(f'The search space varies {name!r}, a name that DartsTuner reserves. Rename it.')
        if not isinstance(spec, Mapping) or not hasattr(parameter_expressions, str(spec.get('_type'))):
            raise SearchSpaceError(f'The search space has {spec!r} for {name!r}. Expected {{"_type": "choice", "_value": [...]}} '
                                   'or another type of NNI.')
    choices = {name: spec['_value'] for name, spec in search_space.items() if spec['_type'] == 'choice'}
    for i, chosen in enumerate(itertools.product(*choices.values())):
        state = np.random.RandomState([seed, i])
        drawn = {name: _plain(getattr(parameter_expressions, spec['_type'])(*spec['_value'], state))
                 for name, spec in search_space.items() if name not in choices}
        yield {**dict(zip(choices, chosen)), **drawn}


def _plain(value: Any) -> Any:
    """A value without numpy types. Whole numbers become int, so that they can be a number of epochs, for example."""
    value = value.item() if hasattr(value, 'item') else value
    return int(value) if isinstance(value, float) and value.is_integer() else value
