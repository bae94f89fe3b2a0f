"""Ten steps of first-order DARTS on one space, weights and data, as NNI's classic trainer takes them.

``python tests/ten_steps.py`` under NNI 2.8 records what NNI's own DartsMutator gives, for the families that cannot share a
process with it.
"""

import json
from pathlib import Path

import pytest
import torch
from spaces import TWO_NODES, Cells, batches, smooth, write_weights
from torch import nn

RECORD = Path(__file__).parent / 'data' / 'ten_steps.json'
CLIP, LR, ARC_LR = 5.0, 0.05, 0.02


def model_and_data():
    return write_weights(Cells(TWO_NODES, cells=2, named=True)), batches(10)


def start_logits(choices):
    for i, key in enumerate(sorted(choices.keys())):
        choices[key].data = smooth(choices[key].shape, i) * 0.3


def optimizers(weights, logits):
    return (torch.optim.SGD(weights, LR, momentum=0.9, weight_decay=3e-4),
            torch.optim.Adam(logits, ARC_LR, betas=(0.5, 0.999), weight_decay=1e-3))


def run(model, mutator, data):
    """What happens at each step: both losses, the gradients of the first step and the logits of the last."""
    start_logits(mutator.choices)
    for_weights, for_logits = optimizers(model.parameters(), mutator.parameters())
    seen = {'validation_loss': [], 'training_loss': []}
    for (train_x, train_y), (valid_x, valid_y) in data:
        for_logits.zero_grad()
        mutator.reset()
        loss = nn.functional.cross_entropy(model(valid_x), valid_y)
        loss.backward()
        seen['validation_loss'].append(loss.item())
        seen.setdefault('logit_gradients', {key: p.grad.tolist() for key, p in mutator.choices.items()})
        for_logits.step()

        for_weights.zero_grad()
        mutator.reset()
        loss = nn.functional.cross_entropy(model(train_x), train_y)
        loss.backward()
        seen['training_loss'].append(loss.item())
        seen.setdefault('weight_gradients', {name: p.grad.flatten().tolist() for name, p in model.named_parameters()})
        nn.utils.clip_grad_norm_(model.parameters(), CLIP)
        for_weights.step()
    seen['logits'] = {key: p.tolist() for key, p in mutator.choices.items()}
    return seen


def unrolled_by_the_core(unrolled, steps=4):
    """The logits after some steps of the second order, from the core's estimator and nothing else of the package's loops."""
    from nni_darts_ext import DartsMutator
    from nni_darts_ext.core.bilevel import estimators
    estimate = {'finite_difference': estimators.unrolled_finite_difference}.get(unrolled, estimators.unrolled_exact)
    model, data = model_and_data()
    mutator = DartsMutator(model).double()
    start_logits(mutator.choices)
    logits = list(mutator.parameters())
    for_weights, for_logits = optimizers(model.parameters(), logits)

    def loss_on(batch):
        def loss():
            mutator.reset()
            return nn.functional.cross_entropy(model(batch[0]), batch[1])
        return loss
    for training, validation in data[:steps]:
        gradients = estimate(loss_on(training), loss_on(validation), logits, [for_weights], model)
        for parameter, gradient in zip(logits, gradients):
            parameter.grad = gradient
        for_logits.step()
        for_weights.zero_grad()
        loss_on(training)().backward()
        nn.utils.clip_grad_norm_(model.parameters(), CLIP)
        for_weights.step()
    return {key: logits.tolist() for key, logits in mutator.choices.items()}


def recorded():
    return json.loads(RECORD.read_text())


def assert_same(seen, expected, tolerance):
    assert set(seen) <= set(expected)
    for what, values in seen.items():
        if isinstance(values, dict):
            assert values == {key: pytest.approx(value, abs=tolerance) for key, value in expected[what].items()}, what
        else:
            assert values == pytest.approx(expected[what], abs=tolerance), what


def main():
    from nni_classic import DoubleDartsMutator
    model, data = model_and_data()
    RECORD.write_text(json.dumps(run(model, DoubleDartsMutator(model).double(), data), indent=1, sort_keys=True) + '\n')


if __name__ == '__main__':
    main()
