"""Register the tuner and the assessor with the installed NNI, by NNI's own functions."""

from __future__ import annotations

import argparse
import contextlib
import io
import re
from pathlib import Path

from ..errors import HostNotSupported

META = Path(__file__).with_name('algorithms.yml')
"""The file for ``nnictl algo register --meta``."""

NAMES = re.findall(r'builtinName: (\w+)', META.read_text(encoding='utf-8'))


def register() -> str:
    """Register the tuner and the assessor, again if they are already registered. Returns the output of NNI. Raises
    ``HostNotSupported`` if NNI fails to register them."""
    output = unregister()  # early NNI refuses to register a name a second time
    output += _call('algo_reg', meta_path=str(META))
    if not set(NAMES) <= _registered():
        raise HostNotSupported(f'NNI does not register {", ".join(NAMES)}. Its output: {output or "none"}')
    return output


def unregister() -> str:
    """Undo :func:`register`, if they are registered. Returns the output of NNI."""
    known = _registered()
    return ''.join(_call('algo_unreg', name=[name]) for name in NAMES if name in known)


def _registered() -> set:
    """The names that NNI lists."""
    return set(re.findall(r'\w+', _call('algo_list')))


def _call(function: str, **arguments: object) -> str:
    """Call a function of ``nnictl algo`` and return its output."""
    captured = io.StringIO()
    try:
        from nni.tools.nnictl import algo_management
        with contextlib.redirect_stdout(captured), contextlib.redirect_stderr(captured):
            getattr(algo_management, function)(argparse.Namespace(**arguments))
    except (Exception, SystemExit) as error:  # NNI exits if its YAML reader fails
        lines = captured.getvalue().strip().splitlines()
        raise HostNotSupported(f'nnictl does not work here: {lines[-1] if lines else error}. Run nni-darts-ext doctor, which '
                               'finds the cause.') from error
    return captured.getvalue()
