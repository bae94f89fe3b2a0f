"""Nested structures of tensors, of the types that collate functions, tokenizers and models return."""

import dataclasses
import sys
import types
from collections import OrderedDict, UserDict, defaultdict, namedtuple
from collections.abc import MutableMapping
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence
from torch.utils.data import default_collate

from nni_darts_ext.core.edge import memory_format
from nni_darts_ext.core.nested import map_tensors, tensors_of
from nni_darts_ext.loop.data import to_device

Point = namedtuple('Point', 'x y')


class Origin(Point):
    """A namedtuple with another constructor."""

    def __new__(cls, x):
        return super().__new__(cls, x, None)


class Two(tuple):
    def __new__(cls, first, second=None):
        return super().__new__(cls, (first, second))


class Boxes(list):
    def __init__(self, boxes, size):
        super().__init__(boxes)
        self.size = size


class Encoding(UserDict):
    """Like the result of a tokenizer: it has attributes, and moves itself to a device."""

    def __init__(self, data, encodings):
        super().__init__(data)
        self.encodings = encodings

    def to(self, device):
        self.data = {key: value.to(device) for key, value in self.data.items()}
        return self


class Moving(UserDict):
    def to(self, device):  # it does not return itself
        self.data = {key: value.to(device) for key, value in self.data.items()}


class Own(MutableMapping):
    """A mapping that holds its items in an attribute."""

    def __init__(self, items, tag=None):
        self.items_of, self.tag = dict(items), tag

    def __getitem__(self, key):
        return self.items_of[key]

    def __setitem__(self, key, value):
        self.items_of[key] = value

    def __delitem__(self, key):
        del self.items_of[key]

    def __iter__(self):
        return iter(self.items_of)

    def __len__(self):
        return len(self.items_of)


