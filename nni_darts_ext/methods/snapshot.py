"""All that the architecture step updates, kept to go back to it."""

from __future__ import annotations

from typing import Any, Dict, Mapping

import torch

from .base import At, EndOfEpoch


def snapshot(at: At, end: EndOfEpoch) -> Dict[str, Any]:
    """Copies of logits, cuts and the parameters of methods, for checkpoints too."""
    return {'logits': {name: values.clone() for name, values in at.search.choices.state_dict().items()},
            'stepped': [parameter.detach().clone() for parameter in end.logits]}


def restore(kept: Mapping[str, Any], at: At, end: EndOfEpoch) -> None:
    """Go back to a :func:`snapshot`. Those in checkpoints of early versions may lack the parameters of methods, which stay."""
    with torch.no_grad():
        at.search.choices.load_state_dict(kept['logits'])
        for parameter, value in zip(end.logits, kept['stepped']):
            parameter.copy_(value)
