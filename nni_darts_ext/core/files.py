"""Parse untrusted JSON, and write files atomically."""

from __future__ import annotations

import json
import math
import os
import reprlib
import secrets
import time
from contextlib import contextmanager, suppress
from typing import IO, Any, Dict, Iterator, List, Tuple, Union

Path = Union[str, 'os.PathLike[str]']

MAX_DIGITS = 40
"""Maximum number of digits of an integer, as Python's time to parse one grows with the square of its length."""
MAX_NAME = 48
"""Maximum number of characters of a file's name that its temporary file repeats, to stay within the file system's limit."""
READERS_BLOCK_REPLACING = os.name == 'nt'
"""Whether the system refuses to replace a file that another process reads."""
PATIENCE = 2.0
"""Seconds to wait for such readers."""


def read(file: Path, limit: int) -> bytes:
    """The content of a file of up to ``limit`` bytes. Raises ``OSError`` if it cannot be read, ``ValueError`` if it is larger."""
    with open(os.fspath(file), 'rb') as opened:
        content = opened.read(limit + 1)
    if len(content) > limit:
        raise ValueError(f'it is larger than {limit} bytes')
    return content


def parse(content: bytes) -> Any:
    """Parse strict JSON in UTF-8: without duplicate keys, NaN, or numbers out of range. Raises ``ValueError`` if it is not such
    JSON, or nested more deeply than Python can parse."""
    try:
        return json.loads(content.decode('utf-8'), object_pairs_hook=_object, parse_int=_integer, parse_float=_number,
                          parse_constant=_number)
    except RecursionError:
        raise ValueError('it is nested too deeply') from None


def _object(pairs: List[Tuple[str, Any]]) -> Dict[str, Any]:
    found: Dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f'the key {reprlib.repr(key)} occurs twice in an object')
        found[key] = value
    return found


def _integer(digits: str) -> int:
    if len(digits) > MAX_DIGITS:
        raise ValueError(f'an integer has more than {MAX_DIGITS} digits')
    return int(digits)


def _number(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):
        raise ValueError(f'{digits[:MAX_DIGITS]} is not a finite number')
    return number


@contextmanager
def replacing(file: Path) -> Iterator[IO[bytes]]:
    """Open a file that atomically replaces ``file`` at the end: readers find the old file or the new one, even after a crash.

    The new file has the default permissions of ``open``. If ``file`` is a symbolic link, the link is replaced, not its target.
    A killed process may leave a temporary file ``.<name>.<hexadecimal digits>.tmp``.
    """
    folder, name = os.path.split(os.fspath(file))
    temporary = os.path.join(folder, f'.{name[:MAX_NAME]}.{secrets.token_hex(8)}.tmp')
    with open(temporary, 'xb') as opened:  # fails if the name exists, even as a link
        try:
            yield opened
            opened.flush()
            os.fsync(opened.fileno())
            opened.close()
            _replace(temporary, file)
        except BaseException:
            opened.close()
            with suppress(OSError):
                os.unlink(temporary)
            raise
    _sync(folder or os.curdir)


def _replace(temporary: str, file: Path) -> None:
    """``os.replace``, which Windows refuses while another process reads the file."""
    give_up = time.monotonic() + PATIENCE
    while True:
        try:
            return os.replace(temporary, file)
        except PermissionError:
            if not READERS_BLOCK_REPLACING or time.monotonic() > give_up:
                raise
            time.sleep(0.02)


def _sync(folder: str) -> None:
    """Make the new name durable, if the system can sync a folder."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
