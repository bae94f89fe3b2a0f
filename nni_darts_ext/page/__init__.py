"""``nni-darts-ext report``: a run or an experiment as one self-contained HTML page, without JavaScript and without network."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..errors import ExperimentError, RunError
from ..nnictl import experiments, results
from ..run import CONFIG, Run
from ..run.storage import write_out
from . import of_experiment, of_run

FILE = 'report.html'


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``nni-darts-ext report``."""
    parser.add_argument('source', metavar='RUN', help='the folder of a run, or an experiment of nnictl: its id or its folder')
    parser.add_argument('--output', metavar='FILE', help=f'where to write the page (default: {FILE} in the folder of the run or '
                        'experiment)')


def run(args: argparse.Namespace) -> int:
    """Write the page."""
    folder = Path(args.source)
    is_run = (folder / CONFIG).exists()
    if not is_run:
        try:
            folder = experiments.folder_of(args.source)
        except ExperimentError as error:
            raise RunError(f'{args.source} is not the run of a search: it has no {CONFIG}. {error}') from error
    file = Path(args.output) if args.output else folder / FILE
    write_out(file, of_run.render(Run.read(folder)) if is_run else
              of_experiment.render(folder.resolve().name, results.read(folder), file, FILE))
    print(file)
    return 0
