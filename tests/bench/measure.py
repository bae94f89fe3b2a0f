"""Time, of several that take turns, and peak memory, of each in a process of its own."""

import ctypes
import gc
import json
import os
import time
import traceback
from functools import partial

import torch


def timed(run, device):
    """Seconds that a call takes."""
    synchronize(device)
    began = time.perf_counter()
    run()
    synchronize(device)
    return time.perf_counter() - began


def synchronize(device):
    """Wait for what a GPU still has to do."""
    if device.type == 'cuda':
        torch.cuda.synchronize(device)


def in_turns(turns, rounds):
    """What callables return, A B C A B C ..., so that what else the machine does hits them all.

    The first round, in which memory is touched for the first time, does not count.

    Parameters
    ----------
    turns
        A dict of callables, each of which takes a turn and returns its seconds.
    rounds
        How often each takes a turn.

    Returns
    -------
    dict
        For each its seconds, a list. Those at one index are of one round.
    """
    seconds = {name: [] for name in turns}
    for i in range(1 + rounds):
        for name, turn in turns.items():
            gc.collect()
            took = turn()
            if i:
                seconds[name].append(took)
    return seconds


def peak_memories(runs, warm_ups, device, processes):
    """The most memory that calls take at once, in bytes; None where this system does not tell.

    On the CPU each call runs in a forked process, whose peak of resident memory counts, less what was resident before the call.
    The allocator is told to give each block of 64 KiB or more pages of its own and to return them when it is freed: resident
    memory is then what is in use, not what the allocator keeps. (PyTorch's profiler, whose allocations add up to the same curve,
    comes to 28 MB less in steps of 410 to 610 MB: the graph and Python's objects are not in its sum.) On a GPU it is the peak of
    PyTorch's allocator.

    Parameters
    ----------
    runs
        A dict of what is measured, each with all that it builds.
    warm_ups
        What each runs before it in the same process: what is imported late shall not count.
    processes
        How many of them run at a time.

    Returns
    -------
    dict
        For each its bytes.
    """
    if device.type == 'cuda':
        return {name: _peak_allocated(runs[name], warm_ups[name], device) for name in runs}
    if not os.path.exists('/proc/self/clear_refs'):
        return dict.fromkeys(runs)
    found, forks = {}, {}
    for name in runs:
        if len(forks) == processes:
            first = next(iter(forks))
            found[first] = forks.pop(first).answer()
        forks[name] = _Fork(partial(_peak_resident, runs[name], warm_ups[name]))
    found.update((name, fork.answer()) for name, fork in forks.items())
    return found


def _peak_allocated(run, warm_up, device):
    warm_up()
    gc.collect()
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    run()
    return torch.cuda.max_memory_allocated(device) - before


_M_MMAP_THRESHOLD, _M_TRIM_THRESHOLD = -3, -1  # of malloc.h
_BLOCK = 1 << 16


def _peak_resident(run, warm_up):
    libc = ctypes.CDLL(None)
    if hasattr(libc, 'mallopt'):
        libc.mallopt(_M_MMAP_THRESHOLD, _BLOCK)
        libc.mallopt(_M_TRIM_THRESHOLD, _BLOCK)
    warm_up()
    gc.collect()
    if hasattr(libc, 'malloc_trim'):
        libc.malloc_trim(0)
    before = _status('VmRSS')
    with open('/proc/self/clear_refs', 'w') as opened:
        opened.write('5')  # the peak starts again from here
    run()
    return _status('VmHWM') - before


def _status(name):
    with open('/proc/self/status') as opened:
        return next(int(line.split()[1]) * 1024 for line in opened if line.startswith(name + ':'))


class _Fork:
    """A function that runs in a copy of this process, which must not have started threads."""

    def __init__(self, function):
        reading, writing = os.pipe()
        self.process = os.fork()
        if self.process == 0:
            status = 1
            try:
                os.write(writing, json.dumps(function()).encode())
                status = 0
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(status)
        os.close(writing)
        self.reading = reading

    def answer(self):
        """What the function returned."""
        with open(self.reading) as opened:
            answer = opened.read()
        if os.waitpid(self.process, 0)[1] != 0:
            raise RuntimeError('A measurement of memory failed; what it printed is above.')
        return json.loads(answer)
