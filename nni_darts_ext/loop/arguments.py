"""The arguments that trainer and strategies share: what they mean, said once, and what is said of unknown ones."""

from __future__ import annotations

import difflib
import functools
import inspect
from typing import Any, Callable, TypeVar

from .. import methods
from ..errors import ArgumentError

F = TypeVar('F', bound=Callable[..., None])

SHARED = """unrolled
        The second order, see :mod:`nni_darts_ext.core.bilevel.estimators`: True or ``'exact'`` for the exact gradient through one
        virtual step, ``'finite_difference'`` for the paper's approximation of it. Default False, first order (source: NNI).
    methods
        What the search does beyond plain DARTS, a list of objects of :mod:`nni_darts_ext.methods`. Default: none.
    zero_op_wins
        See :func:`nni_darts_ext.core.derivation.derive`. Default False, what classic NNI's class does.
    choose_from
        For InputChoices by key the sources of their candidates, where those that the model names must not count. Default: what
        :func:`nni_darts_ext.nn.InputChoice` was given, and what the first forward pass shows where it was given nothing.
    arc_learning_rate, arc_betas, arc_weight_decay
        Of Adam, which steps the logits. Default 3e-4, (0.5, 0.999) and 1e-3 (source: the paper).
    channels_last
        Whether model and images of four dimensions lie in memory with the channels last: the same numbers to rounding, and
        faster for convolutions and poolings on most devices. Default False.
    recompute
        Whether what an edge computes on the way is computed again in the backward pass instead of saved for it: far less memory,
        more time, the same numbers; running statistics move once. Default False.
    compile
        Whether ``torch.compile`` makes one program of each kind of edge, or the name of its mode (``'reduce-overhead'``, say). It
        takes minutes at first. Where it cannot, a warning says why and the search continues without. Not with the exact second
        order and methods that need second derivatives. Default False.
    run_dir
        A folder for the run: settings, metrics and weights of each epoch, and the architecture, which ``nni-darts-ext show``,
        ``plot`` and ``report`` read, also during the search; TensorBoard's scalars where that is installed. See
        :mod:`nni_darts_ext.run`. A search that resumes continues the run in it; one that starts anew is refused a folder that
        holds a run. Default: none.
    progress
        Whether a bar in the terminal shows the progress of an epoch. Default None: {progress}."""
"""Entries of a docstring, the first without its indentation."""


def known_keywords(init: F) -> F:
    """Let a constructor say which keyword was meant by one that it does not have.

    Raises
    ------
    ArgumentError
        By the constructor: a keyword is unknown.
    """
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
