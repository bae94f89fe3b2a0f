"""A search that ends where the dominant eigenvalue grows."""

import pytest
import torch
from torch import nn

from nni_darts_ext.core.logits import Logits
from nni_darts_ext.core.search import Search
from nni_darts_ext.core.space import Edge, SearchSpace
from nni_darts_ext.methods import At, EarlyStopping, EndOfEpoch, Methods, early_stopping

OTHER = nn.Parameter(torch.zeros(2))
"""Of another method, and stepped with the logits."""


def searched(eigenvalues, resumed_at=None):
    """The search, and for each epoch why it ended."""
    search, method = Search(), EarlyStopping()
    search.space, search.choices = SearchSpace([Edge('a', ('x', 'y'), 'a')]), Logits()
    search.choices['a'] = nn.Parameter(torch.zeros(3))
    said = []
    for epoch, eigenvalue in enumerate(eigenvalues):
        if epoch == resumed_at:
            state, method = Methods([method]).state_dict(), EarlyStopping()
            Methods([method]).load_state_dict(state)
        if epoch == 7:
            search.choices.cut('a', 0)
        search.choices['a'].data[1] = epoch
        OTHER.data.fill_(epoch)
        end = EndOfEpoch({'train': {}}, None, [*search.choices.values(), OTHER], nn.Module(), None,
                         indicators={'eigenvalue': eigenvalue})
        said.append(method.after_epoch(At(search, epoch=epoch, epochs=len(eigenvalues)), end))
    return search, said


def test_a_search_whose_eigenvalue_grows_ends_with_what_it_had_before():
    search, said = searched([1.0] * 5 + [1.2] * 3 + [1.5, 1.5, 2.0])
    assert said[:10] == [None] * 10                       # 1.0 against 1.32 on average after ten epochs
    assert 'grown from 1.04 to 1.48 within 5 epochs' in said[10] and 'those after epoch 5' in said[10]
    assert search.choices['a'].tolist() == [0, 5, 0] and search.choices.cuts('a') == () and OTHER.tolist() == [5, 5]


def test_a_checkpoint_of_early_versions_has_the_logits_alone():
    search, method = Search(), EarlyStopping()
    search.space, search.choices = SearchSpace([Edge('a', ('x', 'y'), 'a')]), Logits()
    search.choices['a'] = nn.Parameter(torch.zeros(3))
    kept = search.choices.state_dict()
    method.load_state_dict({'values': [1.0] * 9, 'logits': [{**kept, 'a': torch.full((3,), float(i))} for i in range(5)]})
    OTHER.data.fill_(7)
    end = EndOfEpoch({}, None, [*search.choices.values(), OTHER], nn.Module(), None, indicators={'eigenvalue': 9.0})
    assert 'those after epoch 4' in method.after_epoch(At(search, epoch=9, epochs=20), end)
    assert search.choices['a'].tolist() == [0, 0, 0] and OTHER.tolist() == [7, 7]


@pytest.mark.parametrize('eigenvalues', [
    [1.0] * 30, [0.0] * 30, [5.0 - i / 10 for i in range(30)], [1.02 ** i for i in range(30)]])
def test_one_whose_eigenvalue_does_not_goes_on(eigenvalues):
    assert searched(eigenvalues)[1] == [None] * 30


def test_the_sign_does_not_matter_and_nothing_ends_before_there_are_two_averages():
    said = searched([-float(2 ** i) for i in range(10)])[1]
    assert said[:9] == [None] * 9 and said[9] is not None


def test_a_search_that_goes_on_has_what_it_needs():
    eigenvalues = [1.0] * 8 + [3.0] * 3
    through, said = searched(eigenvalues)
    again, said_again = searched(eigenvalues, resumed_at=9)
    assert said == said_again and said[-1] is not None
    assert torch.equal(through.choices['a'], again.choices['a'])


def test_the_numbers_are_those_of_the_paper():
    assert (early_stopping.WINDOW, early_stopping.RATIO) == (5, 0.75)
