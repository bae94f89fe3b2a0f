import copy
import gc
import pickle
import weakref

import pytest
import torch
from torch import nn

from nni_darts_ext.core.edge.mixture import mix
from nni_darts_ext.core.edge.sharing import SharedWork
from nni_darts_ext.core.logits import Relaxed


def pooling(x=4):
    return nn.Sequential(nn.MaxPool2d(3, 1, 1), nn.BatchNorm2d(x, affine=False))


def state():
    """What a layer gave: the input of several edges."""
    return nn.functional.conv2d(torch.randn(2, 3, 5, 5), torch.randn(4, 3, 1, 1, requires_grad=True))


HALF = Relaxed.of(torch.tensor([0.5]))


def test_edges_from_one_state_pool_it_once_while_a_graph_is_recorded(mocker):
    pooled = mocker.spy(nn.functional, 'max_pool2d')
    shared, x = SharedWork(), state()
    outputs = [mix([pooling()], HALF, (x,), {}, shared=shared) for _ in range(3)]
    assert pooled.call_count == 1
    sum(outputs).sum().backward()
    mix([pooling()], HALF, (state(),), {}, shared=shared)
    assert pooled.call_count == 2
    with torch.no_grad():
        alone = mix([pooling()], HALF, (x,), {}, shared=shared)
    torch.testing.assert_close(alone, outputs[0])


def test_what_is_shared_lives_no_longer_than_the_graph():
    shared, x = SharedWork(), state()
    output = mix([pooling()], HALF, (x,), {}, shared=shared)
    assert len(shared._kept) == 1
    output.sum().backward()
    del output
    gc.collect()
    assert not shared._kept


def test_in_inference_mode_nothing_is_shared():
    pools, x = nn.ModuleList([pooling(), pooling()]).eval(), torch.randn(2, 4, 5, 5)
    expected = mix(pools, Relaxed.of(torch.tensor([0.5, 0.25])), (x,), {})
    with torch.inference_mode():
        found = mix(pools, Relaxed.of(torch.tensor([0.5, 0.25])), (x,), {})
    assert torch.equal(found, expected)


def test_layers_that_differ_in_anything_are_not_taken_for_each_other():
    shared, x = SharedWork(), state()
    layers = [nn.AvgPool2d(3, 1, 1), nn.AvgPool2d(3, 1, 1, count_include_pad=False), nn.AvgPool2d(3, 2, 1), nn.MaxPool2d(3, 1, 1),
              nn.ReLU()]
    outputs = [shared.run(layer, x) for layer in layers]
    for layer, output in zip(layers, outputs):
        assert torch.equal(output, layer(x))
        assert shared.run(copy.deepcopy(layer), x) is output


def test_settings_may_be_lists_and_hosts_may_add_to_them(mocker):
    class Hosts(nn.MaxPool2d):
        def __init__(self, *args):
            super().__init__(*args)
            self.arguments = {'kernel_size': args[0]}
    pooled = mocker.spy(nn.functional, 'max_pool2d')
    shared, x = SharedWork(), state()
    ops = [nn.Sequential(nn.MaxPool2d([3, 3], 1, [1, 1])), nn.Sequential(nn.MaxPool2d((3, 3), 1, (1, 1))),
           nn.Sequential(Hosts([3, 3], 1, (1, 1)), nn.BatchNorm2d(4))]
    mixed = mix(ops[:2], Relaxed.of(torch.tensor([0.5, 0.25])), (x,), {}, shared=shared)  # its graph keeps what is shared
    mix(ops[2:], HALF, (x,), {}, shared=shared)
    torch.testing.assert_close(mixed, 0.75 * nn.functional.max_pool2d(x, 3, 1, 1))
    assert pooled.call_count == 2


def test_an_output_written_over_is_computed_anew():
    shared, x = SharedWork(), state()
    with torch.no_grad():
        output = shared.run(nn.ReLU(), x)
        output.add_(1)
        assert torch.equal(shared.run(nn.ReLU(), x), x.relu()) and not torch.equal(output, x.relu())


def test_a_value_written_over_is_pooled_anew():
    shared, x = SharedWork(), state()
    before = shared.run(nn.AvgPool2d(3), x)
    with torch.no_grad():
        x.add_(1)
    assert torch.equal(shared.run(nn.AvgPool2d(3), x), nn.AvgPool2d(3)(x)) and not torch.equal(before, nn.AvgPool2d(3)(x))


def test_another_value_in_the_place_of_one_that_is_gone_is_not_taken_for_it():
    shared, relu = SharedWork(), nn.ReLU()
    kept = []
    for i in range(50):  # new tensors take the memory, and the id, of those before them
        x = torch.full((3,), float(i))
        kept.append(shared.run(relu, x))
        assert kept[-1].tolist() == [i] * 3


def test_two_passes_over_a_leaf_keep_graphs_of_their_own():
    shared, leaf = SharedWork(), torch.randn(2, 4, 5, 5, requires_grad=True)
    passes = [mix([pooling()], HALF, (leaf,), {}, shared=shared) ** 2 for _ in range(2)]
    for one in passes:
        one.sum().backward()


@pytest.mark.parametrize('again', [copy.deepcopy, lambda shared: pickle.loads(pickle.dumps(shared))])
def test_copies_begin_without(again):
    shared, x = SharedWork(), state()
    output = shared.run(nn.ReLU(), x)
    assert again(shared).run(nn.ReLU(), x) is not output


def test_inference_mode_does_not_mind():
    with torch.inference_mode():
        assert SharedWork().run(nn.ReLU(), torch.ones(2)).tolist() == [1, 1]


def test_the_input_of_an_edge_is_kept_by_nobody():
    shared, x = SharedWork(), state()
    alive = weakref.ref(x)
    mix([pooling()], HALF, (x,), {}, shared=shared)
    del x
    gc.collect()
    assert alive() is None
