"""What is searched: the paper's convolutional space (``examples/paper.py``) on random images of CIFAR-10's size."""

import sys
from collections import OrderedDict
from pathlib import Path
from typing import NamedTuple

import torch
from torch import nn
from torch.utils.data import TensorDataset

sys.path.append(str(Path(__file__).parents[2] / 'examples'))
import paper

ORDER = ['sep_conv_3x3', 'max_pool_3x3', 'dil_conv_3x3', 'skip_connect', 'sep_conv_5x5', 'avg_pool_3x3', 'dil_conv_5x5']
"""In which an edge gets its candidates, and gets them again beyond seven: dear ones and cheap ones in turn."""

LEARNING_RATE = 0.025
"""Of the weights. Source: the paper."""

loss = nn.CrossEntropyLoss()


class Problem(NamedTuple):
    """The size of a search."""

    channels: int = 8
    cells: int = 5
    nodes: int = 4
    candidates: int = 7
    batch_size: int = 16

    def model(self):
        torch.manual_seed(0)
        return paper.PaperSpace(self.channels, self.cells, self.nodes, candidates=self._candidates)

    def _candidates(self, channels, stride):
        found = OrderedDict()
        while len(found) < self.candidates:
            fresh = paper.candidates(channels, stride)
            again = len(found) // len(ORDER)
            for name in ORDER[:self.candidates - len(found)]:
                found['{}_{}'.format(name, again) if again else name] = fresh[name]
        return found

    def images(self, n_batches):
        n = n_batches * self.batch_size
        return TensorDataset(torch.randn(n, 3, 32, 32), torch.randint(10, (n,)))

    def batch(self, device, channels_last=False):
        images, labels = self.images(1).tensors
        images = images.to(device)
        return images.contiguous(memory_format=torch.channels_last) if channels_last else images, labels.to(device)


OF_THE_PAPER = Problem(channels=16, cells=8, nodes=4, candidates=7, batch_size=64)
TINY = Problem(cells=3, nodes=1, candidates=2, batch_size=2)


def optimizer(weights):
    """The paper's."""
    return torch.optim.SGD(weights, LEARNING_RATE, momentum=0.9, weight_decay=3e-4)
