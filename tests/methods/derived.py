"""A search without a model whose edges have given weights."""

import torch
from torch import nn

from nni_darts_ext.core.logits import Logits
from nni_darts_ext.core.relaxation import Relaxation
from nni_darts_ext.core.search import Search
from nni_darts_ext.core.space import Edge, InputNode, SearchSpace
from nni_darts_ext.methods import Methods

NAMES = ('conv', 'pool', 'skip_connect')


def logits_of(weights):
    """Those whose softmax has these weights; what is left to 1 is the zero op's."""
    return torch.tensor([*weights, 1 - sum(weights)], dtype=torch.float64).log()


def search_of(weights, nodes, *methods, selected=None):
    """``weights`` of three candidates by edge; by InputChoice the edges that it chooses from, and how many it keeps."""
    search = Search()
    search.space = SearchSpace([*(Edge(key, NAMES, key) for key in weights), *(
        InputNode(key, tuple(sources), n_chosen, key, 'sum') for key, (sources, n_chosen) in nodes.items())])
    search.choices, search.selected = Logits(), selected
    for key, of_edge in weights.items():
        search.choices[key] = nn.Parameter(logits_of(of_edge))
    search.methods = Methods(methods)  # the search knows them weakly
    search.methods.attach(search)
    search._relaxation = Relaxation(search.choices, search.space)
    search.methods.install(search, search._relaxation)
    return search
