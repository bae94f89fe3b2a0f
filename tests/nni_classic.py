"""NNI's own classic DartsMutator, made to work in float64: it takes every mask for a float32 one or refuses it."""

import torch
from nni.algorithms.nas.pytorch.darts import DartsMutator


class _Mask(torch.Tensor):
    __torch_function__ = torch._C._disabled_torch_function_impl  # what is computed with a mask is no mask

    def type(self, *args):
        return 'FloatTensor' if not args and self.dtype is torch.float64 else super().type(*args)


class DoubleDartsMutator(DartsMutator):
    def _get_decision(self, mutable):
        decision = super()._get_decision(mutable)
        return decision.as_subclass(_Mask) if decision.dtype is torch.float64 else decision
