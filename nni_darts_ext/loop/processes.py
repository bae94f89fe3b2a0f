"""Several processes that search together, each on its share of the data: data parallelism with ``torch.distributed``.

Each process, a rank of the default process group, has the whole model. The ranks begin with the weights, logits and buffers of
rank 0 and step by gradients that are averaged over all of them, so that weights and logits stay the same everywhere, bit for bit,
and so does all that is decided by them: cuts, the end of the search, the architecture. n ranks with batches of b search as one
process does with batches of n * b, but for what a rank computes of its own batch alone: BatchNorm's statistics (on GPUs
``nn.SyncBatchNorm.convert_sync_batchnorm(model)``, before all else, lets the ranks share them) and the masks of dropout.

A rank that fails leaves the others waiting for it until the process group ends: at once where its launcher ends all processes
when one of them does, as ``torchrun`` and Lightning do; at the latest after the group's timeout
(``init_process_group(timeout=...)``).

Without a process group, or with one of a single rank, all of this does nothing.
"""

from __future__ import annotations

import logging
import os
from collections import defaultdict
from itertools import islice
from typing import Any, Dict, Iterable, Iterator, List, Optional, Sequence, Tuple, TypeVar

import torch
from torch import Tensor, distributed, nn

from ..core.bilevel.gradients import Gradients
from ..errors import TrainingError

_logger = logging.getLogger(__name__)
T = TypeVar('T')


# Who is there --------------------------------------------------------------------------------------------------------------

def size() -> int:
    """How many ranks there are; 1 without a process group."""
    return distributed.get_world_size() if _is_initialized() else 1


def rank() -> int:
    """Which of them this one is, from 0."""
    return distributed.get_rank() if _is_initialized() else 0


def is_first() -> bool:
    """Whether this rank is the one that writes files and the log."""
    return rank() == 0


def barrier() -> None:
    """Wait until every rank is here."""
    if size() > 1:
        distributed.barrier()


def device() -> torch.device:
    """The GPU of this rank: that of its number on the machine, which launchers put into ``LOCAL_RANK``. The CPU without one."""
    if not torch.cuda.is_available():
        return torch.device('cpu')
    if size() == 1:
        return torch.device('cuda')
    return torch.device('cuda', int(os.environ.get('LOCAL_RANK', rank())) % torch.cuda.device_count())


def check_device(device: torch.device) -> None:
    """Raise where nccl would use another GPU than the search: objects, such as metrics, it sends from the current one.

    Raises
    ------
    TrainingError
        The process group is one of nccl, and the current GPU is not ``device``.
    """
    if size() == 1 or distributed.get_backend() != 'nccl':
        return
    current = torch.cuda.current_device()
    if device.type != 'cuda' or device.index not in (None, current):
        raise TrainingError(f'Rank {rank()} searches on {device}, but its current GPU, which nccl uses as well, is '
                            f'cuda:{current}. Call torch.cuda.set_device(int(os.environ["LOCAL_RANK"])) before '
                            'init_process_group(), or give the device.')


def refuse_strangers() -> None:
    """Raise where several processes were started that know nothing of each other.

    Raises
    ------
    TrainingError
        The environment, as ``torchrun`` sets it, names several ranks, and there is no process group.
    """
    started = os.environ.get('WORLD_SIZE', '1')
    if started not in ('', '1') and 'RANK' in os.environ and not _is_initialized():
        raise TrainingError(
            f'This is rank {os.environ["RANK"]} of {started} processes that were started together, without a process group: '
            'each would search for itself. Call torch.distributed.init_process_group() first, with backend "nccl" on GPUs and '
            '"gloo" on CPUs; or take WORLD_SIZE out of the environment if each shall search for itself.')


def _is_initialized() -> bool:
    return distributed.is_available() and distributed.is_initialized()


# What they tell each other -------------------------------------------------------------------------------------------------

def average(gradients: Gradients, parameters: Sequence[Tensor]) -> Gradients:
    """The mean of the gradients over all ranks, in one message for each type of number; new tensors, without a graph.

    Where a rank has None it counts as zeros, and where all have None it stays None. A rank that has some None waits for the
    others' answer, one that has none does not read it. The mean of sparse gradients is sparse, but all of it is sent.

    Parameters
    ----------
    gradients
        One for each parameter.
    parameters
        The same ones on every rank.
    """
    if size() == 1:
        return gradients
    found: Gradients = [None] * len(parameters)
    alike: Dict[Tuple[torch.dtype, torch.device], List[int]] = defaultdict(list)
    for i, parameter in enumerate(parameters):
        alike[parameter.dtype, parameter.device].append(i)
    with torch.no_grad():
        for (dtype, where), places in alike.items():
            own = [gradients[i] for i in places]
            kinds = [0 if gradient is None else -1 if gradient.is_sparse else 1 for gradient in own]
            parts = [torch.zeros_like(parameters[i]) if part is None else part.to_dense() if part.is_sparse else part
                     for i, part in zip(places, own)]
            message = torch.cat([*(part.reshape(-1) for part in parts), torch.tensor(kinds, dtype=dtype, device=where)])
            distributed.all_reduce(message)
            *means, others = (message / size()).split([*(part.numel() for part in parts), len(kinds)])
            of_all = kinds if all(kinds) else others.tolist()
            for i, mean, kind in zip(places, means, of_all):
                if kind:  # in memory as the parameter is
                    whole = torch.empty_like(parameters[i]).copy_(mean.view_as(parameters[i]))
                    found[i] = whole.to_sparse(1) if kind < 0 else whole
    return found


def average_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Make the gradient of each parameter that has some the mean over all ranks."""
    if size() > 1:
        own = list(parameters)
        for parameter, gradient in zip(own, average([parameter.grad for parameter in own], own)):
            parameter.grad = gradient


def share(module: nn.Module) -> None:
    """Give every rank the state (``state_dict``) that the module has on rank 0, cuts of logits included."""
    if size() > 1:
        module.load_state_dict({name: _from_first(value) if isinstance(value, Tensor) else value
                                for name, value in module.state_dict().items()})


def gathered(value: T) -> List[T]:
    """What every rank calls by this name, in their order. For small things, and not in each step."""
    if size() == 1:
        return [value]
    found: List[Any] = [None] * size()
    distributed.all_gather_object(found, value)
    return found


def zip_until_shortest(batches: Iterable[T], length: Optional[int]) -> Iterator[T]:
    """Batches for as long as every rank has one.

    Parameters
    ----------
    length
        How many they are, None if nobody knows: the ranks ask each other before each batch then.
    """
    if size() == 1:
        yield from batches
        return
    lengths = [one for one in gathered(length) if one is not None]
    if len(lengths) < size():
        end: Any = object()
        remaining = iter(batches)
        batch = next(remaining, end)
        while all(gathered(batch is not end)):
            yield batch
            batch = next(remaining, end)
        return
    if len(set(lengths)) > 1 and is_first():
        _logger.warning('The ranks have %s batches: an epoch ends with the shortest, and what the others have more is not used '
                        'in it. Give every rank as many.', ', '.join(map(str, lengths)))
    yield from islice(batches, min(lengths))


def _from_first(tensor: Tensor) -> Tensor:
    sent = tensor.detach().clone(memory_format=torch.contiguous_format)
    distributed.broadcast(sent, 0)
    return sent
