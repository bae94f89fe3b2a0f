"""The error and the time of the estimators of the second order, on a small version of the paper's space.

The reference is the derivative of the unrolled step, in which the virtual weights are a function of the logits. The exact
estimator computes it up to rounding (the tests require 1e-8), so its result in float64 is the reference here.
"""

import argparse
import time

import torch
from paper import PaperSpace
from torch import nn

from nni_darts_ext import DartsMutator
from nni_darts_ext.core.bilevel import estimators


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--channels', type=int, default=4)
    parser.add_argument('--cells', type=int, default=3)
    parser.add_argument('--nodes', type=int, default=2)
    parser.add_argument('--batch-size', type=int, default=16)
    parser.add_argument('--steps', type=int, default=10, help='weight steps before measuring')
    parser.add_argument('--seeds', type=int, default=3)
    arguments = parser.parse_args()
    for seed in range(arguments.seeds):
        measure(seed, arguments)


def measure(seed, arguments):
    torch.manual_seed(seed)
    model = PaperSpace(arguments.channels, arguments.cells, arguments.nodes).double()
    mutator = DartsMutator(model).double()
    logits = list(mutator.parameters())
    batches = [(torch.randn(arguments.batch_size, 3, 32, 32).double(), torch.randint(10, (arguments.batch_size,)))
               for _ in range(2)]

    def loss_on(batch):
        def loss():
            mutator.reset()
            return nn.functional.cross_entropy(model(batch[0].to(logits[0].dtype)), batch[1])
        return loss
    training, validation = map(loss_on, batches)
    optimizer = torch.optim.SGD(model.parameters(), 0.025, momentum=0.9, weight_decay=3e-4)
    for _ in range(arguments.steps):
        optimizer.zero_grad()
        training().backward()
        optimizer.step()

    problem = training, validation, logits, [optimizer], model
    estimates = {'first order': lambda: estimators.first_order(validation, logits, model),
                 'exact': lambda: estimators.unrolled_exact(*problem)}
    for radius in (1e-2, 1e-4, 1e-6, 1e-8):
        estimates['finite difference, radius {:.0e}'.format(radius)] = (
            lambda radius=radius: estimators.unrolled_finite_difference(*problem, radius=radius))
    truth = None
    for dtype in (torch.float64, torch.float32):
        mutator.to(dtype), model.to(dtype)
        optimizer.load_state_dict(optimizer.state_dict())  # the momentum in the same type
        found, seconds = {}, {}
        for name, estimate in estimates.items():
            began = time.perf_counter()
            found[name] = torch.cat([gradient.flatten() for gradient in estimate()]).double()
            seconds[name] = time.perf_counter() - began
        truth = found['exact'] if truth is None else truth
        print('seed {}, {}: the second order adds {:.0%} of the gradient'.format(
            seed, dtype, float((found['first order'] - truth).norm() / truth.norm())))
        for name, gradient in found.items():
            error = (gradient - truth).norm()
            print('  {:34} error {:.1e} of the gradient, time {:.1f} x that of the first order'.format(
                name, float(error / truth.norm()), seconds[name] / seconds['first order']))


if __name__ == '__main__':
    main()
