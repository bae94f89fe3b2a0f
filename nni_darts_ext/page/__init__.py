"""``nni-darts-ext report``: a run as one self-contained HTML page, without JavaScript and without network access."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..run import Run
from ..run.storage import write_out
from . import of_run

FILE = 'report.html'


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``nni-darts-ext report``."""
    parser.add_argument('run_dir', metavar='RUN', help='the folder of a run')
    parser.add_argument('--output', metavar='FILE', help=f'where to write the page (default: {FILE} in the folder of the run)')


def run(args: argparse.Namespace) -> int:
    """Write the page."""
    loaded = Run.read(args.run_dir)
    file = Path(args.output) if args.output else loaded.folder / FILE
    write_out(file, of_run.render(loaded))
    print(file)
    return 0
