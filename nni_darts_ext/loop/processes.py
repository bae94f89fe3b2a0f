"""Data parallelism with ``torch.distributed``: several processes search together, each on its share of the data.

Each process, a rank of the default process group, has the whole model. All ranks start with the weights, logits and buffers of
rank 0 and use gradients that are averaged over all ranks. So weights, logits and all decisions (cuts, the end of the search, the
architecture) are bitwise equal on all ranks. n ranks with batches of b search as one process with batches of n * b, except for
what each rank computes from its own batch only: the statistics of BatchNorm (on GPUs the ranks share them after
``nn.SyncBatchNorm.convert_sync_batchnorm(model)``, called before anything else) and the masks of dropout.

If a rank fails, the others wait until their launcher ends them, which ``torchrun`` and Lightning do at once, or until the timeout
of the process group (``init_process_group(timeout=...)``).

Without a process group, or with a single rank, all functions of this module do nothing.
"""

from __future__ import annotations

import logging
import os
from collections import defaultdict
from contextlib import contextmanager
from itertools import islice
from typing import Any, Dict, Iterable, Iterator, List, Optional, Sequence, Tuple, TypeVar, Union

import torch
from torch import Tensor, distributed, nn

from ..core.bilevel.gradients import Gradients
from ..errors import TrainingError

_logger = logging.getLogger(__name__)
T = TypeVar('T')


# Ranks and devices ---------------------------------------------------------------------------------------------------------

def size() -> int:
    """The number of ranks; 1 without a process group."""
    return distributed.get_world_size() if _is_initialized() else 1


def rank() -> int:
    """The number of this rank, from 0."""
    return distributed.get_rank() if _is_initialized() else 0


def is_first() -> bool:
    """Whether this is rank 0, which writes the files and the log."""
    return rank() == 0


def barrier() -> None:
    """Wait until every rank has called this."""
    if size() > 1:
        distributed.barrier()


def device() -> torch.device:
    """The GPU of this rank, by its number on the machine (``LOCAL_RANK``, set by launchers); the CPU if there is no GPU."""
    if not torch.cuda.is_available():
        return torch.device('cpu')
    if size() == 1:
        return torch.device('cuda')
    return torch.device('cuda', int(os.environ.get('LOCAL_RANK', rank())) % torch.cuda.device_count())


def part_of_batch(batch_size: int) -> int:
    """The number of samples of a batch for each rank. Raises :class:`TrainingError` if the ranks cannot share it equally."""
    if batch_size % size():
        raise TrainingError(f'A batch of {batch_size} samples cannot be shared equally by {size()} processes. Pass a batch size '
                            f'that is a multiple of {size()}.')
    return batch_size // size()


@contextmanager
def group(used: Union[torch.device, str, None] = None) -> Iterator[None]:
    """A process group, for the time of the block, of the processes that ``torchrun`` or another launcher has started. Nothing
    happens if there is only one process, or a process group already.

    Its backend is nccl for GPUs and gloo for CPUs. After an exception in the block the group is not destroyed, as this would wait
    for the other ranks: let the process end, so that its launcher ends them.

    Parameters
    ----------
    used
        The device that the ranks will use. Default: GPUs if there are any.

    Raises
    ------
    TrainingError
        There are more ranks on this machine than GPUs, or all are to use the same GPU.
    """
    if not _is_started_with_others() or _is_initialized():
        yield
        return
    chosen = device() if used is None else torch.device(used)
    on_gpus, n_here = chosen.type == 'cuda', int(os.environ.get('LOCAL_WORLD_SIZE', 1))
    if on_gpus and (chosen.index is not None or n_here > torch.cuda.device_count()):
        raise TrainingError(f'{n_here} processes cannot search on {chosen}: there are {torch.cuda.device_count()} GPUs here, of '
                            'which each process needs its own. Start as many processes as there are GPUs, and leave the device '
                            'out or pass "cuda".')
    if is_first():
        _logger.info('Waiting for all %s processes. If there is only this one, remove WORLD_SIZE from the environment.',
                     os.environ['WORLD_SIZE'])
    distributed.init_process_group('nccl' if on_gpus else 'gloo')
    if on_gpus:
        torch.cuda.set_device(device())
    yield
    distributed.destroy_process_group()


