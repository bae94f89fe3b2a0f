"""Checkpoints: the state of a search in a file. Loading a checkpoint executes no code from the file.

A checkpoint is an uncompressed zip archive. Each tensor is a member, named by the SHA-256 of its bytes. The member
``checkpoint.json`` describes the state::

    {"schema": "nni_darts_ext/checkpoint", "version": 1, "sha256": "<of the state as JSON>", "state": <tree>}

A tree is null, a bool, a number, a string, a list of trees, or one of these objects:
``{"dict": [[tree, tree], ...]}``, ``{"tuple": [tree, ...]}``, ``{"float": "nan" | "inf" | "-inf"}``,
``{"tensor": "<name of the member>", "dtype": "float32", "shape": [3, 4]}`` or, for a sparse tensor,
``{"sparse": [<tree of indices>, <tree of values>], "shape": [3, 4]}``. It is not a pickle, so every PyTorch can read it.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import os
import re
import zipfile
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Callable, Dict, List, Mapping, Optional

import torch
from torch import Tensor

from ..core import files
from ..errors import CheckpointError, DartsExtError

_logger = logging.getLogger(__name__)

SCHEMA, VERSION = 'nni_darts_ext/checkpoint', 1
STATE = 'checkpoint.json'
MAX_STATE = 256 * 2**20
"""Maximum size of ``checkpoint.json`` in bytes."""
DTYPES = {name: getattr(torch, name) for name in (
    'float64', 'float32', 'float16', 'bfloat16', 'complex128', 'complex64', 'int64', 'int32', 'int16', 'int8', 'uint8', 'bool')}

Store = Callable[[str, bytes], None]
Load = Callable[[str], bytes]


# The format ----------------------------------------------------------------------------------------------------------------

def write(file: files.Path, state: Any) -> None:
    """Write a checkpoint atomically. Raises :class:`CheckpointError` if the state contains more than plain values and tensors in
    dicts, lists and tuples, ``OSError`` if the file cannot be written."""
    with files.replacing(file) as opened, zipfile.ZipFile(opened, 'w') as archive:
        members = set()

        def store(name: str, content: bytes) -> None:
            if name not in members:
                members.add(name)
                archive.writestr(zipfile.ZipInfo(name), content)  # without the time, which a zip cannot hold before 1980
        tree = _encoded(state, store, 'state')
        store(STATE, json.dumps({'schema': SCHEMA, 'version': VERSION, 'sha256': _digest(_json(tree)), 'state': tree}).encode())


def check(state: Any) -> None:
    """Raise :class:`CheckpointError` unless :func:`write` can write this state."""
    _encoded(state, lambda name, content: None, 'state')


def read(file: files.Path) -> Any:
    """The state in a checkpoint. Its tensors are on the CPU. Raises :class:`CheckpointError` if the file cannot be read, is not a
    checkpoint, has another version, or was damaged or edited."""
    try:
        with zipfile.ZipFile(os.fspath(file)) as archive:
            return _state(archive, os.path.getsize(file))
    except Exception as error:  # zipfile raises many types of errors for damaged archives
        raise CheckpointError(f'The checkpoint {os.fspath(file)!r} cannot be read: {type(error).__name__}: {error}. '
                              'Expected a file as DartsTrainer(checkpoint_dir=...) writes it.') from error


def _state(archive: zipfile.ZipFile, size: int) -> Any:
    infos = archive.infolist()
    if any(info.compress_type != zipfile.ZIP_STORED for info in infos) or sum(info.file_size for info in infos) > size:
        raise ValueError('its members are compressed')
    if archive.getinfo(STATE).file_size > MAX_STATE:
        raise ValueError(f'its {STATE} is larger than {MAX_STATE} bytes')
    content = files.parse(archive.read(STATE))
    if not isinstance(content, dict) or content.get('schema') != SCHEMA:
        raise ValueError(f'its {STATE} does not say "schema": "{SCHEMA}"')
    version = content.get('version')
    if type(version) is not int or version != VERSION:
        raise ValueError(f'it has version {version!r}, but this nni_darts_ext reads only version {VERSION}')
    tree = content.get('state')
    if set(content) != {'schema', 'version', 'sha256', 'state'} or content['sha256'] != _digest(_json(tree)):
        raise ValueError('it was changed after it was written')
    return _decoded(tree, archive.read)


def _json(tree: Any) -> bytes:
    return json.dumps(tree).encode('ascii')


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _encoded(value: Any, store: Store, path: str) -> Any:
    """A value as a tree; its tensors are passed to ``store``."""
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else {'float': str(float(value))}
    if isinstance(value, Tensor):
        return _encoded_tensor(value.detach(), store, path)
    if isinstance(value, Mapping):
        return {'dict': [[_encoded(key, store, f'a key of {path}'), _encoded(part, store, f'{path}[{key!r}]')]
                         for key, part in value.items()]}
    if isinstance(value, (list, tuple)):
        parts = [_encoded(part, store, f'{path}[{i}]') for i, part in enumerate(value)]
        return {'tuple': parts} if isinstance(value, tuple) else parts
    if type(value).__module__ == 'numpy' and getattr(value, 'shape', None) == ():
        return _encoded(value.item(), store, path)
    raise CheckpointError(f'{path} is a {type(value).__name__}, which a checkpoint cannot hold. Expected plain values and '
                          'tensors, in dicts, lists and tuples: let state_dict() return these.')


def _encoded_tensor(tensor: Tensor, store: Store, path: str) -> Dict[str, Any]:
    if tensor.is_sparse:  # such as the state of an optimiser for sparse gradients
        whole = tensor.coalesce()
        return {'sparse': [_encoded_tensor(part, store, path) for part in (whole.indices(), whole.values())],
                'shape': list(tensor.shape)}
    dtype = str(tensor.dtype).replace('torch.', '')
    if dtype not in DTYPES or tensor.layout != torch.strided:
        raise CheckpointError(f'{path} is a tensor of {tensor.dtype} and {tensor.layout}, which a checkpoint cannot hold. '
                              f'Expected a strided or sparse one of {sorted(DTYPES)}.')
    content = tensor.cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
    name = _digest(content)
    store(name, content)
    return {'tensor': name, 'dtype': dtype, 'shape': list(tensor.shape)}


def _decoded(tree: Any, load: Load) -> Any:
    if isinstance(tree, list):
        return [_decoded(part, load) for part in tree]
    if not isinstance(tree, dict):
        return tree
    if set(tree) == {'dict'}:
        pairs = [(_decoded(key, load), _decoded(part, load)) for key, part in tree['dict']]
        found = dict(pairs)
        if len(found) < len(pairs):
            raise ValueError('a key occurs twice in a dict')
        return found
    if set(tree) == {'tuple'}:
        return tuple(_decoded(part, load) for part in tree['tuple'])
    if set(tree) == {'float'} and tree['float'] in ('nan', 'inf', '-inf'):
        return float(tree['float'])
    if set(tree) == {'tensor', 'dtype', 'shape'}:
        return _decoded_tensor(load(tree['tensor']), **tree)
    if set(tree) == {'sparse', 'shape'}:
        indices, values = (_decoded(part, load) for part in tree['sparse'])
        return _decoded_sparse(indices, values, _shape(tree['shape']))
    raise ValueError(f'an object has the unknown keys {sorted(tree)}')


def _decoded_tensor(content: bytes, tensor: str, dtype: str, shape: List[int]) -> Tensor:
    if _digest(content) != tensor:
        raise ValueError(f'the tensor {tensor} was changed after it was written')
    if dtype == 'bool' and content.strip(b'\0\1'):
        raise ValueError(f'the tensor {tensor} does not consist of bools')
    found = torch.frombuffer(bytearray(content), dtype=DTYPES[dtype]) if content else torch.empty(0, dtype=DTYPES[dtype])
    return found.reshape(_shape(shape))


def _decoded_sparse(indices: Tensor, values: Tensor, shape: List[int]) -> Tensor:
    if indices.dim() != 2 or any(row.numel() and not 0 <= int(row.min()) <= int(row.max()) < n for row, n in zip(indices, shape)):
        raise ValueError(f'indices are beyond the shape {shape}')
    check = getattr(torch.sparse, 'check_sparse_tensor_invariants', nullcontext)  # since 2.0, which warns without it
    with check():
        return torch.sparse_coo_tensor(indices, values, shape).coalesce()


def _shape(shape: List[int]) -> List[int]:
    if any(type(n) is not int or n < 0 for n in shape):
        raise ValueError(f'the shape {shape} is invalid')
    return shape


# The folder ----------------------------------------------------------------------------------------------------------------

class Checkpoints:
    """The checkpoints of one search in a folder, which is created if missing: one after each epoch, of which the last two are
    kept. Raises :class:`CheckpointError` if the folder cannot be created or written."""

    KEPT = 2

    def __init__(self, folder: files.Path) -> None:
        self.folder = Path(folder)
        try:
            files.check_writable(self.folder)
        except OSError as error:
            raise CheckpointError(f'The folder {str(self.folder)!r} for checkpoints cannot be written: {error}. Make it '
                                  'writable, or pass another checkpoint_dir or run_dir.') from error

    def save(self, epochs: int, state: Any) -> None:
        """Write the state after this number of epochs, and remove all but the last two. If the folder was removed, it is created
        again. Raises :class:`CheckpointError` if the checkpoint cannot be written, which is tried for
        :data:`nni_darts_ext.core.files.DISK_PATIENCE` seconds; those before remain."""
        file = self.folder / f'epoch-{epochs}.ckpt'

        def attempt() -> None:
            if not self.folder.is_dir():
                _logger.warning('%s was removed during the search. It is created again.', self.folder)
                self.folder.mkdir(parents=True, exist_ok=True)
            write(file, state)
        try:
            files.persistently(attempt, f'The checkpoint {str(file)!r}')
        except OSError as error:
            before = f'epoch-{epochs - 1}.ckpt' if os.path.exists(self.folder / f'epoch-{epochs - 1}.ckpt') else 'the beginning'
            raise CheckpointError(f'The checkpoint {str(file)!r} cannot be written: {error}. Free some space or make the folder '
                                  f'writable, and start the search again: it resumes from {before}.') from error
        for outdated in found_in(self.folder)[self.KEPT:]:
            files.remove(outdated)
        for left in self.folder.glob('.epoch-*.tmp'):  # temporary files of a process that was killed while it wrote
            files.remove(left)

    def resume(self, restore: Callable[[Any], None]) -> Optional[Path]:
        """Pass the last state to ``restore``; if that fails, the one before it. Returns the file from which the search resumes,
        None if the folder has no checkpoints. Raises :class:`CheckpointError` if none of its checkpoints can be read and
        restored."""
        reasons = []
        for file in found_in(self.folder):
            try:
                restore(read(file))
            except DartsExtError as error:
                _logger.error('Cannot resume from %s. %s', file, error)
                reasons.append(f'{file.name}: {error}')
            else:
                return file
        if reasons:
            raise CheckpointError(f'Nothing can resume from any checkpoint in {str(self.folder)!r}: {" ".join(reasons)} '
                                  'Pass the checkpoint_dir and the settings of what shall resume. To begin anew, pass an empty '
                                  'folder, or delete this one.')
        return None


def found_in(folder: Path) -> List[Path]:
    """The checkpoints in a folder, last one first; none if there is no such folder."""
    names = re.compile(r'epoch-(\d{1,18})\.ckpt')
    numbered = [(int(match.group(1)), file) for file in (folder.iterdir() if folder.is_dir() else ())
                for match in [names.fullmatch(file.name)] if match]
    return [file for _, file in sorted(numbered, reverse=True)]


def weights_in(path: files.Path) -> Mapping[str, Tensor]:
    """The weights of the supernet in a checkpoint, or in the last one of a ``checkpoint_dir`` or ``run_dir``.

    Raises
    ------
    CheckpointError
        There is no checkpoint, or it cannot be read.
    """
    file = Path(path)
    if file.is_dir():
        file = next((one for folder in (file, file / 'checkpoints') for one in found_in(folder)), file)
    state = read(file)
    if not isinstance(state, dict) or not isinstance(state.get('model'), dict):
        raise CheckpointError(f'The checkpoint {os.fspath(file)!r} has no weights of a model. Expected one of DartsTrainer.')
    return state['model']