class Attributes(dict):
    """A dict whose items are its attributes."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.__dict__ = self


@dataclasses.dataclass
class Output(OrderedDict):
    """Like the output of a model: both a mapping and a dataclass, with the same items and fields."""

    logits: Any = None
    states: Any = None

    def __post_init__(self):
        for field in dataclasses.fields(self):
            if getattr(self, field.name) is not None:
                self[field.name] = getattr(self, field.name)

    def __setitem__(self, key, value):
        super().__setitem__(key, value)
        super().__setattr__(key, value)

    def __reduce__(self):
        made, _, *rest = super().__reduce__()
        return (made, tuple(getattr(self, field.name) for field in dataclasses.fields(self)), *rest)


@dataclasses.dataclass
class Batch:
    images: Any
    names: Any = None


@dataclasses.dataclass(frozen=True)
class Frozen:
    images: Any
    size: Any = None


def images():
    return torch.arange(24.0).reshape(1, 2, 3, 4)


def packed(enforce_sorted):
    return pack_padded_sequence(torch.arange(12.0).reshape(3, 4, 1), torch.tensor([4, 2, 1] if enforce_sorted else [1, 4, 2]),
                                batch_first=True, enforce_sorted=enforce_sorted)


STRUCTURES = {
    'dict': lambda: {'images': images(), 'names': ['a'], 'none': None},
    'list': lambda: [images(), 'a', None, 3],
    'tuple': lambda: (images(), torch.Size([1, 2]), b'a', range(2)),
    'namedtuple': lambda: Point(images(), 'a'),
    'collated namedtuples': lambda: default_collate([Point(image, i) for i, image in enumerate(images())]),
    'collated mappings': lambda: default_collate([OrderedDict(image=image, label=i) for i, image in enumerate(images())]),
    'namedtuple with a constructor': lambda: Origin(images()),
    'tuple with a constructor': lambda: Two(images(), images()),
    'returned by max': lambda: images().max(1),
    'list with attributes': lambda: Boxes([images()], (5, 5)),
    'packed': lambda: packed(True),
    'packed and sorted': lambda: packed(False),
    'encoding': lambda: Encoding({'images': images()}, ['a']),
    'moving': lambda: Moving({'images': images()}),
    'mapping': lambda: Own({'images': images()}, 'tag'),
    'attributes': lambda: Attributes(images=images(), items=images()),
    'default': lambda: defaultdict(list, images=images()),
    'ordered': lambda: OrderedDict(b=images(), a=images()),
    'read only': lambda: types.MappingProxyType({'images': images()}),
    'output': lambda: Output(images()),
    'dataclass': lambda: Batch(images(), ['a']),
    'frozen dataclass': lambda: Frozen(images(), torch.Size([2, 3])),
    'nested': lambda: {'a': [Point(Batch(images()), (Own({0: images()}),))], 'b': Frozen([images()])},
}


def facts(value):
    """Everything except the tensors: types, keys, attributes and other leaves."""
    if isinstance(value, torch.Tensor):
        return 'tensor'
    if isinstance(value, PackedSequence):
        return type(value), [None if part is None else part.tolist() for part in value[1:]]
    if isinstance(value, types.MappingProxyType):
        return type(value), facts(dict(value))
    held = dict(getattr(value, '__dict__', {}))
    attributes = sorted((name, facts(held[name])) for name in held)
    if isinstance(value, (dict, MutableMapping)):
        return type(value), [(key, facts(value[key])) for key in value], attributes
    if isinstance(value, (list, tuple)):
        return type(value), list(map(facts, value)), attributes
    return (type(value), attributes) if attributes else value


@pytest.fixture(params=STRUCTURES)
def structure(request):
    return STRUCTURES[request.param]


def test_a_structure_of_other_tensors_keeps_its_type_and_what_else_it_holds(structure):
    value, untouched = structure(), structure()
    other = map_tensors(lambda tensor: tensor + 1, value)
    assert facts(other) == facts(untouched)
    for one, moved in zip(tensors_of(untouched), tensors_of(other)):
        assert torch.equal(one + 1, moved)
    for one, still in zip(tensors_of(untouched), tensors_of(value)):  # nothing is overwritten
        assert torch.equal(one, still)
    assert len(list(tensors_of(value))) == len(list(tensors_of(other))) > 0


def test_its_tensors_go_to_a_device(structure):
    moved = to_device(structure(), torch.device('meta'))
    assert all(tensor.is_meta for tensor in tensors_of(moved))
    if 'packed' not in str(type(moved)).lower():
        assert facts(moved) == facts(structure())


def test_its_images_lie_with_their_channels_last(structure):
    value = structure()
    laid_out = memory_format.channels_last(value)
    assert facts(laid_out) == facts(value)
    for one, other in zip(tensors_of(value), tensors_of(laid_out)):
        assert torch.equal(one, other)
        assert other.dim() != 4 or other.is_contiguous(memory_format=torch.channels_last)


def test_items_that_are_attributes_too_stay_the_same():
    for value in (Output(images()), Attributes(logits=images())):
        other = map_tensors(lambda tensor: tensor + 1, value)
        assert other.logits is other['logits'] and torch.equal(other.logits, images() + 1)


def test_sparse_images_have_no_order_in_memory():
    sparse = images().to_sparse()
    assert memory_format.channels_last({'sparse': sparse})['sparse'] is sparse


@pytest.mark.skipif(sys.version_info < (3, 10), reason='slots came with Python 3.10')
def test_a_dataclass_with_slots_keeps_its_type():
    slotted = dataclasses.make_dataclass('Slotted', ['images', 'name'], frozen=True, slots=True)
    other = map_tensors(torch.neg, slotted(images(), 'a'))
    assert type(other) is slotted and other.name == 'a' and torch.equal(other.images, -images())


@given(st.recursive(
    st.one_of(st.floats(-9, 9).map(torch.tensor), st.none(), st.text(max_size=2), st.integers()),
    lambda parts: st.one_of(
        st.lists(parts, max_size=3), st.lists(parts, max_size=3).map(tuple),
        st.dictionaries(st.text(max_size=2), parts, max_size=3),
        st.dictionaries(st.text(max_size=2), parts, max_size=3).map(Own), st.tuples(parts, parts).map(lambda two: Point(*two)),
        st.tuples(parts, parts).map(lambda two: Batch(*two)), st.tuples(parts, parts).map(lambda two: Frozen(*two)),
        st.lists(parts, max_size=2).map(lambda boxes: Boxes(boxes, None)))))
def test_any_structure_comes_back_as_it_was(value):
    there_and_back = map_tensors(torch.neg, map_tensors(torch.neg, value))
    assert facts(there_and_back) == facts(value)
    assert [one.item() for one in tensors_of(there_and_back)] == [one.item() for one in tensors_of(value)]
