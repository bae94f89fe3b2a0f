"""DartsTrainer in several processes, real ones that talk through gloo."""

import logging
import os

import pytest
import torch
import two_processes
import words
from spaces import TWO_NODES, Cells, batches, write_weights
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, IterableDataset, Subset, TensorDataset
from torch.utils.data.distributed import DistributedSampler

from nni_darts_ext import DartsMutator, DartsTrainer, TrainingError
from nni_darts_ext.loop import processes
from nni_darts_ext.methods import Method

pytestmark = pytest.mark.ends
ORDERS = [False, 'exact', 'finite_difference']
SEED = 5


def accuracy(output, labels):
    return {'acc': (output.argmax(dim=1) == labels).double().mean()}


def dataset(n=24, phase=0):
    x, y = batches(phase + 1, batch=n)[phase][0]
    return TensorDataset(x, y)


def trainer(data, loss=nn.functional.cross_entropy, **options):
    model = write_weights(Cells(two_processes.NODES, cells=2, named=True))
    optimizer = torch.optim.SGD(model.parameters(), 0.05, momentum=0.9, weight_decay=3e-4)
    return DartsTrainer(model, loss, accuracy, optimizer, 2, data, mutator=DartsMutator(model).double(),
                        **{**dict(batch_size=3, workers=0, device='cpu', arc_learning_rate=0.02, grad_clip=1.0,
                                 methods=[Cutting()]), **options})


class Cutting(Method):
    """Cuts the weakest candidate of an edge after an epoch."""

    def after_epoch(self, at, end):
        probabilities = at.search.probabilities()['node1_edge0']
        if at.epoch == 0:
            at.search.cut('node1_edge0', int(probabilities[:-1].argmin()))


def searched(search):
    """A search to its end, with its logits at each step."""
    for logits in search.mutator.parameters():
        logits.data = 0.1 * torch.arange(len(logits)).double()
    first = processes.is_first()
    if not first:  # what a rank begins with is rank 0's
        for parameter in (*search.model.parameters(), *search.mutator.parameters()):
            parameter.data += 1
    else:
        search.mutator.cut('node0_edge0', 'op2')
    steps = []
    loss = search.loss
    search.loss = lambda output, labels: steps.append(two_processes.flat(search.mutator.parameters())) or loss(output, labels)
    search.train()
    return {'steps': steps, 'weights': two_processes.flat(search.model.parameters()), 'architecture': search.export(),
            'history': search.history}


def one_of_two(unrolled):
    torch.manual_seed(SEED)
    search = trainer(dataset(), dataset_valid=dataset(12, 1), unrolled=unrolled)
    found = searched(search)
    search.export('architecture-{}.json'.format(processes.rank()))
    processes.barrier()
    return {**found, 'files': sorted(name for name in os.listdir() if name.endswith('.json'))}


def in_one(unrolled):
    """Twice the batch, and the data in the order in which they are dealt out."""
    parts = [Subset(dataset(), range(12)), Subset(dataset(), range(12, 24))]
    loaders = [DataLoader(part, 6, sampler=DistributedSampler(part, 1, 0, seed=SEED)) for part in parts]
    return searched(trainer(tuple(loaders), dataset_valid=dataset(12, 1), batch_size=6, unrolled=unrolled))


@pytest.mark.parametrize('unrolled', ORDERS)
def test_two_ranks_search_as_one_process_with_twice_the_batch(unrolled):
    ranks = two_processes.results(one_of_two, unrolled)
    assert ranks[0] == ranks[1]  # bit for bit
    one, two = in_one(unrolled), ranks[0]
    assert two['files'] == ['architecture-0.json']
    assert two['architecture'] == one['architecture']
    assert len(two['steps']) == len(one['steps'])
    for what in ('steps', 'weights'):
        torch.testing.assert_close(torch.tensor(two[what]), torch.tensor(one[what]), rtol=0, atol=1e-10)
    assert [set(epoch) for epoch in two['history']] == [{'epoch', 'train', 'valid'}] * 2
    for ours, theirs in zip(two['history'], one['history']):
        assert ours['train'] == pytest.approx(theirs['train'], abs=1e-10)
        assert ours['valid'] == pytest.approx(theirs['valid'], abs=1e-10)


class Batches:
    """Some batches, and nobody knows how many."""

    def __init__(self, batches):
        self.batches = batches

    def __iter__(self):
        return iter(self.batches)


