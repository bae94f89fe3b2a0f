"""Make the algorithms known to the installed NNI, through NNI's own functions."""

from __future__ import annotations

import argparse
import contextlib
import io
import re
from pathlib import Path

from ..errors import HostNotSupported

META = Path(__file__).with_name('algorithms.yml')
"""What ``nnictl algo register --meta`` takes."""

NAMES = re.findall(r'builtinName: (\w+)', META.read_text())


def register() -> str:
    """Register the tuner and the assessor; those that are registered already are registered anew.

    Returns
    -------
    str
        What NNI says to it.

    Raises
    ------
    HostNotSupported
        NNI does not do it.
    """
    known = _registered()
    said = ''.join(_ask('algo_unreg', name=[name]) for name in NAMES if name in known)  # the first versions refuse a second time
    said += _ask('algo_reg', meta_path=str(META))
    if not set(NAMES) <= _registered():
        raise HostNotSupported(f'NNI does not register {", ".join(NAMES)}. It says: {said or "nothing"}')
    return said


def unregister() -> str:
    """Undo :func:`register`; it is no error if there is nothing to undo. Returns what NNI says to it."""
    known = _registered()
    return ''.join(_ask('algo_unreg', name=[name]) for name in NAMES if name in known)


def _registered() -> set:
    """The names that NNI lists."""
    return set(re.findall(r'\w+', _ask('algo_list')))


def _ask(function: str, **arguments: object) -> str:
    """Call what is behind ``nnictl algo`` and return what it prints."""
    said = io.StringIO()
    try:
        from nni.tools.nnictl import algo_management
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            getattr(algo_management, function)(argparse.Namespace(**arguments))
    except (Exception, SystemExit) as error:  # NNI leaves the process where its YAML reader has rotted
        what = said.getvalue().strip().splitlines()
        raise HostNotSupported(f'nnictl does not work here: {what[-1] if what else error}. nni-darts-ext doctor says what to do '
                               'about it.') from error
    return said.getvalue()
