"""One batch again and again: in whatever numbers a search computes, its loss falls alike."""

import pytest
import torch
from spaces import TWO_NODES, Cells, smooth, write_weights

STEPS = 20
ARC_RATE = 0.02


def model():
    return write_weights(Cells(TWO_NODES, named=True)).float()


def data():
    """For each step the same batch for training and validation."""
    x = smooth((12, 3), 0).float()
    return [((x, (x[:, 0] > 0).long()),) * 2] * STEPS


def optimizer(weights):
    return torch.optim.SGD(weights, 0.1, momentum=0.9)


def check(losses_of):
    """``losses_of()`` searches and gives the losses of the training batches."""
    full = losses_of()
    with torch.autocast('cpu', torch.bfloat16):
        half = losses_of()
    assert len(full) == len(half) == STEPS and full[-1] < 0.1 * full[0]
    assert half[-1] == pytest.approx(full[-1], rel=0.1) and half != full
