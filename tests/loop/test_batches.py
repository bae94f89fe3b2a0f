"""DartsTrainer on batches of any form, and its errors for invalid ones."""

import dataclasses
import math
from collections import UserDict, namedtuple

import pytest
import torch
from spaces import TWO_NODES, Cells, batches, write_weights
from torch import nn
from torch.nn.utils.rnn import pack_sequence, pad_packed_sequence

import nni_darts_ext.nn as dnn
from nni_darts_ext import DartsMutator, DartsTrainer, TrainingError
from nni_darts_ext.methods import Eigenvalue

Named = namedtuple('Named', 'inputs labels weights')


@dataclasses.dataclass(frozen=True)
class Record:
    inputs: torch.Tensor
    labels: torch.Tensor
    weights: torch.Tensor


class Stream:
    """Batches that must not be read before they are needed."""

    def __init__(self, batches):
        self.batches = batches

    def __iter__(self):
        return iter(self.batches)


def accuracy(output, labels):
    return {'acc': (output.argmax(dim=1) == labels).float().mean().item()}


def weighted_loss(output, labels, weights):
    return (nn.functional.cross_entropy(output, labels, reduction='none') * weights).mean()


def forward(model, batch):
    """Of batches with the names of :class:`Record`, as attributes or keys."""
    inputs, labels, weights = ((batch[name] if isinstance(batch, (dict, UserDict)) else getattr(batch, name))
                               for name in ('inputs', 'labels', 'weights'))
    output = model(inputs)
    return output, weighted_loss(output, labels, weights)


FORMS = {'dict': lambda *parts: dict(zip(Named._fields, parts)), 'mapping': lambda *parts: UserDict(zip(Named._fields, parts)),
         'namedtuple': Named, 'dataclass': Record}


def trainer(data, loss=nn.functional.cross_entropy, metrics=accuracy, model=None, **options):
    model = write_weights(Cells(TWO_NODES, named=True)) if model is None else model
    torch.manual_seed(0)
    return DartsTrainer(model, loss, metrics, torch.optim.SGD(model.parameters(), 0.05, momentum=0.9), 2, data, workers=0,
                        mutator=DartsMutator(model).double(), device='cpu', arc_learning_rate=0.02, **options)


def formed(form, n=3):
    """Batches of three parts for weights and logits."""
    weights = torch.linspace(0.5, 2, 6).double()
    return [[form(x, y, weights) for x, y in part] for part in zip(*batches(n))]


def searched(data, **options):
    search = trainer(data, methods=[Eigenvalue()], **options)
    search.train()
    return search.history, {key: logits.tolist() for key, logits in search.mutator.choices.items()}


@pytest.mark.parametrize('unrolled', [False, 'exact', 'finite_difference'])
def test_a_batch_of_any_form_searches_as_its_pair_does(unrolled):
    pairs = [[(x, (y, weights)) for x, y, weights in part] for part in formed(Named)]
    expected = searched(pairs, loss=lambda output, labels: weighted_loss(output, *labels),
                        metrics=lambda output, labels: accuracy(output, labels[0]), unrolled=unrolled)
    for form in FORMS.values():
        data = formed(form)
        found = searched(data, loss=None, forward_batch=forward, unrolled=unrolled, metrics=lambda output, batch: accuracy(
            output, batch.labels if hasattr(batch, 'labels') else batch['labels']))
        assert found == expected


def test_parts_of_the_collated_samples_reach_the_model_and_the_loss():
    samples = [Named(x, y, 1.0) for x, y in zip(*batches(1, batch=24)[0][0])]
    seen = []

    def watched(model, batch):
        seen.append((type(batch), len(batch.inputs), batch.weights.tolist()))
        return forward(model, batch)
    trainer(samples, None, None, batch_size=6, forward_batch=watched).train()
    assert set(map(str, seen)) == {str((Named, 6, [1.0] * 6))}


class Sentences(dnn.ModelSpace):
    """Reads sequences of several lengths, and returns its loss in training mode."""

    def __init__(self):
        super().__init__()
        self.edge = dnn.LayerChoice([nn.Linear(3, 3), nn.Tanh()], key='edge')
        self.classifier = nn.Linear(3, 2)

    def forward(self, words, labels):
        words, lengths = pad_packed_sequence(words, batch_first=True)
        output = self.classifier(self.edge(words).sum(1) / lengths[:, None])
        return nn.functional.cross_entropy(output, labels) if self.training else output


def test_a_model_that_returns_its_loss_and_samples_that_need_a_collate_fn():
    x, y = batches(1, batch=12)[0][0]
    samples = [(x[i:i + 1].repeat(1 + i % 4, 1), y[i]) for i in range(12)]

    def collate(samples):
        words, labels = zip(*samples)
        return pack_sequence(words, enforce_sorted=False), torch.stack(labels)

    def forward_batch(model, batch):
        returned = model(*batch)
        return (None, returned) if model.training else (returned, None)
    search = trainer(samples, None, lambda output, batch: accuracy(output, batch[1]), Sentences().double(), batch_size=3,
                     collate_fn=collate, forward_batch=forward_batch)
    search.train()
    assert [set(epoch['train']) for epoch in search.history] == [{'loss'}] * 2
    assert [set(epoch['valid']) for epoch in search.history] == [{'acc'}] * 2
    assert search.history[1]['train']['loss'] < search.history[0]['train']['loss']
    assert all(0 <= epoch['valid']['acc'] <= 1 for epoch in search.history)


