import torch
from torch import nn

from nni_darts_ext.core.bilevel import frozen


def test_a_backward_pass_does_not_touch_what_is_frozen():
    weight, logit, never = (nn.Parameter(torch.ones(1), requires_grad=on) for on in (True, True, False))
    with frozen([weight, never]):
        (weight * logit * never).backward()
    assert weight.grad is None and logit.grad == 1
    assert [p.requires_grad for p in (weight, logit, never)] == [True, True, False]


def test_an_error_within_leaves_nothing_frozen():
    weight = nn.Parameter(torch.ones(1))
    try:
        with frozen([weight]):
            raise RuntimeError
    except RuntimeError:
        assert weight.requires_grad
