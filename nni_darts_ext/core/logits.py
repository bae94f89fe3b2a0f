"""One float vector of n + 1 logits for each edge: its n candidates in their order, the zero op last.

The weights of an edge are ``softmax(logits)[:-1]`` by default: the zero op takes its share of the mass and contributes
nothing (Liu et al., section 2.2 with the "none" operation of the authors' code).
"""

from __future__ import annotations

import math
from typing import Any, Collection, Dict, Iterator, List, Optional, Sequence, Set, Tuple

import torch
from torch import Tensor, nn

from ..errors import LogitsError
from .weights import Relaxed, Weigh, running, softmax, transforms_are_active, weighed

__all__ = ['AT_ONCE', 'INITIAL_SCALE', 'Logits', 'Relaxed', 'Weigh', 'softmax', 'transforms_are_active']

AT_ONCE = ('cpu',)
"""The types of devices on which nothing has to be waited for."""

INITIAL_SCALE = 1e-3
"""Standard deviation of new logits. Source: NNI's ``DartsMutator`` and the authors' code."""


class Logits(nn.Module):
    """A mapping from the key of each edge to the parameter of its logits. Keys are any strings.

    **Cutting.** ``-inf`` written into a logit cuts that candidate, as NNI documents; so does :meth:`cut`. A value of
    ``-inf`` does not survive an optimiser (weight decay alone makes it NaN), so a cut is remembered beside the
    parameter, whose entry is held at 0 and gets a gradient of 0: optimisers see finite numbers only. ``state_dict``
    spells a cut ``-inf`` again, and loading one takes it up. What an optimiser remembers of the entry (its moments) stays 0
    after a cut before the first step; after a later one :meth:`forget` sets it to 0, which the loops of this package call. In
    other loops it fades away, for it meets gradients of 0 from then on.

    **Reading.** Which candidates need not run, and whether the logits are numbers at all, is read from the weights. On the CPU
    that is done in every pass. On other devices the host does not wait for the numbers: it reads those of an edge in the first
    pass after they may have been written, that is after the mapping handed the parameter out (``choices[key]``, ``values()``,
    ``items()``), after :meth:`cut`, :meth:`restore` and ``load_state_dict``, and after ``train()`` or ``eval()``, that is in
    every epoch. What is written into a parameter that was kept from earlier counts in the next pass, cuts included; only, which
    candidates run is decided anew at the next reading, until when a cut one runs with weight 0.

    Attributes
    ----------
    weigh : Weigh
        Makes probabilities of logits wherever they are read. Default: :func:`softmax`.
    """

    def __init__(self) -> None:
        super().__init__()
        self.weigh: Weigh = softmax
        self._cut: Dict[str, Tensor] = {}
        """Of the shape of the logits, true where they are cut."""
        self._may_be_cut = False
        """Whether any of them may be true."""
        self._live: Dict[str, Tuple[int, ...]] = {}
        """The candidates that run, of the edges that need not be read."""
        self._seen: Dict[str, Tuple[int, ...]] = {}
        """The cuts as they were read last."""
        self._changed: Dict[str, Set[int]] = {}
        """The entries that have been cut or restored since :meth:`forget`."""

    # The mapping ---------------------------------------------------------------------------------------------------

    def add(self, key: str, n_candidates: int) -> nn.Parameter:
        """Draw ``n_candidates + 1`` logits for ``key`` as ``1e-3 * randn``, unless the key has some already."""
        if key not in self:
            self[key] = nn.Parameter(INITIAL_SCALE * torch.randn(n_candidates + 1))
        return self[key]

    def __setitem__(self, key: str, logits: nn.Parameter) -> None:
        if not isinstance(logits, nn.Parameter) or logits.dim() != 1:
            raise LogitsError(f'The logits of {key!r} must be an nn.Parameter of one dimension, got {logits!r}.')
        if key in self and len(self._get(key)) != len(logits):
            raise LogitsError(f'The logits of {key!r} must stay {len(self._get(key))} numbers (the candidates and the '
                              f'zero op), got {len(logits)}.')
        # Not register_parameter: it refuses names that attributes have, such as "keys".
        self._parameters[_to_name(key)] = logits
        self._cut[key] = torch.zeros(len(logits), dtype=torch.bool, device=logits.device)
        self._live.pop(key, None)

    def __getitem__(self, key: str) -> nn.Parameter:
        self._live.pop(key, None)  # who asks may write
        return self._get(key)

    def _get(self, key: str) -> nn.Parameter:
        logits = self._parameters.get(_to_name(key))
        if logits is None:
            raise KeyError(key)
        return logits

    def __contains__(self, key: object) -> bool:
        return isinstance(key, str) and _to_name(key) in self._parameters

    def __iter__(self) -> Iterator[str]:
        return iter(self._cut)

    def __len__(self) -> int:
        return len(self._cut)

    def keys(self) -> List[str]:
        return list(self)

    def values(self) -> List[nn.Parameter]:
        return [self[key] for key in self]

    def items(self) -> List[Tuple[str, nn.Parameter]]:
        return [(key, self[key]) for key in self]

    # The relaxation ------------------------------------------------------------------------------------------------

    def relax(self, key: str, weigh: Optional[Weigh] = None, samples: bool = False) -> Relaxed:
        """:meth:`relax_all` for one edge alone."""
        return self._relaxed([key], weigh, samples)[key]

    def relax_all(self, weigh: Optional[Weigh] = None, samples: bool = False) -> Dict[str, Relaxed]:
        """For each edge the weights of its candidates, and which of them run.

        Parameters
        ----------
        weigh
            Makes the weights. Default: that of the mapping.
        samples
            Whether they differ from call to call, and so must be read in each. Default False.

        Raises
        ------
        LogitsError
            A logit is NaN or ``+inf``, or the candidates and the zero op of an edge are all cut: found out when it is read. Or
            weights are missing, not finite or of another shape.
        """
        return self._relaxed(self.keys(), weigh, samples)

    def _relaxed(self, keys: Sequence[str], weigh: Optional[Weigh], samples: bool) -> Dict[str, Relaxed]:
        weights = self._weighed(keys, weigh)
        if transforms_are_active():  # where nothing may be read or remembered
            return {key: Relaxed(weights[key][:-1], tuple(range(len(weights[key]) - 1))) for key in keys}
        waits = not self._is_read_at_once()
        due = [key for key in keys if samples or not waits or key not in self._live]
        for key in set(due).difference(self._live) if waits else ():
            self.read(key)
        try:
            self._live.update(running({key: weights[key] for key in due}))
        except LogitsError:
            self.check()  # names the logit
            raise
        return {key: Relaxed(weights[key][:-1], self._live[key]) for key in keys}

    def _weighed(self, keys: Sequence[str], weigh: Optional[Weigh] = None) -> Dict[str, Tensor]:
        return weighed(weigh or self.weigh, self.effective(keys))

    def probabilities(self, key: str) -> Tensor:
        """Shape ``(n + 1,)``: what ``weigh`` makes of the logits, zero op last. Under softmax cut entries are exactly 0."""
        return self._weighed([key])[key]

    def all_probabilities(self) -> Dict[str, Tensor]:
        """:meth:`probabilities` of all edges, in few operations."""
        return self._weighed(self.keys())

    def effective(self, keys: Sequence[str]) -> Dict[str, Tensor]:
        """The logits of some edges with ``-inf`` at the cuts, shape ``(n + 1,)``; the gradient at a cut is 0. They must not be
        written over: where nothing is cut they may be the parameters themselves."""
        logits: Dict[str, Tensor] = {key: self._get(key) for key in keys}
        return logits if not self._needs_masks(logits.values()) else {
            key: logits[key].masked_fill(mask, -math.inf) for key, mask in zip(keys, self._take_up_cuts(keys))}

    def _needs_masks(self, logits: Collection[Tensor]) -> bool:
        """Whether some may be cut. They are read where that takes no waiting."""
        if not logits or self._may_be_cut or not self._is_read_at_once() or transforms_are_active():
            return bool(logits)
        return -math.inf in torch.cat([of_edge.detach() for of_edge in logits]).tolist()

    def stamp(self) -> Tuple[Any, ...]:
        """Equal as long as weights that were computed with a graph may stand for those that would be computed now."""
        logits = map(self._get, self)
        return torch.is_grad_enabled(), len(self._live), [(id(one), one._version, one.requires_grad) for one in logits]

    def _is_read_at_once(self) -> bool:
        return self.device.type in AT_ONCE

    @property
    def device(self) -> torch.device:
        """Where the first logits are; the CPU without any."""
        return next((logits.device for logits in self.parameters()), torch.device('cpu'))

    def train(self, mode: bool = True) -> Logits:
        self._live.clear()
        return super().train(mode)

    # Cuts ----------------------------------------------------------------------------------------------------------

    def cut(self, key: str, index: int) -> None:
        """Remove a candidate from its edge: weight 0, not run, gradient 0. Index n stands for the zero op."""
        index = range(len(self[key]))[index]
        self._check_something_left(key, len({*self.cuts(key), index}))
        self[key].data[index] = -math.inf
        self._take_up_cuts([key])

    def restore(self, key: str, index: int, value: float = 0.0) -> None:
        """Undo a cut. The logit starts again at ``value``. What is not cut stays as it is."""
        index = range(len(self[key]))[index]
        if index not in self.cuts(key):
            return
        self._cut[key] = self._cut[key].clone()  # for graphs keep the old one
        self._cut[key][index] = False
        self[key].data[index] = value

    def cuts(self, key: str) -> Tuple[int, ...]:
        """The entries of ``key`` that are cut, in ascending order."""
        return tuple(i for i, is_cut in enumerate(self._take_up_cuts([key])[0].tolist()) if is_cut)

    def forget(self, optimizer: Any) -> bool:
        """Let an optimiser of the logits start afresh with the entries that were cut or restored since the last call: its moments
        of them are set to 0. For this, only the edges that are due (see above) are read. Returns whether there was any such
        entry."""
        reads_all = self._is_read_at_once() and (self._may_be_cut or any(self._seen.values()))
        for key in self:
            if reads_all or key not in self._live:
                self.read(key)
        changed, self._changed = self._changed, {}
        for key, entries in changed.items():
            logits = self._get(key)
            state = getattr(optimizer, 'optimizer', optimizer).state  # a host's wrapper may have an old one
            for value in state.get(logits, {}).values():
                if isinstance(value, Tensor) and value.shape == logits.shape:
                    value[sorted(entries)] = 0
        return bool(changed)

    def _take_up_cuts(self, keys: Sequence[str]) -> Tuple[Tensor, ...]:
        """Learn of ``-inf`` that users wrote, and hold the cut entries at 0 whatever an optimiser did to them.

        Where, the device decides: masks, new each time, for graphs keep the old ones.
        """
        data = [self._get(key).data for key in keys]
        written = torch.cat(data) == -math.inf
        masks = (torch.cat([self._cut[key].to(written.device) for key in keys]) | written).split([len(part) for part in data])
        if not transforms_are_active():
            self._may_be_cut = self._may_be_cut or not self._is_read_at_once() or bool(written.any())
            for key, part, mask in zip(keys, data, masks):
                self._cut[key] = mask
                part.masked_fill_(mask, 0.0)
        return masks

    def check(self) -> None:
        """Read the logits of all edges, and raise ``LogitsError`` if any have no answer."""
        for key in () if transforms_are_active() else self:
            self.read(key)

    def read(self, key: str) -> None:
        """Read the logits of an edge, and raise ``LogitsError`` if they have no answer."""
        cuts = self.cuts(key)
        changed = set(cuts).symmetric_difference(self._seen.get(key, ()))
        self._seen[key] = cuts
        if changed:
            self._changed.setdefault(key, set()).update(changed)
        for i, value in enumerate(self._get(key).tolist()):
            if not math.isfinite(value):
                raise LogitsError(
                    f'Logit {i} of {key!r} is {value}. Logits are finite, or -inf for a candidate that is cut. '
                    'Look for a learning rate that is too high or a loss that is not finite.')
        self._check_something_left(key, len(cuts))

    def _check_something_left(self, key: str, n_cut: int) -> None:
        if n_cut == len(self._get(key)):
            raise LogitsError(f'The candidates of {key!r} and its zero op would all be cut: nothing is left to compute. '
                              'Leave at least one of them, or restore one.')

    # Checkpoints: a cut is -inf in them, as in those of NNI's class ---------------------------------------------------

    def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        for key in self:
            if self.cuts(key):
                destination[prefix + _to_name(key)] = self.effective([key])[key].detach()

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *args: Any) -> None:
        super()._load_from_state_dict(state_dict, prefix, *args)
        for key in self:
            if prefix + _to_name(key) in state_dict:
                self._cut[key] = torch.zeros_like(self._cut[key])
                self._live.pop(key, None)
                self._seen.pop(key, None)
                self._changed.pop(key, None)  # what is not cut in the checkpoint keeps the moments that come with it
                self.read(key)

    def extra_repr(self) -> str:
        return '\n'.join(f'{key!r}: {len(self._get(key)) - 1} candidates and the zero op' for key in self)


def _to_name(key: str) -> str:
    """The key as the name of a parameter, in which a module tolerates neither a dot nor nothing at all."""
    return key.replace('%', '%25').replace('.', '%2E') if key else '%'
