"""Time and memory of a search against NNI's own, against its candidates alone and against the paper's second order.

``tox run -e bench`` does this with three NNIs and writes what it finds into ``tests/bench/results``. ``problem.py`` says what is
searched, ``sides.py`` by whom, ``references.py`` what that is held against, ``studies.py`` what is measured, ``measure.py`` how;
``report.py`` makes tables of it and ``plots.py`` plots.
"""

import argparse
import datetime
import json
import logging
import os
import platform
import sys
import tempfile
from pathlib import Path

import nni
import report
import studies
import torch
from problem import Problem


def main():
    parser = argparse.ArgumentParser(prog='python tests/bench', description=__doc__.split('\n')[0])
    for field, default in Problem._field_defaults.items():
        parser.add_argument('--' + field.replace('_', '-'), type=int, help='of the space; default {}'.format(default))
    parser.add_argument('--rounds', type=int, help='how often each side takes a turn; default 6')
    parser.add_argument('--only', nargs='+', choices=list(report.TITLES), default=list(report.TITLES), metavar='STUDY',
                        help='any of: ' + ', '.join(report.TITLES))
    parser.add_argument('--without', nargs='+', default=[], metavar='WORD',
                        help='leaves out the sides with such a word in their names: compiled, say, which takes minutes')
    parser.add_argument('--quick', action='store_true', help='small sizes and two rounds, for trying')
    parser.add_argument('--threads', type=int, default=1, help='of PyTorch; default 1')
    parser.add_argument('--processes', type=int, default=os.cpu_count(), help='that measure memory at a time; default: the cores')
    parser.add_argument('--device', type=torch.device, default='cpu')
    parser.add_argument('--output', type=Path, help='where the results are written, as JSON')
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    logging.disable(logging.WARNING)
    output = arguments.output and arguments.output.absolute()
    with tempfile.TemporaryDirectory() as folder:  # NNI writes logs where it runs
        here = os.getcwd()
        os.chdir(folder)
        try:
            results = measured(arguments)
        finally:
            os.chdir(here)
    if output:
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_text(json.dumps(results, indent=1) + '\n')
    print(report.tables(results))


def measured(arguments):
    problem = Problem(4, 3, 2, 7, 4) if arguments.quick else Problem()
    problem = problem._replace(**{field: getattr(arguments, field) for field in problem._fields
                                  if getattr(arguments, field) is not None})
    small, grown_from, sizes = ((studies.QUICKLY_SMALL, studies.QUICKLY_GROWN_FROM, studies.QUICK_SIZES) if arguments.quick
                                else (studies.SMALL, studies.GROWN_FROM, studies.SIZES))
    rounds = arguments.rounds or (2 if arguments.quick else 6)
    chosen = [study._replace(sides={name: side for name, side in study.sides.items()
                                    if not any(word in name for word in arguments.without)})
              for study in studies.studies(problem, rounds, small, grown_from, sizes) if study.name in arguments.only]
    results = {'machine': machine(arguments), 'grown_from': grown_from._asdict(), 'studies': [
        {'name': study.name, 'problem': study.problem._asdict(), 'sides': {
            name: {'against': dict(side.against)} for name, side in study.sides.items()}} for study in chosen]}
    for study, result in zip(chosen, results['studies']):
        if study.has_memory:
            tell('memory', study)
            for name, peak in studies.peak_memories(study, arguments.device, arguments.processes).items():
                result['sides'][name]['bytes'] = peak
    for study, result in zip(chosen, results['studies']):
        tell('time', study)
        for name, seconds in studies.seconds(study, arguments.device).items():
            result['sides'][name]['seconds'] = seconds
    return results


def tell(what, study):
    print('{}, {}: {}'.format(report.TITLES[study.name], what, report.size(study.problem._asdict())), file=sys.stderr, flush=True)


def machine(arguments):
    """What the numbers hang on."""
    if arguments.device.type == 'cuda':
        processor = torch.cuda.get_device_name(arguments.device)
    else:
        processor = platform.processor() or platform.machine()
        if os.path.exists('/proc/cpuinfo'):
            lines = Path('/proc/cpuinfo').read_text().splitlines()
            processor = next((line.split(':', 1)[1].strip() for line in lines if line.startswith('model name')), processor)
    return {'processor': processor, 'cores': os.cpu_count(), 'threads': torch.get_num_threads(), 'system': platform.system(),
            'python': platform.python_version(), 'torch': torch.__version__, 'nni': nni.__version__,
            'date': datetime.date.today().isoformat()}


if __name__ == '__main__':
    main()
