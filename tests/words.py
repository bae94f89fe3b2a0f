"""A search of a text model: an embedding whose gradient is sparse, and an edge behind it."""

import torch
from torch import nn

import nni_darts_ext.nn as dnn

WORDS, WIDTH = 11, 3


class Words(dnn.ModelSpace):
    def __init__(self, sparse=True):
        super().__init__()
        self.embedding = nn.Embedding(WORDS, WIDTH, sparse=sparse)
        self.edge = dnn.LayerChoice({'linear': nn.Linear(WIDTH, WIDTH), 'skip': nn.Identity(), 'tanh': nn.Tanh()}, key='edge')
        self.classifier = nn.Linear(WIDTH, 2)

    def forward(self, x):
        return self.classifier(self.edge(self.embedding(x).mean(1)))


def model(sparse=True):
    torch.manual_seed(0)
    return Words(sparse).double()


def batches(n, batch=4):
    """For each step a training and a validation batch; each word of a text may come more than once."""
    draw = torch.Generator().manual_seed(0)

    def one():
        x = torch.randint(WORDS - 4, (batch, 5), generator=draw)
        return x, (x.sum(1) % 2)
    return [(one(), one()) for _ in range(n)]
