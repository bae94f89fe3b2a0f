"""Parse untrusted JSON, and write files atomically."""

from __future__ import annotations

import json
import logging
import math
import os
import reprlib
import secrets
import time
from contextlib import contextmanager, suppress
from typing import IO, Any, Callable, Dict, Iterator, List, Tuple, Type, TypeVar, Union

_logger = logging.getLogger(__name__)
T = TypeVar('T')
Path = Union[str, 'os.PathLike[str]']

MAX_DIGITS = 40
"""Maximum number of digits of an integer, as Python's time to parse one grows with the square of its length."""
MAX_NAME = 48
"""Maximum number of characters of a file's name that its temporary file repeats, to stay within the file system's limit."""
OPEN_FILES_ARE_HELD = os.name == 'nt'
"""Whether the system refuses to replace a file that another process has open, and to open one that is being replaced."""
PATIENCE = 2.0
"""Seconds to wait for another process that has a file open or locked."""
DISK_PATIENCE = 60.0
"""Seconds for which a search tries to write what must not be lost."""


def read(file: Path, limit: int) -> bytes:
    """The content of a file of up to ``limit`` bytes. Raises ``OSError`` if it cannot be read, ``ValueError`` if it is larger."""
    with _when_released(lambda: open(os.fspath(file), 'rb')) as opened:
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
            _when_released(lambda: os.replace(temporary, file))
        except BaseException:
            with suppress(OSError):  # a file that could not be flushed fails again
                opened.close()
            remove(temporary)
            raise
    _sync(folder or os.curdir)


def write(file: Path, content: bytes) -> None:
    """Write a file atomically, see :func:`replacing`."""
    with replacing(file) as opened:
        opened.write(content)


def remove(file: Path) -> None:
    """Remove a file, if the system allows it."""
    with suppress(OSError):
        os.unlink(file)


def check_writable(folder: Path) -> None:
    """Create a folder, if it is missing, and a file in it, which is removed. Raises ``OSError`` if that is impossible."""
    os.makedirs(folder, exist_ok=True)
    probe = os.path.join(os.fspath(folder), f'.{secrets.token_hex(8)}.tmp')
    open(probe, 'xb').close()
    remove(probe)


def persistently(write: Callable[[], T], what: str) -> T:
    """Call ``write``, again for :data:`DISK_PATIENCE` seconds if it raises ``OSError``: space may be freed, and a network may
    recover. ``what`` is written, for the log."""
    try:
        return write()
    except OSError as error:
        _logger.warning('%s cannot be written: %s. Trying again for %g seconds.', what, error, DISK_PATIENCE)
    return retried(write, OSError, DISK_PATIENCE)


def retried(call: Callable[[], T], errors: Union[Type[OSError], Tuple[Type[OSError], ...]], patience: float) -> T:
    """Call ``call``, and again while it raises one of ``errors``, for up to ``patience`` seconds."""
    give_up = time.monotonic() + patience
    while True:
        try:
            return call()
        except errors:
            if time.monotonic() > give_up:
                raise
        time.sleep(patience / 40)


def _when_released(call: Callable[[], T]) -> T:
    """Call ``call``, and where :data:`OPEN_FILES_ARE_HELD` again while another process holds the file."""
    if not OPEN_FILES_ARE_HELD:
        return call()
    try:
        return retried(call, PermissionError, PATIENCE)
    except PermissionError as error:
        raise PermissionError(error.errno, f'{error.strerror} for {PATIENCE:g} seconds: close the programs that have the file '
                              'open, if there are any', error.filename, None, error.filename2) from error


def _sync(folder: str) -> None:
    """Make the new name durable, if the system can sync a folder."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
