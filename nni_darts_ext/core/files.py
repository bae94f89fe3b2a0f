"""Files: JSON from outside, which is data and never code, and files of ours, which are there as a whole or not at all."""

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
"""Of an integer. Longer ones take Python a time that grows with their square."""
MAX_NAME = 48
"""Characters of a file's name that its temporary file has in its own, which must not get too long for the file system."""
READERS_HOLD_FILES = os.name == 'nt'
PATIENCE = 2.0
"""Seconds that a file waits for its readers there."""


def read(file: Path, limit: int) -> bytes:
    """The content of a file of up to ``limit`` bytes.

    Raises
    ------
    OSError
        It cannot be read.
    ValueError
        It is larger.
    """
    with open(os.fspath(file), 'rb') as opened:
        content = opened.read(limit + 1)
    if len(content) > limit:
        raise ValueError(f'it is larger than {limit} bytes')
    return content


def parse(content: bytes) -> Any:
    """JSON in UTF-8, as the standard has it: no key twice in an object, no NaN, no number out of range.

    Raises
    ------
    ValueError
        It is no such JSON, or nested more deeply than Python reads.
    """
    try:
        return json.loads(content.decode('utf-8'), object_pairs_hook=_object, parse_int=_integer, parse_float=_number,
                          parse_constant=_number)
    except RecursionError:
        raise ValueError('it is nested too deeply') from None


def _object(pairs: List[Tuple[str, Any]]) -> Dict[str, Any]:
    found: Dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f'the key {reprlib.repr(key)} stands twice in an object')
        found[key] = value
    return found


def _integer(digits: str) -> int:
    if len(digits) > MAX_DIGITS:
        raise ValueError(f'an integer has more than {MAX_DIGITS} digits')
    return int(digits)


def _number(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):
        raise ValueError(f'{digits[:MAX_DIGITS]} is no finite number')
    return number


@contextmanager
def replacing(file: Path) -> Iterator[IO[bytes]]:
    """Opens a file that takes the place of ``file`` at the end, in one go: whoever reads, and whatever dies when, finds the old
    one or the new one.

    The new file has the permissions that ``open`` gives. If ``file`` is a symbolic link, the new file takes the place of the
    link, and what that points to stays as it is. What a kill leaves behind is named ``.<name>.<hexadecimal digits>.tmp``.
    """
    folder, name = os.path.split(os.fspath(file))
    temporary = os.path.join(folder, f'.{name[:MAX_NAME]}.{secrets.token_hex(8)}.tmp')
    with open(temporary, 'xb') as opened:  # refused if there is anything of that name, links included
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
    """``os.replace``, which Windows refuses as long as somebody reads the file."""
    give_up = time.monotonic() + PATIENCE
    while True:
        try:
            return os.replace(temporary, file)
        except PermissionError:
            if not READERS_HOLD_FILES or time.monotonic() > give_up:
                raise
            time.sleep(0.02)


def _sync(folder: str) -> None:
    """Let the new name outlive a loss of power, where the system lets one ask for it."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