def test_the_model_may_run_several_times_in_a_step():
    def contrast(model, batch):
        one, other = model(batch[0]), model(batch[1].double()[:, None].repeat(1, 3))
        return one, (one - other).pow(2).mean()
    search = trainer([list(part) for part in zip(*batches(2))], None, None, forward_batch=contrast)
    before = [logits.tolist() for logits in search.mutator.parameters()]
    search.train()
    assert all(old != logits.tolist() for old, logits in zip(before, search.mutator.parameters()))
    assert set(search.history[0]['valid']) == {'loss'}


def test_a_loss_that_is_a_module_goes_to_the_device_for_forward_batch_to_call():
    loss = nn.CrossEntropyLoss(weight=torch.ones(2))
    search = trainer([list(part) for part in zip(*batches(1))], loss.double(), None,
                     forward_batch=lambda model, batch: (None, loss(model(batch[0]), batch[1])))
    search.train()
    assert search.loss is loss and math.isfinite(search.history[-1]['train']['loss'])


@pytest.mark.parametrize('batch, found', [
    (torch.zeros(2, 3), r'a tensor of shape \(2, 3\) and torch.float32'),  # two rows
    ({'x': torch.zeros(2, 3), 'y': torch.zeros(2)}, "a dict of 'x', 'y'"),
    ([torch.zeros(2, 3)] * 3, 'a list of 3 parts'),
    (Named(1, 2, 3), 'a Named of 3 parts'),
    (Record(1, 2, 3), 'a Record'),
    (None, 'None'),
])
def test_a_batch_that_is_no_pair_is_refused_and_the_way_out_named(batch, found):
    for data in ((Stream([batch]), batches(1)[0]), (batches(1)[0], Stream([batch]))):
        search = trainer(data)
        with pytest.raises(TrainingError, match=rf'batch is {found}\. Expected a pair \(inputs, labels\).*forward_batch'):
            search.train()
    search = trainer(tuple(zip(*batches(1))), dataset_valid=Stream([batch]))
    with pytest.raises(TrainingError, match=f'batch is {found}.*forward_batch'):
        search.validate()


@pytest.mark.parametrize('forward_batch, message', [
    (lambda model, batch: model(batch[0]).sum(), r'returned a tensor of shape \(\).*Expected a pair.*in this order'),
    (lambda model, batch: None, 'forward_batch returned None.*Expected a pair'),
    (lambda model, batch: (1, 2, 3), 'forward_batch returned a tuple of 3 parts'),
    (lambda model, batch: (model(batch[0]).sum(), model(batch[0])), r'second value .* shape \(6, 2\).*Expected a scalar'),
    (lambda model, batch: (model(batch[0]), None), 'second value that forward_batch returned, is None.*Expected a scalar'),
    (lambda model, batch: (None, batch[1].sum()), 'torch.int64.*Expected a scalar: a floating-point tensor'),
    (lambda model, batch: (None, model(batch[0]).sum().item()), 'is a float .*Expected a scalar'),
])
@pytest.mark.parametrize('unrolled', [False, True])
def test_what_forward_batch_must_return(forward_batch, message, unrolled):
    search = trainer([list(part) for part in zip(*batches(1))], None, forward_batch=forward_batch, unrolled=unrolled)
    with pytest.raises(TrainingError, match=message):
        search.train()


def test_a_loss_must_be_a_scalar_and_there_must_be_one():
    def unreduced(output, labels):
        return nn.functional.cross_entropy(output, labels, reduction='none')
    with pytest.raises(TrainingError, match=r'The loss is a tensor of shape \(6,\).*Expected a scalar'):
        trainer(tuple(zip(*batches(1))), unreduced).train()
    with pytest.raises(TrainingError, match='loss is None.*forward_batch'):
        trainer(tuple(zip(*batches(1))), None)
    with pytest.raises(TrainingError, match='Both a loss .a function. and forward_batch.*loss=None'):
        trainer(tuple(zip(*batches(1))), forward_batch=forward)


@pytest.mark.parametrize('metrics, message', [
    (lambda output, labels: None, 'metrics returned None. Expected a dict of numbers.*metrics=None'),
    (lambda output, labels: 0.5, r'metrics returned a float \(0.5\)'),
    (lambda output, labels: {'acc': output.argmax(1) == labels},
     r"The metric 'acc' is a tensor of shape \(6,\).*Expected a number or a tensor of one element"),
    (lambda output, labels: {'acc': 0.5, 'f1': None}, "The metric 'f1' is None. Expected a number"),
    (lambda output, labels: {'acc': [0.5]}, "The metric 'acc' is a list of 1 part. Expected a number"),
    (lambda output, labels: {'acc': 'high'}, r"The metric 'acc' is a str \('high'\). Expected a number"),
])
def test_metrics_must_be_numbers_with_names(metrics, message):
    with pytest.raises(TrainingError, match=message):
        trainer(tuple(zip(*batches(1))), metrics=metrics).train()


def test_there_need_not_be_metrics():
    search = trainer(tuple(zip(*batches(2))), metrics=None)
    search.train()
    assert [set(epoch[part]) for epoch in search.history for part in ('train', 'valid')] == [{'loss'}] * 4
