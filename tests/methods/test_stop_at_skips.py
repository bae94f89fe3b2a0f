"""A search that ends when a derived cell has too many skip connections."""

import pytest
import torch
from derived import logits_of, search_of
from torch import nn

from nni_darts_ext.errors import MethodError
from nni_darts_ext.methods import At, EdgeNormalization, EndOfEpoch, Methods, SkipLimit, StopAtSkips

CONV, SKIP = (.6, .1, .2), (.1, .2, .6)
FEW, MANY = dict(a=CONV, b=SKIP, c=CONV), dict(a=SKIP, b=SKIP, c=CONV)
NODES = {'normal_2': ('ab', 2), 'reduce_2': ('c', 1)}


def searched(epochs, *others, method=None, resumed_at=None, steps=None):
    """The search after epochs with these weights, and for each of them why it ends."""
    method = method or StopAtSkips()
    search, said = search_of(epochs[0], NODES, method, *others), []
    for epoch, weights in enumerate(epochs):
        if epoch == resumed_at:
            state, method = Methods([method]).state_dict(), type(method)(method.n, method.cells)
            Methods([method]).load_state_dict(state)
        for key, of_edge in weights.items():
            search.choices[key].data = logits_of(of_edge)
        end = EndOfEpoch({}, None, [], nn.Module(), None, architecture_steps=1 if steps is None else steps[epoch])
        said.append(method.after_epoch(At(search, epoch=epoch, epochs=len(epochs)), end))
    return search, said


@pytest.mark.parametrize('resumed_at', [None, 1, 2])
def test_it_ends_after_the_epoch_and_goes_back_to_the_last_with_fewer(resumed_at):
    search, said = searched([FEW, dict(FEW, c=SKIP), MANY], resumed_at=resumed_at)
    assert said[:2] == [None, None]                                     # two, but in two cells
    assert said[2] == "2 edges of the cell 'normal_2' are skip connections: a, b; the logits are those after epoch 1"
    assert search.architecture() == {'a': 'conv', 'b': 'skip_connect', 'c': 'skip_connect', 'normal_2': ['a', 'b'],
                                     'reduce_2': 'c'}


def test_the_state_of_early_versions_is_read():
    method, search = StopAtSkips(), search_of(MANY, NODES)
    kept = search.choices.state_dict()
    kept['a'] = logits_of(CONV)
    method.load_state_dict({'logits': kept, 'stepped': [], 'epoch': 3})
    end = EndOfEpoch({}, None, [], nn.Module(), None)
    assert method.after_epoch(At(search, epoch=4, epochs=9), end).endswith('the logits are those after epoch 3')
    assert search.architecture()['a'] == 'conv'
    method.load_state_dict({'logits': None, 'stepped': [], 'epoch': None})
    assert 'as many from the start' in StopAtSkips(1).after_epoch(At(search, epoch=4, epochs=9), end)


def test_it_takes_the_weights_of_inputs_back_as_well():
    method, weighing = StopAtSkips(), EdgeNormalization()
    search = search_of(dict(a=CONV, b=CONV, c=SKIP, d=SKIP), {'node': ('abcd', 2)}, method, weighing)
    beta, = weighing.parameters()
    search.cut('a', 'pool')
    for epoch, values in enumerate(([2., 2., 0., 0.], [0., 0., 2., 2.])):
        beta.data = torch.tensor(values)
        end = EndOfEpoch({}, None, [*search.choices.values(), beta], nn.Module(), None)
        said = method.after_epoch(At(search, epoch=epoch, epochs=3), end)
    assert said is not None
    assert search.architecture()['node'] == ['a', 'b'] and search.choices.cuts('a') == (1,)


def test_without_an_epoch_before_the_logits_stay():
    search, said = searched([MANY])
    assert 'there were as many from the start, so the logits are those of this epoch' in said[0]
    assert search.architecture()['a'] == 'skip_connect'


def test_epochs_without_architecture_steps_do_not_count():
    assert searched([MANY, FEW, FEW], steps=[0, 5, 5])[1] == [None] * 3


def test_a_limit_does_not_hide_them():
    assert searched([FEW, MANY], SkipLimit(1))[1][1] is not None


def test_the_number_and_the_cells_are_its_arguments():
    assert searched([FEW, MANY], method=StopAtSkips(3))[1] == [None, None]
    assert searched([FEW, MANY], method=StopAtSkips(cells='reduce'))[1] == [None, None]
    assert searched([FEW, MANY], method=StopAtSkips(1))[1][0] is not None


@pytest.mark.parametrize('wrong', [0, 1.5, True, None])
def test_the_number_is_checked(wrong):
    with pytest.raises(MethodError, match=r'StopAtSkips\(n=.*an integer of at least 1'):
        StopAtSkips(wrong)
