import numpy
import pytest
import torch

from nni_darts_ext.core.edge.shapes import UnlikeCandidates, alike
from nni_darts_ext.core.space import Edge

ONE, OTHER = torch.zeros(2, 3, 4), torch.zeros(2, 5, 4)
INDICES, ARRAY = torch.tensor([1, 2]), numpy.array([1.0, 2.0])


class Odd:
    """Cannot be compared."""

    def __eq__(self, other):
        raise NotImplementedError

    __hash__ = None


@pytest.mark.parametrize('outputs, reduction', [
    ([ONE, ONE], 'sum'), ([ONE, ONE], 'mean'), ([ONE, OTHER], 'concat'), ([ONE, torch.zeros(1)], 'none'),
    ([OTHER], 'sum'), ([], 'sum'),
    ([(ONE, OTHER), (ONE, OTHER)], 'sum'), ([[ONE], (ONE,)], 'sum'), ([{'a': ONE}, {'a': ONE}], 'sum'),
    ([{'a': ONE, 'b': [ONE]}, {'a': OTHER, 'b': [OTHER]}], 'concat'),
    ([None, None], 'sum'), ([(ONE, 'a', 1), (ONE, 'a', 1.0)], 'sum'), ([(ONE, INDICES), (ONE, INDICES.clone())], 'mean'),
    ([(ONE, INDICES), (OTHER, INDICES.clone())], 'concat'), ([(ONE, ARRAY), (ONE, ARRAY.copy())], 'sum'), ([None, ONE], 'none'),
    ([ONE * 1j, ONE], 'sum'),
])
def test_what_can_be_reduced_passes_through(outputs, reduction):
    passed = list(alike(iter(outputs), range(len(outputs)), reduction))
    assert all(one is other for one, other in zip(passed, outputs)) and len(passed) == len(outputs)


@pytest.mark.parametrize('outputs, reduction, message', [
    ([ONE, OTHER], 'sum', r'2 and 7 return \(2, 3, 4\) and \(2, 5, 4\)'), ([ONE, torch.zeros(1)], 'mean', r'\(1,\)'),
    ([ONE, torch.zeros(2, 3, 1)], 'concat', r'\(2, 3, 1\)'), ([(ONE, ONE), (ONE,)], 'sum', r'\[\(2, 3, 4\)\] for'),
    ([{'a': ONE}, {'b': ONE}], 'sum', "'b'"), ([{'a': [ONE]}, {'a': [torch.zeros(1)]}], 'concat', r'\[\(1,\)\]'),
    ([ONE, (ONE,)], 'sum', r'\[\(2, 3, 4\)\]'), ([None, ONE], 'sum', r'return None and \(2, 3, 4\)'),
    ([(ONE, 'a'), (ONE, 'b')], 'concat', "'a'.*'b'"), ([Odd(), Odd()], 'sum', 'Odd'),
    ([(ONE, INDICES), (ONE, INDICES + 1)], 'sum', r'\[1, 2\] of torch.int64.*\[2, 3\]'),
    ([(ONE, INDICES), (ONE, INDICES.int())], 'sum', 'torch.int64.*torch.int32'),
    ([(ONE, ARRAY), (ONE, ARRAY + 1)], 'sum', 'array'),
])
def test_what_cannot_is_named(outputs, reduction, message):
    with pytest.raises(UnlikeCandidates, match=message) as raised:
        list(alike(iter(outputs), [2, 7], reduction))
    named = str(raised.value.of(Edge('edge', tuple('abcdefgh'), 'path')))
    assert "'h' of LayerChoice 'edge' returns" in named and "but 'c' returns" in named