def loaders_of_different_lengths():
    records = []
    handler = logging.Handler()
    handler.emit = lambda record: records.append(record.getMessage())
    logging.getLogger('nni_darts_ext').addHandler(handler)
    logging.getLogger('nni_darts_ext').setLevel(logging.INFO)
    rank = processes.rank()
    data = batches(4 - rank)
    lengths = []
    for form in (list, Batches):
        for weights, logits in (zip(*data), zip(*data[:1 + rank])):
            search = trainer((form(weights), form(logits)), dataset_valid=dataset(7))
            search.train()
            lengths.append(search.ctrl_optim.state[next(search.mutator.parameters())]['step'])
    search = trainer((dataset(7), dataset(9)), dataset_valid=dataset(1))
    search.train()
    return {'steps': [int(steps) for steps in lengths], 'log': records, 'valid': search.history[-1]['valid']['loss'],
            'dealt': [len(search.train_loader), len(search.valid_loader)], 'validated': [len(y) for _, y in search.test_loader]}


def test_ranks_step_together_whatever_data_each_has():
    first, second = two_processes.results(loaders_of_different_lengths)
    assert first['steps'] == second['steps'] == [6, 2, 6, 2]  # in two epochs of the shortest
    assert sum('an epoch ends with the shortest' in line for line in first['log']) == 4
    assert any('Epoch 2/2 valid' in line for line in first['log'])
    assert not any('Epoch' in line for line in second['log'])  # what all ranks know one says
    assert first['dealt'] == second['dealt'] == [2, 2]  # batches of 3, of 4 and 5 samples
    assert first['validated'] == [1] and second['validated'] == []
    assert first['valid'] == second['valid']


class Shard(IterableDataset):
    """What this rank has of some samples, whose number nobody knows."""

    def __iter__(self):
        x, y = dataset().tensors
        yield from list(zip(x, y))[processes.rank()::2]


def pairs_of_streams_and_of_sets():
    found = []
    for data in ((Shard(), Shard()), (Shard(), dataset(18)), (dataset(18), Shard())):
        torch.manual_seed(SEED + processes.rank())
        search = trainer(data, dataset_valid=Shard())
        orders, loss = [], search.loss
        search.loss = lambda output, labels, orders=orders, loss=loss: orders.append(len(labels)) or loss(output, labels)
        search.train()
        found.append([sum(orders), search.history,
                      two_processes.flat([*search.mutator.parameters(), *search.model.parameters()])])
    search = trainer((dataset(18), dataset(18)))
    return found, [[row for x, _ in loader for row in x[:, 0].tolist()] for loader in (search.train_loader, search.valid_loader)]


def test_streams_are_each_ranks_own_and_pairs_of_data_sets_are_shuffled_and_dealt_out():
    (first, first_rows), (second, others_rows) = two_processes.results(pairs_of_streams_and_of_sets)
    assert first == second  # the same weights and logits, and the same means
    assert [n for n, *_ in first] == [2 * (12 + 12 + 12)] + [2 * (9 + 9 + 12)] * 2  # in two epochs, and in their validation
    rows = dataset(18).tensors[0][:, 0].tolist()
    for own, others in zip(first_rows, others_rows):
        assert sorted(own + others) == sorted(rows)
        assert (own, others) != (rows[::2], rows[1::2])


def killed_and_gone_on():
    def search(epochs, folder):
        torch.manual_seed(SEED + processes.rank())
        model = write_weights(Cells(TWO_NODES, named=True))  # with BatchNorm
        found = DartsTrainer(model, lambda output, labels: nn.functional.cross_entropy(output + torch.randn_like(output), labels),
                             accuracy, torch.optim.Adam(model.parameters()), epochs, dataset(), batch_size=3, workers=0,
                             device='cpu', mutator=DartsMutator(model).double(), checkpoint_dir=folder)
        found.train()
        return found
    search(1, 'checkpoints')
    again, through = search(3, 'checkpoints'), search(3, None)
    return [[two_processes.flat([*one.mutator.parameters(), *one.model.state_dict().values()]), one.history]
            for one in (again, through)]


def test_ranks_that_were_killed_go_on_together_from_what_one_has_written():
    (again, through), others = two_processes.results(killed_and_gone_on)
    assert again == through  # with the noise of each rank
    assert others == [again, through]


class Learning(nn.Module):
    """A loss with a weight and a running mean of what its process sees."""

    def __init__(self):
        super().__init__()
        self.temperature = nn.Parameter(torch.full((), 1.0 + processes.rank(), dtype=torch.float64))
        self.register_buffer('mean', torch.zeros(2, dtype=torch.float64))

    def forward(self, output, labels):
        with torch.no_grad():
            self.mean += 0.1 * (output.mean(0) - self.mean)
        return nn.functional.cross_entropy((output - self.mean) * self.temperature, labels)


