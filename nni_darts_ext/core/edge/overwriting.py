"""What several read must not be written over: the candidates of an edge run on one input, and so may other edges."""

from __future__ import annotations

from typing import Any, Optional

from ..nested import tensors_of
from .shapes import CandidateError


class Watch:
    """Tells whether the tensors in a structure have been written over since it was made."""

    def __init__(self, values: Any) -> None:
        self._tensors = [tensor for tensor in tensors_of(values) if not tensor.is_inference()]  # these count no versions
        self._versions = [tensor._version for tensor in self._tensors]

    def is_broken(self) -> bool:
        return [tensor._version for tensor in self._tensors] != self._versions


class Overwritten(CandidateError):
    """A candidate writes over its input. ``which`` is its index, None if unknown."""

    def __init__(self, which: Optional[int]) -> None:
        super().__init__(
            f'Candidate {"?" if which is None else which} writes over its input.', lambda edge:
            f'{"One of the candidates" if which is None else f"The candidate {edge.names[which]!r}"} of LayerChoice {edge.key!r} '
            'writes over its input, which the other candidates and other edges read, too. Let it begin with an operation that '
            'does not work in place (inplace=False), or with input.clone().')
