"""What DartsTrainer accepts as a data set, as a pair and as batches, and the order of the samples."""

import itertools

import numpy as np
import pytest
import torch
from spaces import TWO_NODES, Cells, batches, write_weights
from torch import nn
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

from nni_darts_ext import DartsMutator, DartsTrainer, TrainingError


def trainer(data, loss=nn.functional.cross_entropy, epochs=1, **options):
    model = write_weights(Cells(TWO_NODES, named=True))
    return DartsTrainer(model, loss, None, torch.optim.SGD(model.parameters(), 0.05), epochs, data, workers=0, device='cpu',
                        mutator=DartsMutator(model).double(), batch_size=6, **options)


def dataset(n=24):
    return TensorDataset(*batches(1, batch=n)[0][0])


def samples(n=24):
    """Samples that are all different."""
    return [(torch.full((3,), float(i)).double(), i % 2) for i in range(n)]


def order(loader):
    return [int(x) for inputs, _ in loader for x in inputs[:, 0]]


class Stream(IterableDataset):
    """A stream of samples without length; endless by default."""

    def __init__(self, n=None):
        self.n = n

    def __iter__(self):
        return itertools.islice(itertools.cycle(samples()), self.n)


class Indexed(Dataset):
    """A data set without length."""

    def __getitem__(self, i):
        return samples()[i]


# What is a data set, what a pair, what batches ------------------------------------------------------------------------------

@pytest.mark.parametrize('kind', [list, tuple])
def test_a_list_of_samples_is_a_data_set_and_is_split(kind):
    search = trainer(kind(samples()), split=0.75)
    assert sorted(order(search.train_loader)) == list(range(18)) and sorted(order(search.valid_loader)) == list(range(18, 24))
    assert {inputs.shape for inputs, _ in search.train_loader} == {(6, 3)}
    search.train()


def test_a_tensor_of_samples_is_a_data_set_where_it_is_split():
    def restored(model, batch):
        return None, (model(batch) ** 2).mean()
    search = trainer(torch.randn(24, 3).double(), None, forward_batch=restored)
    assert [len(batch) for batch in search.train_loader] == [6, 6]
    search.train()


@pytest.mark.parametrize('kind', [list, tuple])
def test_of_a_pair_each_part_is_a_data_set_or_gives_batches(kind):
    loader = DataLoader(dataset(12), 4)
    of_batches = [batch for pair in batches(2) for batch in pair]
    for part, n in ((dataset(12), 2), (loader, 3), (of_batches, 4), (tuple(of_batches), 4), (Stream(12), 2)):
        search = trainer(kind([part, of_batches]))
        assert len(list(search.train_loader)) == n
        search.train()
    assert trainer(kind([loader, of_batches])).train_loader is loader


@pytest.mark.parametrize('data, message', [
    ((torch.zeros(8, 3), torch.zeros(8)), r'tuple of two.*pair of data.*contains a tensor of shape \(8, 3\).*TensorDataset'),
    ([np.zeros((8, 3)), np.zeros(8)], 'list of two.*contains a ndarray.*TensorDataset'),
    (samples(2), 'A tuple is given as the batches for the weights, but its first element is a tensor'),
    ([dict(x=0), dict(x=1)], "found a dict of 'x'.*Expected a data set, a loader or another iterable of batches"),
    ((dataset(), None), 'found None'),
    ((dataset(), 3), 'found a int'),
    ((samples(), dataset()), r'first element is one sample, whose label is a int \(0\).*a Dataset or a DataLoader'),
    (([(x, torch.tensor(y)) for x, y in samples()], dataset()), r'one sample, whose label is a tensor of shape \(\)'),
    (([(x, np.int64(y)) for x, y in samples()], dataset()), 'one sample, whose label is a int64'),
    ((Indexed(), dataset()), 'a Indexed has no length.*__len__'),
    ([dataset(), dataset(), dataset()], 'a list of 3.* contains a TensorDataset.*Pass a pair'),
    ([DataLoader(dataset())], 'a list of 1.* contains a DataLoader.*Pass a pair'),
    (dict(train=dataset(), valid=dataset()), "a dict of 'train', 'valid', not a data set.*Pass a pair"),
    ('cifar10', r"a str \('cifar10'\), not a data set"),
    (DataLoader(dataset()), 'A DataLoader cannot be split.*__len__ and __getitem__.*Pass a pair'),
    (Stream(), 'A Stream cannot be split.*Pass a pair'),
    ((itertools.cycle(batches(1)[0]), itertools.cycle(batches(1)[0])), 'Both parts of dataset_train are endless'),
])
def test_what_is_neither_is_refused_at_construction(data, message):
    with pytest.raises(TrainingError, match=message):
        trainer(data)


