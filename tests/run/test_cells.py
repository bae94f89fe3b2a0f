"""Finding the cells of a space."""

import pytest
import runs

from nni_darts_ext.run import InputRecord, Run, SpaceRecord
from nni_darts_ext.run.cells import Cell, architecture_keys, cells, edges_of, free_edges


def space(**inputs):
    """A space of InputChoices with the given numbers of sources, by key."""
    nodes = {key: InputRecord(tuple(f'{key} {i}' for i in range(n)), 1) for key, n in inputs.items()}
    return SpaceRecord({source: ('conv', 'skip') for node in nodes.values() for source in node.choose_from}, nodes)


@pytest.mark.parametrize('inputs, expected', [
    (dict(normal_2_inputs=2, normal_3_inputs=3, normal_4_inputs=4, reduce_2_inputs=2, reduce_3_inputs=3),
     {'normal': ('normal_2_inputs', 'normal_3_inputs', 'normal_4_inputs'), 'reduce': ('reduce_2_inputs', 'reduce_3_inputs')}),
    (dict(normal_2=2, reduce_2=2, normal_3=3, reduce_3=3),
     {'normal': ('normal_2', 'normal_3'), 'reduce': ('reduce_2', 'reduce_3')}),
    (dict(normal_n2_switch=2, normal_n3_switch=3), {'normal_n': ('normal_n2_switch', 'normal_n3_switch')}),
    (dict(node0=2, node1=3), {'node': ('node0', 'node1')}),
    (dict(node9=2, node10=3, node11=4), {'node': ('node9', 'node10', 'node11')}),
    (dict(model_3=2, model_7=3, model_12=4), {'model': ('model_3', 'model_7', 'model_12')}),
    (dict(cell0_node0=2, cell0_node1=3, cell1_node0=2, cell1_node1=3),
     {'cell0_node': ('cell0_node0', 'cell0_node1'), 'cell1_node': ('cell1_node0', 'cell1_node1')}),
    (dict(cell0_node0=2, cell1_node0=2, cell0_node1=3, cell1_node1=3),
     {'cell0_node': ('cell0_node0', 'cell0_node1'), 'cell1_node': ('cell1_node0', 'cell1_node1')}),
    (dict(model_1=2, model_4=3, model_8=2, model_11=3), {'model': ('model_1', 'model_4'), 'model_8': ('model_8', 'model_11')}),
    (dict(a=1, a1=2, a2=3), {'a': ('a',), 'a1': ('a1', 'a2')}),
    (dict(inputs=2), {'inputs': ('inputs',)}),
    (dict(n0=2, n1=2, n2=4), {'n0': ('n0',), 'n1': ('n1',), 'n2': ('n2',)}),
    ({}, {}),
], ids=str)
def test_nodes_make_a_cell_where_their_sources_grow_with_a_number_in_their_keys(inputs, expected):
    found = cells(space(**inputs))
    assert {cell.name: cell.nodes for cell in found} == expected
    assert [cell.n_inputs for cell in found] == [inputs[cell.nodes[0]] for cell in found]


def test_sources_are_the_inputs_and_then_the_nodes_before(tmp_path):
    run = Run.read(runs.write(tmp_path / 'run', runs.cell('normal', 3, ('conv', 'skip')), 2))
    cell, = cells(run.space)
    every = edges_of(run, cell, all_edges=True)
    assert [(edge.source, edge.target) for edge in every] == [(i, n) for n in (2, 3, 4) for i in range(n)]
    assert [edge.key for edge in every] == [f'normal_{n}_{i}' for n in (2, 3, 4) for i in range(n)]
    derived = edges_of(run, cell)
    assert [edge for edge in every if edge.is_kept] == derived
    for edge in derived:
        assert run.decision(edge.key) == edge.candidate and run.decision(f'normal_{edge.target}_inputs').count(edge.key) == 1
        assert edge.weight == max(run.epochs[-1].weights[edge.key][:-1])


def test_an_edge_may_be_chosen_and_dropped_or_have_nothing_to_choose(tmp_path):
    some = runs.SPACES['of all sorts']
    with runs.Writer(tmp_path / 'run', some) as writer:
        writer.epoch(runs.epoch(some, 0)._replace(architecture={'stem': [0], 'a': [], 'b': [2], 'inputs': [0, 2], 'unfed': []}))
    run = Run.read(tmp_path / 'run')
    fed, unfed = cells(some)
    assert fed == Cell('inputs', ('inputs',), 3)
    assert [(edge.source, edge.target, edge.is_kept) for edge in edges_of(run, fed)] == [(0, 3, False), (2, 3, True)]
    assert edges_of(run, fed)[1].candidate is None and edges_of(run, unfed) == []


def test_choices_outside_cells_and_those_that_say_it_all():
    some = runs.SPACES['of all sorts']
    assert free_edges(some) == ['stem']
    assert architecture_keys(some) == ['stem', 'a', 'b', 'inputs', 'unfed']  # one source of "inputs" is not an edge
    fed = runs.cell('normal', 2, ('conv', 'skip'))
    assert architecture_keys(fed) == list(fed.edges)
    shared = SpaceRecord({'a': ('x',), 'b': ('x',)}, {'i': InputRecord(('a', 'b'), 1), 'j': InputRecord(('b',), 1)})
    assert architecture_keys(shared) == ['a', 'b', 'i', 'j']
