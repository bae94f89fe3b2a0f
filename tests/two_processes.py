"""Runs a function on two ranks of a process group.

They are forks of a server that has imported everything once and never run any of it, so that they start at once, and safely
whatever threads the tests have started.
"""

import multiprocessing
import os
import pickle
import tempfile
import time
import traceback
from datetime import timedelta
from multiprocessing.connection import wait
from pathlib import Path

TIMEOUT = timedelta(seconds=60)
"""Of the process group; the ranks together have four times as long."""
NODES = [((3, 3), 1, 'sum'), ((3, 2, 3), 2, 'sum')]
"""A space of :mod:`spaces` without BatchNorm, whose statistics each rank has of its own batch."""

_server = multiprocessing.get_context('forkserver')
_server.set_forkserver_preload(['nni_darts_ext.trainer', 'torch._dynamo'])  # every host, and what optimisers import late


def run(function, *arguments, ranks=2):
    """What a function of a module gives on each rank, in plain values; where it raised, the traceback. No process is left.

    ``ranks=1`` is a process without a group.
    """
    task = pickle.dumps((function, arguments))
    with tempfile.TemporaryDirectory() as folder:
        ends, started = [], []
        for rank in range(ranks):
            end, other_end = _server.Pipe(duplex=False)
            environment = {**os.environ, **(_of_torchrun(rank) if ranks > 1 else {}), 'OMP_NUM_THREADS': '1',
                           'NNI_CONFIG_DIR': os.path.join(folder, f'nni{rank}')}  # NNI writes there what others may read
            started.append(_server.Process(target=_rank, args=(rank, ranks, folder, environment, other_end, task)))
            started[-1].start()
            other_end.close()
            ends.append(end)
        try:
            return _collected(ends, time.monotonic() + 4 * TIMEOUT.total_seconds())
        finally:
            for process in started:
                process.kill()
                process.join()


def results(function, *arguments, ranks=2):
    """The same, of a function that must not raise."""
    found = run(function, *arguments, ranks=ranks)
    for of_rank in found:
        assert not isinstance(of_rank, str), of_rank
    return found


def _collected(ends, deadline):
    found = {}
    while len(found) < len(ends) and time.monotonic() < deadline:
        for end in wait([end for end in ends if end not in found], timeout=1):
            try:
                found[end] = end.recv()
            except EOFError:
                found[end] = 'The process ended without a word.'
    return [found.get(end, 'The process was still running when its time was up.') for end in ends]


def _of_torchrun(rank):
    """What it puts into the environment. Nobody listens at the port, for the ranks meet in a file."""
    return dict(RANK=str(rank), LOCAL_RANK=str(rank), GROUP_RANK='0', WORLD_SIZE='2', LOCAL_WORLD_SIZE='2',
                MASTER_ADDR='127.0.0.1', MASTER_PORT='1', TORCHELASTIC_RUN_ID='tests')


def _rank(rank, ranks, folder, environment, end, task):
    os.chdir(folder)
    os.environ.clear()  # of what was there when the server was started; the modules of the task read it
    os.environ.update(environment)
    import torch
    torch.set_num_threads(1)
    if ranks > 1:
        torch.distributed.init_process_group('gloo', init_method=(Path(folder) / 'meeting').as_uri(), rank=rank,
                                             world_size=ranks, timeout=TIMEOUT)
    try:
        function, arguments = pickle.loads(task)
        end.send(function(*arguments))
    except BaseException:
        end.send(traceback.format_exc())


def share_of(batch):
    """What this rank has of the batch of both; all of it where there is one process."""
    import torch
    if not torch.distributed.is_initialized():
        return batch
    x, y = batch
    return x[torch.distributed.get_rank()::2], y[torch.distributed.get_rank()::2]


def flat(tensors):
    """Their numbers, in one list."""
    return [number for tensor in tensors for number in tensor.detach().double().flatten().tolist()]
