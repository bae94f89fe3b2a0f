"""The smallest search space and data for an experiment; one of its searches can fail once."""

import os
import signal

import torch
from torch import nn
from torch.utils.data import TensorDataset

import nni_darts_ext.nn as dnn
from nni_darts_ext.core.logits import softmax
from nni_darts_ext.methods import Method


class Space(dnn.ModelSpace):
    def __init__(self):
        super().__init__()
        for key in 'abc':
            setattr(self, key, dnn.LayerChoice({'linear': nn.Linear(4, 4), 'tanh': nn.Tanh(), 'skip_connect': nn.Identity()},
                                               key=key))
        self.inputs = dnn.InputChoice(choose_from=['a', 'b', 'c'], n_chosen=2, key='inputs')
        self.classifier = nn.Linear(4, 4)

    def forward(self, x):
        return self.classifier(self.inputs([self.a(x), self.b(x), self.c(x)]))


def failing_once():
    """Fails in the first search with seed 0."""
    if torch.initial_seed() == 0 and 'TINY_MARK' in os.environ and not os.path.exists(os.environ['TINY_MARK']):
        open(os.environ['TINY_MARK'], 'w').close()
        raise RuntimeError('made to fail')
    return Space()


class Wide(Space):
    def __init__(self):
        super().__init__()
        self.classifier = nn.Linear(4, 5)


class Dying(Space):
    """Its second process kills itself in the second epoch."""

    def train(self, mode=True):
        self.epochs = getattr(self, 'epochs', 0) + mode
        if self.epochs == 2 and os.environ.get('RANK') == '1':
            open(os.environ['TINY_MARK'], 'w').close()
            os.kill(os.getpid(), signal.SIGKILL)
        return super().train(mode)


def dying_once():
    """Its second process kills itself once, while there is an experiment's mark to set."""
    if os.path.exists(os.environ['TINY_MARK']):
        return Space()
    return Dying()


def accuracy(output, labels):
    return (output.argmax(dim=1) == labels).double().mean()


def accuracy_of_one_epoch(output, labels):
    """Interrupts the trial in the evaluation of its second epoch, or in its second epoch."""
    accuracy_of_one_epoch.calls += 1
    if accuracy_of_one_epoch.calls > accuracy_of_one_epoch.limit:
        raise KeyboardInterrupt
    return accuracy(output, labels)


accuracy_of_one_epoch.calls, accuracy_of_one_epoch.limit = 0, 8


def records():
    """The data as a list of samples that are dicts."""
    x, y = data()[0].tensors
    samples = [{'inputs': inputs, 'label': int(label)} for inputs, label in zip(x, y)]
    return samples, samples[:10]


def collate(samples):
    return {'inputs': torch.stack([sample['inputs'] for sample in samples]), 'labels': [sample['label'] for sample in samples]}


def forward(model, batch):
    output = model(batch['inputs'])
    return output, nn.functional.cross_entropy(output, torch.tensor(batch['labels'], device=output.device))


def forward_without_output(model, batch):
    return None, forward(model, batch)[1]


def share(output, batch):
    """The share of correct answers."""
    return (output.argmax(dim=1) == torch.tensor(batch['labels'], device=output.device)).float().mean()


def hits(output, batch):
    return output.argmax(dim=1) == torch.tensor(batch['labels'], device=output.device)


def data():
    x = torch.randn(32, 4, generator=torch.Generator().manual_seed(0))
    dataset = TensorDataset(x, x.argmax(dim=1))
    return dataset, dataset


def digits():
    """scikit-learn's digits 0 to 3, in 2 x 2 pixels: 360 of them to train on, as many to validate on."""
    from sklearn.datasets import load_digits
    images, labels = load_digits(n_class=4, return_X_y=True)
    pixels = images.reshape(-1, 2, 4, 2, 4).mean(axis=(2, 4)).reshape(-1, 4) / 16
    x, y = torch.as_tensor(pixels, dtype=torch.float32), torch.as_tensor(labels)
    return TensorDataset(x[:360], y[:360]), TensorDataset(x[360:], y[360:])


def loss(output, labels):
    return torch.nn.functional.cross_entropy(output, labels).item()


class Tempered(Method):
    """A method of one's own."""

    def __init__(self, temperature=1.0):
        self.temperature = temperature

    def relax(self, logits, at):
        return softmax({key: values / self.temperature for key, values in logits.items()})
