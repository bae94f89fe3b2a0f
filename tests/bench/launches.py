"""What a search step asks of a GPU: the kernels that it launches, and the numbers that it waits for. Counted, on any device.

A launch is an operation that PyTorch dispatches to a device, other than a view or an allocation. Some are several kernels (a
convolution, an operation on a list of hundreds of tensors), for all sides alike. Counts hang on the version of PyTorch, and on
nothing of the machine. Not seen are waits inside of other operations, such as indexing by a mask, ``unique`` and ``allclose``,
and, on a CPU, copies to it.
"""

import re
import traceback
from collections import Counter
from contextlib import ExitStack, contextmanager
from functools import lru_cache
from unittest import mock

import torch
from torch.utils import _python_dispatch as dispatch

from nni_darts_ext.core import logits

KINDS = {
    'convolutions': '.*convolution.*',
    'BatchNorm': '.*batch_norm.*',
    'ReLU': 'relu_?|threshold_backward',
    'pooling': '.*pool.*',
    'additions': '(_foreach_)?add_?',
    'products': '(_foreach_)?mul_?',
    'sums': 'sum',
    'copies': '.*copy.*|clone|cat|stack|slice_backward',
    'fills': 'zero.*|ones.*|.*fill_?',
}
"""Patterns of the names of their operations."""
OTHERS = 'others'
WAITING = ('_local_scalar_dense', 'equal', 'nonzero')
"""Operations whose result the host has to have."""
COPYING = {'_to_copy': 0, 'copy_': 1}
"""Operations that may copy to the host, and which argument they copy."""


def is_on_the_host():
    """Whether PyTorch's optimisers or loaders read it: the number of steps, the order of the data. They are always on the CPU."""
    callers = (frame.f_globals['__name__'] for frame, _ in traceback.walk_stack(None))
    caller = next((name for name in callers if not name.startswith((__name__, 'torch._', 'torch.utils._'))), '')
    return caller.startswith(('torch.optim', 'torch.utils.data'))


@lru_cache(maxsize=None)
def described(operation):
    """Its name without the overload, and whether it launches anything: it is no view, allocation or mark of a profiler."""
    schema = str(operation._schema)
    space, name = schema.split('(')[0].split('.')[0].split('::')
    is_view = re.search(r'\([a-z]+( -> \*)?\)', schema.split('->')[-1]) is not None
    return name, space == 'aten' and not is_view and 'empty' not in name


@lru_cache(maxsize=None)
def kind_of(name):
    return next((kind for kind, pattern in KINDS.items() if re.fullmatch(pattern, name)), OTHERS)


class Counted:
    """The launches of a call by kind, and how often the host waits in it for what a device has computed."""

    def __init__(self, run):
        found, waits = Counter(dict.fromkeys([*KINDS, OTHERS], 0)), Counter()

        class Count(dispatch.TorchDispatchMode):
            def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
                result = operation(*args, **(kwargs or {}))
                name, is_launch = described(operation)
                if name in WAITING or (name in COPYING and result.device.type == 'cpu' != args[COPYING[name]].device.type):
                    waits[name] += not is_on_the_host()
                elif is_launch:
                    found[kind_of(name)] += 1
                return result

        def tolist(tensor):  # which is not dispatched on the CPU
            waits['tolist'] += tensor.device.type == 'cpu' and not is_on_the_host()
            return torch._C._TensorBase.tolist(tensor)
        push = getattr(dispatch, 'push_torch_dispatch_mode', None)  # of PyTorch 1.12
        with mock.patch.object(torch.Tensor, 'tolist', tolist), push(Count) if push else Count():
            run()
        self.launches, self.waits = found, sum(waits.values())

    def __sub__(self, other):
        """By how much this is more."""
        self.launches.subtract(other.launches)
        self.waits -= other.waits
        return self


@contextmanager
def as_on_a_gpu(device):
    """On a CPU, run what runs on a GPU: the foreach variants of optimisers, and the package's way not to wait."""
    init = torch.optim.Optimizer.__init__

    def with_foreach(self, parameters, defaults):
        init(self, parameters, {**defaults, **({'foreach': True} if 'foreach' in defaults else {})})
    with ExitStack() as patches:
        if device.type == 'cpu':
            patches.enter_context(mock.patch.object(torch.optim.Optimizer, '__init__', with_foreach))
            patches.enter_context(mock.patch.object(logits, 'AT_ONCE', ()))
        yield