@pytest.mark.parametrize('data, message', [
    (samples(), r'A list is given as the batches for the validation.*one sample, whose label is a int \(0\).*a Dataset or a '
     'DataLoader'),
    (dataset()[:], r'A tuple is given as the batches for the validation.*tensor of shape \(24, 3\)'),
    ([dataset()], 'A list is given as the batches for the validation.*first element is a TensorDataset'),
    (dict(a=1), "dataset_valid is one data set or one loader, but found a dict of 'a'"),
    (itertools.cycle(batches(1)[0]), 'dataset_valid is endless'),
    (Indexed(), 'a Indexed has no length'),
])
def test_so_is_what_cannot_be_validated_on(data, message):
    with pytest.raises(TrainingError, match=message):
        trainer(dataset(), dataset_valid=data)


# In which order -------------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize('data', [samples(24), (samples(12), samples(12)[::-1])], ids=['one', 'pair'])
def test_data_sets_are_shuffled_in_each_epoch_whether_one_or_two(data):
    class Samples(Dataset):
        def __init__(self, samples):
            self.samples = samples

        def __len__(self):
            return len(self.samples)

        def __getitem__(self, i):
            return self.samples[i]

    def orders():
        torch.manual_seed(1)
        search = trainer(tuple(map(Samples, data)) if isinstance(data, tuple) else data)
        return [order(loader) for _ in range(2) for loader in (search.train_loader, search.valid_loader)]
    weights, logits, weights_again, logits_again = first = orders()
    assert weights != weights_again and logits != logits_again
    assert sorted(weights) == sorted(weights_again) and sorted(logits) == sorted(logits_again)
    assert all(found not in (sorted(found), sorted(found, reverse=True)) for found in first)
    assert orders() == first  # with the same seed


def test_what_is_validated_on_and_what_is_a_stream_keep_their_order():
    search = trainer((Stream(12), Stream(18)), dataset_valid=dataset(12))
    assert order(search.train_loader) == list(range(12)) and order(search.valid_loader) == list(range(18))
    assert torch.equal(torch.cat([x for x, _ in search.test_loader]), dataset(12).tensors[0])


# Streams --------------------------------------------------------------------------------------------------------------------

def endless():
    while True:
        yield batches(1)[0][0]


def counted(search):
    """The number of forward passes in each validation."""
    calls = []
    search.model.register_forward_hook(lambda module, *_: None if module.training else calls.append(1))
    search.train()
    n = len(calls)
    search.validate()
    return n, len(calls) - n


@pytest.mark.parametrize('logits', [Stream, endless, lambda: itertools.cycle(batches(1)[0])])
def test_an_endless_stream_of_the_logits_is_validated_for_as_many_batches_as_an_epoch_has(logits):
    assert counted(trainer((dataset(18), logits()))) == (3, 3)
    assert counted(trainer((Stream(12), logits()))) == (2, 2)
    assert len(trainer((dataset(18), logits())).validate()) == 1  # before the first epoch
    with pytest.raises(TrainingError, match='stream of unknown length.*there was no epoch yet. Pass dataset_valid'):
        trainer((Stream(12), logits())).validate()


def test_a_stream_of_the_weights_may_be_endless_and_the_shorter_one_ends_the_epoch():
    assert counted(trainer((Stream(), dataset(18)))) == (3, 3)
    assert counted(trainer((Stream(24), Stream(12)))) == (2, 2)
    assert counted(trainer((endless(), dataset(18)), dataset_valid=dataset(24), epochs=2)) == (8, 4)


def test_an_iterator_gives_its_batches_once_which_is_said():
    with pytest.raises(TrainingError, match='Epoch 1 had no step.*iterator that gives its batches only once'):
        trainer((iter(batches(2)[0]), dataset()), dataset_valid=dataset(), epochs=2).train()
    with pytest.raises(TrainingError, match='The validation data gave no batch.*iterator that gives its batches only once'):
        trainer(dataset(), dataset_valid=iter(batches(2)[0]), epochs=2).train()
