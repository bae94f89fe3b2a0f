import pytest
import torch
from spaces import TWO_NODES, Cells, batches, write_weights
from torch import nn
from torch.utils.data import TensorDataset

from nni_darts_ext import DartsMutator, DartsTrainer, TrainingError

pytestmark = pytest.mark.family('classic', 'retiarii', 'nas')
HAS_SECOND_DERIVATIVES = tuple(int(number) for number in torch.__version__.split('.')[:2]) >= (2, 1)


class Counted(nn.Sequential):
    """A candidate with running statistics and randomness, which counts its passes."""

    def __init__(self):
        super().__init__(nn.Linear(3, 3), nn.BatchNorm1d(3), nn.Dropout(0.5))
        self.passes = 0

    def forward(self, x):
        self.passes += 1
        return super().forward(x)


def search(unrolled=False, **options):
    torch.manual_seed(0)
    model = Cells(TWO_NODES, cells=2)
    mutator = DartsMutator(model)
    counted = []
    for module in mutator.mutables:
        if hasattr(module, 'names') or not hasattr(module, 'n_chosen'):
            module._modules[next(iter(module._modules))] = Counted()
            counted.append(module._modules[next(iter(module._modules))])
    write_weights(model)
    x = torch.cat([data[0][0] for data in batches(4)])
    data = TensorDataset(x, torch.arange(len(x)) % 2)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    trainer = DartsTrainer(model, nn.functional.cross_entropy, lambda output, labels: {}, optimizer, 1, data,
                           mutator=mutator.double(), batch_size=6, workers=0, device='cpu', unrolled=unrolled, **options)
    torch.manual_seed(1)
    trainer.train(validate=False)
    return trainer, counted


@pytest.mark.parametrize('unrolled', [False, 'exact', 'finite_difference'])
def test_the_search_is_the_same_and_its_candidates_run_again(unrolled):
    if unrolled == 'exact' and not HAS_SECOND_DERIVATIVES:
        with pytest.raises(TrainingError, match="no second derivatives in PyTorch.*unrolled='finite_difference'"):
            search(unrolled, recompute=True)
        return
    plain, once = search(unrolled)
    other, again = search(unrolled, recompute=True)
    states = [{**trainer.model.state_dict(), **trainer.mutator.state_dict()} for trainer in (plain, other)]
    assert len(states[0]) == len(states[1])
    for name, value in states[0].items():
        torch.testing.assert_close(value, states[1][name], rtol=1e-12, atol=1e-12)
    assert all(norm.num_batches_tracked > 0 for module in again for norm in [module[1]])
    assert all(two.passes > one.passes for one, two in zip(once, again))


def test_the_graph_keeps_less():
    def kept(recompute):
        model = Cells([((5, 5), 1, 'sum')], width=8)
        mutator = DartsMutator(model)
        mutator.execute(recompute=recompute)
        sizes = []

        def keep(tensor):
            sizes.append(tensor.numel())
            return tensor
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            mutator.reset()
            model(torch.randn(50, 8))
        return sum(sizes)
    assert kept(True) < kept(False) / 2
