"""Optimisers to search with, in the variants that the installed PyTorch has."""

import torch

KINDS = {
    'Adam': (torch.optim.Adam, dict(lr=1e-2, betas=(0.5, 0.999), weight_decay=1e-2)),
    'AdamW': (torch.optim.AdamW, dict(lr=1e-2, weight_decay=1e-1)),
    'SGD': (torch.optim.SGD, dict(lr=5e-2, momentum=0.9, weight_decay=1e-2)),
}


def _is_offered(kind, options):
    parameter = torch.nn.Parameter(torch.ones(2, dtype=torch.float64))
    parameter.grad = torch.ones_like(parameter)
    try:
        kind([parameter], **options).step()
    except (TypeError, RuntimeError):
        return False
    return True


OFFERED = {' '.join([name, *variant]): (kind, {**options, **variant})
           for variant in ({}, {'foreach': True}, {'fused': True}) for name, (kind, options) in KINDS.items()
           if _is_offered(kind, {**options, **variant})}


def make(name, parameters):
    kind, options = OFFERED[name]
    return kind(parameters, **options)
