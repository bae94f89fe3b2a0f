"""Damaged architecture files and checkpoints: they raise a clear error, or are read exactly as they are."""

import hashlib
import io
import json
import zipfile

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from spaces import TWO_NODES, Cells
from torch import nn
from torch.utils.data import TensorDataset

from nni_darts_ext import ArchitectureError, CheckpointError, DartsMutator, DartsTrainer, apply_fixed_architecture
from nni_darts_ext.core import export
from nni_darts_ext.loop.checkpoint import STATE, read, write

IN_NUMBERS = [50, pytest.param(1000, marks=pytest.mark.slow)]


def for_each(strategy, examples, check):
    limits = settings(max_examples=examples, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    limits(given(strategy)(check))()


# Ways to go wrong ----------------------------------------------------------------------------------------------------------

class Raw(str):
    """Text that JSON does not escape."""


VALUES = st.one_of(
    st.none(), st.booleans(), st.integers(-3, 9), st.integers(), st.floats(allow_nan=False), st.text(max_size=5),
    st.sampled_from(['op0', 'op1', 'node0', 'node1_edge2', '0', '', 10 ** 30, 10 ** 60, [], {}, [[]], [True], [0, 0]]),
    st.lists(st.integers(0, 4), max_size=4), st.lists(st.booleans(), max_size=6))
RAW = st.one_of(
    st.sampled_from(['NaN', '-Infinity', '1e999', '1' * 10 ** 4, '[' * 10 ** 5, '{"a": 1, "a": 2}', '"\\ud800"', '"\ud800"',
                     'nul']),
    st.integers(1, 3000).map(lambda depth: '[' * depth + ']' * depth)).map(Raw)


class Pairs(list):
    """A JSON object that may have duplicate keys."""


def dump(value):
    if isinstance(value, Raw):
        return str(value)
    if isinstance(value, Pairs):
        return '{' + ', '.join(f'{json.dumps(key)}: {dump(part)}' for key, part in value) + '}'
    return '[' + ', '.join(map(dump, value)) + ']' if isinstance(value, list) else json.dumps(value)


@st.composite
def changed(draw, tree):
    """A JSON tree with one node replaced, removed, renamed or doubled."""
    tree = json.loads(json.dumps(tree), object_pairs_hook=Pairs)
    nodes = []

    def collect(node):
        if isinstance(node, list):
            for i, part in enumerate(node):
                nodes.append((node, i))
                collect(part[1] if isinstance(node, Pairs) else part)
    collect(tree)
    node, i = draw(st.sampled_from(nodes))
    how = draw(st.sampled_from(['replace', 'remove', 'rename', 'double']))
    if how == 'remove':
        del node[i]
    elif how == 'double':
        node.insert(i, node[i])
    elif not isinstance(node, Pairs):
        node[i] = draw(st.one_of(VALUES, RAW))
    elif how == 'rename':
        node[i] = (draw(st.text(max_size=8)), node[i][1])
    else:
        node[i] = (node[i][0], draw(st.one_of(VALUES, RAW)))
    return tree


@st.composite
def damaged(draw, content):
    """Bytes of which some are flipped, removed, repeated or inserted."""
    content = bytearray(content)
    at, end = sorted([draw(st.integers(0, len(content) - 1)), draw(st.integers(0, len(content) - 1))])
    how = draw(st.sampled_from(['flip', 'flip', 'truncate', 'cut', 'repeat', 'insert', 'zero']))
    if how == 'flip':
        for place in draw(st.lists(st.integers(0, len(content) - 1), min_size=1, max_size=3)):
            content[place] ^= draw(st.integers(1, 255))
    elif how == 'truncate':
        del content[at:]
    elif how == 'cut':
        del content[at:end + 1]
    elif how == 'repeat':
        content[at:at] = content[at:end + 1]
    elif how == 'insert':
        content[at:at] = draw(st.binary(min_size=1, max_size=9))
    else:
        content[at:end] = bytes(end - at)
    return bytes(content)


# Architectures -------------------------------------------------------------------------------------------------------------

def architectures():
    torch.manual_seed(0)
    mutator = DartsMutator(Cells(TWO_NODES, named=True))
    plain = [mutator.export(), mutator.export('sample'),
             {key: decision.tolist() for key, decision in mutator.sample_final().items()}]
    return [*plain, *map(export.enveloped, plain)]


def files():
    def of(tree):
        text = json.dumps(tree)
        return st.one_of(changed(tree).map(lambda other: dump(other).encode('utf-8', 'surrogatepass')), damaged(text.encode()),
                         st.sampled_from(['utf-16', 'utf-32', 'utf-8-sig', 'utf-7']).map(text.encode))
    return st.one_of(*map(of, architectures()))


def says(content):
    """The content of an accepted file, read without the package: the candidates by key."""
    said = json.loads(content.decode())
    if said.get('schema') == 'nni_darts_ext/architecture':
        assert said['version'] == 1 and type(said['version']) is int and set(said) == {'schema', 'version', 'architecture'}
        said = said['architecture']
    names = {f'node{i}_edge{j}': [f'op{k}' for k in range(n)] for i, (sizes, _, _) in enumerate(TWO_NODES)
             for j, n in enumerate(sizes)}
    names.update({f'node{i}': [f'node{i}_edge{j}' for j in range(len(sizes))] for i, (sizes, _, _) in enumerate(TWO_NODES)})
    assert set(said) == set(names)
    kept = {}
    for key, value in said.items():
        values = value if isinstance(value, list) else [value]
        if values and all(type(one) is bool for one in values):
            assert len(values) == len(names[key])
            kept[key] = {i for i, one in enumerate(values) if one}
        else:
            assert all((type(one) is int and 0 <= one < len(names[key])) or one in names[key] for one in values)
            kept[key] = {one if type(one) is int else names[key].index(one) for one in values}
        assert len(kept[key]) <= 1 or '_edge' not in key
    return kept


@pytest.mark.parametrize('examples', IN_NUMBERS)
def test_a_malformed_architecture_is_refused_or_means_what_it_says(examples, tmp_path):
    file = tmp_path / 'architecture.json'
    fresh = []

    def check(content):
        file.write_bytes(content)
        model = fresh.pop() if fresh else Cells(TWO_NODES, named=True)
        try:
            apply_fixed_architecture(model, file, verbose=False)
        except ArchitectureError as error:
            assert len(str(error)) < 2000 + 2 * len(content)
            fresh.append(model)  # it is unchanged
        else:
            kept = says(content)
            for i, node in enumerate(model.cells[0].inputs):
                assert set(node.chosen) == kept[f'node{i}']
    for_each(files(), examples, check)


@pytest.mark.parametrize('architecture, message', [
    ({'schema': 'nni_darts_ext/architecture', 'version': 2, 'architecture': {}}, 'version 2 of .*reads only version 1'),
    ({'schema': 'nni_darts_ext/architecture', 'version': True, 'architecture': {}}, 'version True'),
    ({'schema': 'nni_darts_ext/architecture', 'version': 1}, 'around NoneType'),
    ({'schema': 'nni_darts_ext/architecture', 'version': 1, 'architecture': {}, 'more': 1}, "'more'"),
    (None, 'A NoneType is not an architecture'),
    (3, 'A int is not an architecture'),
    ('folder', "The architecture 'folder' cannot be read.*directory"),
    ('a\0b', 'The architecture .* cannot be read'),
    ('large', 'larger than 1048576 bytes'),
    ('twice', "the key 'a' occurs twice"),
    ('deep', 'nested too deeply'),
    ('latin', "codec can't decode"),
])
def test_the_message_says_why(architecture, message, tmp_path):
    (tmp_path / 'folder').mkdir()
    for name, content in {'large': b' ' * 2 ** 21, 'twice': b'{"a": 1, "a": 1}', 'deep': b'[' * 10 ** 5,
                          'latin': '{"ä": 1}'.encode('latin-1')}.items():
        (tmp_path / name).write_bytes(content)
    with pytest.raises(ArchitectureError, match=message):
        apply_fixed_architecture(Cells(TWO_NODES), architecture)


def test_an_envelope_is_read_from_a_file_and_from_a_dict(tmp_path):
    for architecture in architectures()[3:]:
        (tmp_path / 'architecture.json').write_text(json.dumps(architecture))
        for given_as in (architecture, tmp_path / 'architecture.json'):
            apply_fixed_architecture(Cells(TWO_NODES, named=True), given_as)


# Checkpoints ---------------------------------------------------------------------------------------------------------------

def search(folder):
    torch.manual_seed(0)
    model = Cells([((2,), 1, 'sum')], named=True)
    return DartsTrainer(model, nn.functional.cross_entropy, lambda output, labels: {}, torch.optim.Adam(model.parameters()), 1,
                        TensorDataset(torch.randn(4, 3), torch.arange(4) % 2), batch_size=2, workers=0, device='cpu',
                        checkpoint_dir=folder)


def members(content):
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return [(name, archive.read(name)) for name in archive.namelist()]


def zipped(parts, compression=zipfile.ZIP_STORED):
    written = io.BytesIO()
    with zipfile.ZipFile(written, 'w', compression) as archive:
        for name, content in parts:
            archive.writestr(name, content)
    return written.getvalue()


@st.composite
def rezipped(draw, content):
    """The archive with members renamed, removed, doubled, exchanged or compressed."""
    parts = members(content)
    i, j = (draw(st.integers(0, len(parts) - 1)) for _ in range(2))
    how = draw(st.sampled_from(['rename', 'drop', 'swap', 'compress', 'replace']))
    if how == 'rename':
        parts[i] = (draw(st.sampled_from([*'ab', '../x', STATE.upper(), parts[j][0] + '0'])), parts[i][1])
    elif how == 'drop':
        del parts[i]
    elif how == 'swap':
        j = (i + 1) % len(parts) if i == j else j
        parts[i], parts[j] = (parts[i][0], parts[j][1]), (parts[j][0], parts[i][1])
    elif how == 'replace':
        parts[i] = (parts[i][0], draw(st.binary(max_size=40)))
    return zipped(parts, zipfile.ZIP_DEFLATED if how == 'compress' else zipfile.ZIP_STORED)


@st.composite
def edited(draw, content, forged):
    """Nodes of the JSON changed; if ``forged``, only in the state, and with a digest that is right."""
    parts = dict(members(content))
    head = json.loads(parts[STATE])
    if not forged:
        parts[STATE] = dump(draw(changed(head))).encode('utf-8', 'surrogatepass')
    else:
        text = dump(draw(changed(head['state'])))
        try:
            state = json.loads(text)
            head.update(state=state, sha256=hashlib.sha256(json.dumps(state).encode()).hexdigest())
            parts[STATE] = json.dumps(head).encode()
        except (ValueError, RecursionError):  # it has no digest
            parts[STATE] = text.encode('utf-8', 'surrogatepass')
    return zipped(parts.items())


@pytest.mark.parametrize('examples', IN_NUMBERS)
@pytest.mark.filterwarnings('ignore:Duplicate name')
def test_a_malformed_checkpoint_is_refused_or_means_what_it_says(examples, tmp_path):
    whole = search(tmp_path)
    whole.train()
    expected = str(whole.checkpoint())
    file = tmp_path / 'epoch-1.ckpt'
    content = file.read_bytes()

    def check(other, is_forged):
        file.write_bytes(other)
        reading = search(tmp_path)  # a new search that has read nothing
        try:
            reading.train()
        except CheckpointError as error:
            assert 'epoch-1.ckpt' in str(error)
        else:
            assert is_forged or str(reading.checkpoint()) == expected
    for_each(st.one_of(damaged(content), rezipped(content), edited(content, False)), examples, lambda other: check(other, False))
    for_each(edited(content, True), examples // 2, lambda other: check(other, True))


@pytest.mark.parametrize('change, message', [
    (dict(version=2), 'has version 2, but this nni_darts_ext reads only version 1'),
    (dict(version='1'), "has version '1'"),
    (dict(schema='other'), 'does not say "schema": "nni_darts_ext/checkpoint"'),
    (dict(state=None), 'was changed after it was written'),
    (dict(more=1), 'was changed after it was written'),
])
def test_a_checkpoint_of_another_version_is_refused(change, message, tmp_path):
    search(tmp_path).train()
    file = tmp_path / 'epoch-1.ckpt'
    parts = dict(members(file.read_bytes()))
    parts[STATE] = json.dumps({**json.loads(parts[STATE]), **change})
    file.write_bytes(zipped(parts.items()))
    with pytest.raises(CheckpointError, match=message):
        search(tmp_path).train()


@pytest.mark.parametrize('change, message', [
    (dict(), None),
    (dict(shape=[2, 2]), 'beyond the shape'),
    (dict(shape=[-5, 2]), r'the shape \[-5, 2\] is invalid'),
    (dict(shape=[5, 3]), 'size'),
    (dict(sparse=[1]), 'values to unpack'),
    (dict(sparse=[None, None]), 'no attribute'),
])
def test_a_sparse_tensor_is_read_as_it_was_or_refused(change, message, tmp_path):
    tensor = torch.sparse_coo_tensor(torch.tensor([[4, 1, 4]]), torch.ones(3, 2), (5, 2))
    file = tmp_path / 'sparse.ckpt'
    write(file, {'tensor': tensor})
    parts = dict(members(file.read_bytes()))
    head = json.loads(parts[STATE])
    head['state']['dict'][0][1].update(change)
    head['sha256'] = hashlib.sha256(json.dumps(head['state']).encode()).hexdigest()
    parts[STATE] = json.dumps(head)
    file.write_bytes(zipped(parts.items()))
    if message is None:
        found = read(file)['tensor']
        assert found.is_sparse and torch.equal(found.to_dense(), tensor.to_dense())
    else:
        with pytest.raises(CheckpointError, match=message):
            read(file)
