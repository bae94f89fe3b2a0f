"""The command ``nni-darts-ext``."""

from __future__ import annotations

import argparse
import json
import os
import sys
from argparse import RawDescriptionHelpFormatter
from pathlib import Path
from typing import Optional, Sequence

from . import __version__, page, plot
from .errors import DartsExtError
from .nnictl import doctor, experiments, registration, results
from .run import show
from .run.storage import write_out


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Run a command. Returns its exit status: 0 for success, 1 for failure, 2 for invalid arguments."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, 'reconfigure'):  # print names that the terminal's encoding lacks
            stream.reconfigure(errors='backslashreplace')
    args = parser().parse_args(argv)
    try:
        status = args.run(args)
        sys.stdout.flush()
        return status
    except BrokenPipeError:  # the reader, such as head, has exited; Python would report it again at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt:
        print('nni-darts-ext: interrupted', file=sys.stderr)
        return 1
    except (DartsExtError, OSError) as error:
        print(f'nni-darts-ext: {error}', file=sys.stderr)
        return 1


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser('nni-darts-ext', description='DARTS for an NNI that is already installed.')
    made.add_argument('--version', action='version', version=f'nni-darts-ext {__version__}')
    commands = made.add_subparsers(title='commands', metavar='COMMAND', dest='command', required=True)

    command = commands.add_parser('register', help='make DartsTuner and DartsAssessor known to nnictl',
                                  description='Make DartsTuner and DartsAssessor known to nnictl, as nnictl algo register does. '
                                  'It may be repeated.')
    command.add_argument('--print-meta', action='store_true', help='only print the file for nnictl algo register --meta')
    command.set_defaults(run=_register)

    command = commands.add_parser('unregister', help='undo register', description='Undo register.')
    command.set_defaults(run=_unregister)

    command = commands.add_parser('best', help='rank what an experiment has found, and write the best architecture',
                                  description='Rank the architectures that an experiment with DartsTuner has found so far, and '
                                  'write the best one to a file. With random architectures in the experiment, say how those '
                                  'that were found compare with them. The experiment may still be running.')
    command.add_argument('experiment', help='its id, or its folder')
    command.add_argument('--output', default='architecture.json', metavar='FILE',
                         help='where to write the best architecture (default: %(default)s)')
    command.add_argument('--json', action='store_true', help='print the ranking as JSON')
    command.set_defaults(run=_best)

    command = commands.add_parser('doctor', help='what works in this NNI, what has rotted around it, and what mends it',
                                  description='Examine the NNI installation in this Python: what the plugin can offer there, '
                                  'what has rotted, and the command that mends it. Changes nothing. Exits with 1 if nnictl '
                                  'would not start.')
    doctor.add_arguments(command)
    command.set_defaults(run=doctor.run)

    command = commands.add_parser('show', help='the state of a run',
                                  description='Print the state of a run, also while it is running: status, epochs, time left,\n'
                                  'whether it has collapsed and what to try, losses and metrics, indicators of\n'
                                  'collapse, and the architecture so far with how decided each edge is.',
                                  epilog=_RUN + '  nni-darts-ext show runs/first', formatter_class=RawDescriptionHelpFormatter)
    show.add_arguments(command)
    command.set_defaults(run=show.run)

    command = commands.add_parser('plot', help='pictures of a run, or a comparison of several runs',
                                  description='Draw a run: its cells, the weights of each edge over the epochs and after\n'
                                  'the last one, losses, metrics and indicators of collapse. Of several runs, draw\n'
                                  'a comparison instead.',
                                  epilog=_RUN + '  nni-darts-ext plot runs/first --format svg --all-edges\n'
                                  '  nni-darts-ext plot runs/first runs/second --output compared',
                                  formatter_class=RawDescriptionHelpFormatter)
    plot.add_arguments(command)
    command.set_defaults(run=plot.run)

    command = commands.add_parser('report', help='a run or an experiment as one HTML page, with pictures',
                                  description='Write a run as one HTML page: the verdict that show prints, the architecture,\n'
                                  'the next best ones, the price, curves and tables. Of an experiment with DartsTuner,\n'
                                  'the best architecture, where the found ones stand among random ones, the ranking\n'
                                  'and the searches. A page needs no network.',
                                  epilog=_RUN + '  nni-darts-ext report runs/first --output first.html',
                                  formatter_class=RawDescriptionHelpFormatter)
    page.add_arguments(command)
    command.set_defaults(run=page.run)
    return made


_RUN = "A run's folder is the run_dir of DartsTrainer or of a strategy. For example:\n"


def _register(args: argparse.Namespace) -> int:
    if args.print_meta:
        print(registration.META)
    else:
        registration.register()
        print(f'Registered: {", ".join(registration.NAMES)}.')
    return 0


def _unregister(args: argparse.Namespace) -> int:
    registration.unregister()
    print(f'Unregistered: {", ".join(registration.NAMES)}.')
    return 0


def _best(args: argparse.Namespace) -> int:
    found = results.read(experiments.folder_of(args.experiment))
    write_out(Path(args.output), json.dumps(found.found[0].architecture, indent=2, sort_keys=True))
    if args.json:
        print(json.dumps(results.as_json(found), indent=2))
    else:
        print(results.table(found.found))
        if found.comparison is not None:
            print(found.comparison)
        print(f'The best architecture is in {args.output}.')
    return 0
