"""Counts how often the host reads numbers out of tensors, each of which makes it wait for the device."""

import sys
from pathlib import Path

import torch

import nni_darts_ext

READS = ['item', 'tolist', 'numpy', 'cpu', '__bool__', '__float__', '__int__', '__index__', 'nonzero']
PACKAGE = str(Path(nni_darts_ext.__file__).parent)


def count(monkeypatch, run, whose=PACKAGE):
    """The reads while something runs: those that files under a folder ask for."""
    reads = []

    def counted(name, original):
        def read(*args, **kwargs):
            if sys._getframe(1).f_code.co_filename.startswith(whose):
                reads.append(name)
            return original(*args, **kwargs)
        return read
    with monkeypatch.context() as patch:
        for name in READS:
            patch.setattr(torch.Tensor, name, counted(name, getattr(torch.Tensor, name)))
        run()
    return len(reads)
