"""Time and memory of a search against NNI's own, against its candidates alone and against the paper's second order.

``tox run -e bench`` does this with three NNIs and writes what it finds into ``tests/bench/results``. ``problem.py`` says what is
searched, ``sides.py`` by whom, ``references.py`` what that is held against, ``studies.py`` what is measured, ``measure.py`` how,
``launches.py`` what is counted; ``report.py`` makes tables of it and ``plots.py`` plots.

``tox run -e bench -- --device cuda`` measures a search of the paper's size on a GPU: steps, their memory, and epochs, with and
without ``compile``, and counts what a step launches. These results are written to files of their own, ``...-cuda.json``.
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
from problem import OF_THE_PAPER, Problem


def main():
    parser = argparse.ArgumentParser(prog='python tests/bench', description=__doc__.split('\n')[0])
    for field, default in Problem._field_defaults.items():
        parser.add_argument('--' + field.replace('_', '-'), type=int, help='of the space; default {}, on a GPU {}'.format(
            default, getattr(OF_THE_PAPER, field)))
    parser.add_argument('--rounds', type=int, help='how often each side takes a turn; default 6')
    parser.add_argument('--only', nargs='+', choices=list(report.TITLES), metavar='STUDY',
                        help='any of: {}; default: all, on a GPU {}'.format(', '.join(report.TITLES), ', '.join(studies.ON_GPU)))
    parser.add_argument('--without', nargs='+', default=[], metavar='WORD',
                        help='leaves out the sides with such a word in their names: compiled, say, which takes minutes')
    parser.add_argument('--quick', action='store_true', help='small sizes and two rounds, for trying')
    parser.add_argument('--threads', type=int, default=1, help='of PyTorch; default 1')
    parser.add_argument('--processes', type=int, default=os.cpu_count(), help='that measure memory at a time; default: the cores')
    parser.add_argument('--device', type=torch.device, default='cpu', help='cpu, cuda or cuda:NUMBER; default cpu')
    parser.add_argument('--output', type=Path, help='where the results are written, as JSON')
    arguments = parser.parse_args()
    if arguments.device.type == 'cuda':
        check_gpu(parser, arguments.device)
    elif arguments.device.type != 'cpu':
        parser.error('--device {}: expected cpu, cuda or cuda:NUMBER'.format(arguments.device))
    torch.set_num_threads(arguments.threads)
    logging.disable(logging.WARNING)
    output = arguments.output and arguments.output.absolute()
    if output and arguments.device.type != 'cpu':
        output = output.with_name('{}-{}{}'.format(output.stem, arguments.device.type, output.suffix))
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


def check_gpu(parser, device):
    """End the program if PyTorch cannot run on this GPU. If it merely has no kernels for it, as PyTorch 1.12 has none for newer
    GPUs, that is no error, so that the other environments still measure and report."""
    version = 'PyTorch {}, of CUDA {},'.format(torch.__version__, torch.version.cuda)
    if not torch.cuda.is_available():
        parser.error('--device {}: {} finds no GPU. See that nvidia-smi lists one, and install a PyTorch whose CUDA its '
                     'driver supports (tox.ini says how), or leave --device out.'.format(device, version))
    if (device.index or 0) >= torch.cuda.device_count():
        parser.error('--device {}: there are {} GPUs, numbered from 0.'.format(device, torch.cuda.device_count()))
    if torch.version.cuda is None:  # ROCm
        return
    major, minor = torch.cuda.get_device_capability(device)
    kernels = torch.cuda.get_arch_list()
    fits = [name for name in kernels for kind, of in [name.split('_')] for at in [int(of.rstrip('af'))]
            if at <= 10 * major + minor and (kind == 'compute' or at // 10 == major)]
    if not fits:
        parser.exit(0, 'Nothing is measured: {} has kernels for {}, and {} is an sm_{}{}.\n'.format(
            version, ', '.join(kernels), torch.cuda.get_device_name(device), major, minor))


def measured(arguments):
    is_on_gpu = arguments.device.type != 'cpu'
    problem = Problem(4, 3, 2, 7, 4) if arguments.quick else OF_THE_PAPER if is_on_gpu else Problem()
    problem = problem._replace(**{field: getattr(arguments, field) for field in problem._fields
                                  if getattr(arguments, field) is not None})
    small, grown_from, sizes = ((studies.QUICKLY_SMALL, studies.QUICKLY_GROWN_FROM, studies.QUICK_SIZES) if arguments.quick
                                else (studies.SMALL, studies.GROWN_FROM, studies.SIZES))
    rounds = arguments.rounds or (2 if arguments.quick else 6)
    chosen = [study._replace(sides={name: side for name, side in study.sides.items()
                                    if not any(word in name for word in arguments.without)})
              for study in studies.studies(problem, rounds, small, grown_from, sizes)
              if study.name in (arguments.only or (studies.ON_GPU if is_on_gpu else report.TITLES))]
    results = {'machine': machine(arguments), 'grown_from': grown_from._asdict(), 'studies': [
        {'name': study.name, 'problem': study.problem._asdict(), 'sides': {
            name: {'against': dict(side.against)} for name, side in study.sides.items()}} for study in chosen]}
    for study, result in zip(chosen, results['studies']):
        if study.has_memory:
            tell('memory', study)
            for name, peak in studies.peak_memories(study, arguments.device, arguments.processes).items():
                result['sides'][name]['bytes'] = peak
    for study, result in zip(chosen, results['studies']):
        if study.name == report.LAUNCHES:
            tell('counts', study)
            for name, counted in studies.counts(study, arguments.device).items():
                result['sides'][name].update(launches=counted.launches, waits=counted.waits)
        else:
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
