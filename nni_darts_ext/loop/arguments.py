"""The documentation of the arguments that trainer and strategies share, and the error for unknown arguments."""

from __future__ import annotations

import difflib
import functools
import inspect
from typing import Any, Callable, TypeVar

from .. import methods
from ..errors import ArgumentError

F = TypeVar('F', bound=Callable[..., None])

SHARED = """unrolled
        Whether to use the second order, see :mod:`nni_darts_ext.core.bilevel.estimators`: True or ``'exact'`` for the exact
        gradient through one virtual step, ``'finite_difference'`` for the paper's approximation of it. Default False, first order
        (source: NNI).
    methods
        Additions to plain DARTS, a list of objects of :mod:`nni_darts_ext.methods`, or ``'recommended'`` for those of
        :func:`nni_darts_ext.methods.recommendation.recommended`, against a collapse. Default: none.
    zero_op_wins
        See :func:`nni_darts_ext.core.derivation.derive`. Default False (source: classic NNI).
    choose_from
        The sources of the candidates of InputChoices, by key; they take precedence over those that the model names. Default: the
        sources given to :func:`nni_darts_ext.nn.InputChoice`; where there are none, they are found in the first forward pass.
    arc_learning_rate, arc_betas, arc_weight_decay
        The options of Adam for the logits. Default 3e-4, (0.5, 0.999) and 1e-3 (source: the paper).
    channels_last
        Whether the model and inputs of four dimensions use the channels-last memory format. The results are the same up to
        rounding; convolutions and poolings are faster on most devices. Default False.
    recompute
        Whether the activations of an edge are computed again in the backward pass instead of being stored. This takes far less
        memory and more time; the results are the same, and running statistics are updated once. Default False.
    compile
        Whether to compile each kind of edge with ``torch.compile``, or the name of its mode, such as ``'reduce-overhead'``.
        Compiling takes minutes at the start. Where it fails, a warning gives the reason and the search continues without it.
        It does not work with the exact second order or methods that need second derivatives. Default False.
    run_dir
        A folder in which to record the run: settings, metrics and weights of each epoch, and the architecture.
        ``nni-darts-ext show``, ``plot`` and ``report`` read it, also during the search. Scalars for TensorBoard are also written
        if it is installed. See :mod:`nni_darts_ext.run`. A search that resumes continues the recorded run; a new search
        must not use a folder that contains a run. Default: none.
    progress
        Whether to show a progress bar for each epoch in the terminal. Default None: {progress}."""
"""Entries of a numpydoc section. The first line has no indentation."""


def known_keywords(init: F) -> F:
    """Decorate a constructor, so that it raises :class:`ArgumentError` for an unknown keyword and suggests a similar one."""
    known = [name for name in inspect.signature(init).parameters if name != 'self']

    @functools.wraps(init)
    def checked(self: Any, *args: Any, **kwargs: Any) -> None:
        for name in kwargs:
            if name not in known:
                nearest = [repr(one) for one in difflib.get_close_matches(name, known, 1)] or [
                    f'methods=[{method}(...)]' for method in methods.known() if name.replace('_', '') in method.lower()]
                raise ArgumentError(f'{type(self).__name__} has no argument {name!r}. '
                                    + (f'Did you mean {nearest[0]}? ' if nearest else '') + f'It has {", ".join(known)}.')
        init(self, *args, **kwargs)
    return checked  # type: ignore[return-value]