def check_device(device: torch.device) -> None:
    """Check that nccl uses the GPU of the search: it sends objects, such as metrics, from the current GPU. Raises
    :class:`TrainingError` if the backend is nccl, and the current GPU is not ``device``."""
    if size() == 1 or distributed.get_backend() != 'nccl':
        return
    current = torch.cuda.current_device()
    if device.type != 'cuda' or device.index not in (None, current):
        raise TrainingError(f'Rank {rank()} searches on {device}, but its current GPU, which nccl uses, is '
                            f'cuda:{current}. Call torch.cuda.set_device(int(os.environ["LOCAL_RANK"])) before '
                            'init_process_group(), or pass the device.')


def refuse_strangers() -> None:
    """Refuse several processes without a process group, which would search independently. Raises :class:`TrainingError` if the
    environment, as ``torchrun`` sets it, has several ranks, but there is no process group."""
    if _is_started_with_others() and not _is_initialized():
        raise TrainingError(
            f'This is rank {os.environ["RANK"]} of {os.environ["WORLD_SIZE"]} processes without a process group: each would '
            'search independently. Call torch.distributed.init_process_group() first, with backend "nccl" on GPUs and "gloo" on '
            'CPUs; or remove WORLD_SIZE from the environment if independent searches are intended.')


def _is_started_with_others() -> bool:
    """Whether the environment is that of one of several ranks, as ``torchrun`` sets it."""
    return os.environ.get('WORLD_SIZE', '1') not in ('', '1') and 'RANK' in os.environ


def _is_initialized() -> bool:
    return distributed.is_available() and distributed.is_initialized()


# Communication -------------------------------------------------------------------------------------------------------------

def average(gradients: Gradients, parameters: Sequence[Tensor]) -> Gradients:
    """The mean of the gradients over all ranks, with one message for each dtype and device; new tensors without a graph. There is
    one gradient for each of the ``parameters``, which are the same on every rank.

    None counts as zeros, but stays None if it is None on all ranks. A rank whose gradients include None waits for the result to
    find that out. Sparse gradients are sent as dense tensors; their mean is sparse.
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
                if kind:  # with the memory format of the parameter
                    whole = torch.empty_like(parameters[i]).copy_(mean.view_as(parameters[i]))
                    found[i] = whole.to_sparse(1) if kind < 0 else whole
    return found


def average_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Replace the gradient of each parameter by its mean over all ranks."""
    if size() > 1:
        own = list(parameters)
        for parameter, gradient in zip(own, average([parameter.grad for parameter in own], own)):
            parameter.grad = gradient


def share(module: nn.Module) -> None:
    """Broadcast the module's ``state_dict`` from rank 0, including cuts of logits."""
    if size() > 1:
        module.load_state_dict({name: _from_first(value) if isinstance(value, Tensor) else value
                                for name, value in module.state_dict().items()})


def gathered(value: T) -> List[T]:
    """The values of all ranks, in rank order. For small values, and not for every step."""
    if size() == 1:
        return [value]
    found: List[Any] = [None] * size()
    distributed.all_gather_object(found, value)
    return found


def zip_until_shortest(batches: Iterable[T], length: Optional[int]) -> Iterator[T]:
    """The batches, until one rank has no more. ``length`` is the number of batches of this rank; if one rank's is unknown, None,
    the ranks communicate before each batch."""
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
        _logger.warning('The ranks have %s batches: an epoch ends with the shortest, and the other ranks do not use their '
                        'remaining batches. Give every rank equally many.', ', '.join(map(str, lengths)))
    yield from islice(batches, min(lengths))


def _from_first(tensor: Tensor) -> Tensor:
    sent = tensor.detach().clone(memory_format=torch.contiguous_format)
    distributed.broadcast(sent, 0)
    return sent
