"""Reading and writing the files of a run, and the lock that its writer holds."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import IO, Any, Optional, Union

from ..core import files
from ..errors import RunError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

MAX_SIZE = 2 ** 24
"""Maximum size of a JSON file in bytes. Larger files are refused."""
LOCKS = fcntl is not None
"""Whether this system supports file locks."""
NOT_FINITE = {'NaN': math.nan, 'Infinity': math.inf, '-Infinity': -math.inf}
"""The strings that stand for numbers that JSON cannot represent."""


def dumps(value: Any, **options: Any) -> bytes:
    """JSON, with the strings of :data:`NOT_FINITE`, and ``str(value)`` for other values that JSON cannot represent."""
    return json.dumps(_spelled(value), default=str, allow_nan=False, **options).encode('utf-8')


def _spelled(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return 'NaN' if math.isnan(value) else 'Infinity' if value > 0 else '-Infinity'
    if isinstance(value, dict):
        return {key: _spelled(part) for key, part in value.items()}
    return [_spelled(part) for part in value] if isinstance(value, (list, tuple)) else value


def read(file: Path, limit: int) -> bytes:
    """The content of a file of a run. Raises :class:`RunError` if the file cannot be read, or is larger than ``limit`` bytes."""
    try:
        return files.read(file, limit)
    except (OSError, ValueError) as error:
        raise broken(file, error) from error


def read_json(file: Path) -> Any:
    """The content of a JSON file of a run. Raises :class:`RunError` if the file cannot be read, or is not JSON."""
    content = read(file, MAX_SIZE)
    try:
        return files.parse(content)
    except ValueError as error:
        raise broken(file, error) from error


def broken(file: Path, error: Exception, where: str = '') -> RunError:
    """The error for a file with invalid content."""
    reason = f'{error.args[0]!r} is missing' if isinstance(error, KeyError) else str(error)
    return RunError(f'{file} is broken{where}: {reason}. Restore it from a backup, or start a new search.')


def write_json(file: Path, value: Any, **options: Any) -> None:
    """Write a value as JSON. Readers find either the old file or the new one, even after a crash."""
    files.write(file, dumps(value, indent=2, **options) + b'\n')


def write_out(file: Path, content: Union[str, bytes]) -> None:
    """Write a file that a command was asked for, and create its folder. Raises :class:`RunError` if it cannot be written."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        files.write(file, content.encode('utf-8') if isinstance(content, str) else content)
    except OSError as error:
        raise RunError(f'{file} cannot be written: {error}. Pass another --output.') from error


def cut_torn_line(lines: IO[bytes]) -> None:
    """Remove a last line without newline, which a killed process has left."""
    with open(lines.name, 'rb') as opened:
        whole = opened.read().rfind(b'\n') + 1
    lines.truncate(whole)
    lines.seek(whole)


def lock(opened: IO[bytes]) -> bool:
    """Take the writer's lock, for which it waits, as each reader holds it for a moment. It is released when the file is closed or
    the process ends, however it ends. Returns False if another process holds it, always True where there are no locks."""
    if fcntl is None:
        return True
    try:
        files.retried(lambda: fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB), BlockingIOError, files.PATIENCE)
    except BlockingIOError:
        return False
    except OSError:  # a file system without locks
        pass
    return True


def is_locked(file: Path) -> Optional[bool]:
    """Whether a writer holds the lock; None if this system or the file system has no locks."""
    if fcntl is None:
        return None
    try:
        with open(file, 'rb') as opened:
            fcntl.flock(opened, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return None
    return False