def with_a_loss_that_learns():
    torch.manual_seed(SEED)
    loss = Learning()
    search = trainer(dataset(), dataset_valid=dataset(12, 1), loss=loss)
    search.optimizer.add_param_group({'params': loss.parameters()})
    search.train()
    return two_processes.flat(loss.state_dict().values())


def test_a_loss_that_learns_is_the_same_on_every_rank():
    one, other = two_processes.results(with_a_loss_that_learns)
    assert one == other and one[0] != 1


def with_sparse_gradients(sparse, data):
    """On the ranks, of which the first alone has a loss with a gradient by weights in the last step."""
    model = words.model(sparse)
    mine = [tuple(two_processes.share_of(batch) for batch in step) for step in data]

    def loss(output, labels):
        counted.append(1)
        return nn.functional.cross_entropy(output if len(counted) < 6 or processes.is_first() else output.detach(), labels)
    counted = []
    search = DartsTrainer(model, loss, accuracy, torch.optim.SGD(model.parameters(), 0.5), 1, tuple(zip(*mine)), grad_clip=0.05,
                          mutator=DartsMutator(model).double(), device='cpu')
    search.train(validate=False)
    return {'weights': two_processes.flat(model.parameters()), 'sparse': model.embedding.weight.grad.is_sparse}


def test_sparse_gradients_are_averaged_and_stay_sparse_on_a_rank_that_has_none_too():
    one, other = two_processes.results(with_sparse_gradients, True, words.batches(3))
    assert one == other and one['sparse']
    dense, _ = two_processes.results(with_sparse_gradients, False, words.batches(3))
    assert not dense['sparse']
    torch.testing.assert_close(torch.tensor(one['weights']), torch.tensor(dense['weights']), rtol=0, atol=1e-10)


def gradients():
    first = processes.is_first()
    parameters = [torch.zeros(2), torch.zeros(1, 2, dtype=torch.float64), torch.zeros(2), torch.zeros(())]
    own = [torch.full((2,), 1.0 if first else 4.0), torch.ones(1, 2, dtype=torch.float64) if first else None, None,
           None if first else torch.ones(())]
    return [None if gradient is None else gradient.tolist() for gradient in processes.average(own, parameters)]


def test_the_mean_of_gradients_takes_none_for_zero_where_another_rank_has_some():
    assert two_processes.results(gradients) == [[[2.5, 2.5], [[0.5, 0.5]], None, 0.5]] * 2


def one_fails():
    search = trainer(dataset())
    if not processes.is_first():
        search.loss = lambda output, labels: 1 / 0
    search.train()


def test_a_rank_that_fails_does_not_leave_the_others_hanging():
    first, second = two_processes.run(one_fails)
    assert 'ZeroDivisionError' in second
    assert 'Traceback' in first


def in_data_parallel():
    model = write_weights(Cells(two_processes.NODES))
    DartsMutator(model)
    wrapped = DistributedDataParallel(model)
    DartsTrainer(wrapped, nn.functional.cross_entropy, accuracy, torch.optim.SGD(model.parameters(), 0.1), 1, dataset())


def test_what_would_not_search_together_is_refused(monkeypatch):
    for found in two_processes.run(in_data_parallel):
        assert 'TrainingError: The model is a DistributedDataParallel' in found
    monkeypatch.setenv('WORLD_SIZE', '2')
    monkeypatch.setenv('RANK', '1')
    with pytest.raises(TrainingError, match='rank 1 of 2 processes.*init_process_group'):
        trainer(dataset())
    monkeypatch.setenv('WORLD_SIZE', '1')
    trainer(dataset())


def test_a_gpu_that_is_not_that_of_the_rank_is_refused(monkeypatch):
    monkeypatch.setattr(processes, 'size', lambda: 2)
    monkeypatch.setattr(processes, 'rank', lambda: 1)
    monkeypatch.setattr(torch.distributed, 'get_backend', lambda: 'nccl')
    monkeypatch.setattr(torch.cuda, 'current_device', lambda: 0)
    for device in ('cuda:1', 'cpu'):
        with pytest.raises(TrainingError, match=f'Rank 1 searches on {device}.* is cuda:0.*torch.cuda.set_device'):
            trainer(dataset(), device=device)
    for device in ('cuda:0', 'cuda'):
        processes.check_device(torch.device(device))
    monkeypatch.setattr(torch.distributed, 'get_backend', lambda: 'gloo')
    processes.check_device(torch.device('cpu'))
