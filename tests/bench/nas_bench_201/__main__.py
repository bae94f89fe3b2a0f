"""Searches on NAS-Bench-201 with different methods: what cell each has found after each epoch, and how good it is."""

import argparse
import concurrent.futures
import multiprocessing
import os
from pathlib import Path

import summary
from searches import run

METHODS = ['plain', 'EarlyStopping', 'BetaDecay']


def main():
    parser = argparse.ArgumentParser(prog='python tests/bench/nas_bench_201', description=__doc__)
    parser.add_argument('methods', nargs='*', default=METHODS, metavar='METHODS', help=(
        "'plain', 'recommended', or methods with ' + ' between them, as in a trial's --method: 'BetaDecay:rate=0.002 + Warmup'. "
        'Default: ' + ', '.join(METHODS)))
    parser.add_argument('--images', type=Path, required=True, help='a .npz of images (N, 3, H, W), uint8, and labels (N,)')
    parser.add_argument('--table', type=Path, required=True, help='a .csv or .csv.gz: architecture, accuracy in percent')
    parser.add_argument('--output', type=Path, required=True, help='the folder of the results; a search in it is not repeated')
    parser.add_argument('--seeds', type=int, nargs='+', default=[0, 1, 2], help='default 0 1 2')
    parser.add_argument('--epochs', type=int, default=25, help='default 25')
    parser.add_argument('--channels', type=int, default=8, help='of the first stage; default 8')
    parser.add_argument('--cells', type=int, default=1, help='of each of three stages; default 1')
    parser.add_argument('--batch-size', type=int, default=64, help='default 64')
    parser.add_argument('--limit', type=int, help='use so many images only')
    parser.add_argument('--partial-channels', type=int, default=1, metavar='K',
                        help='run 1 of K channels through the edges, as PC-DARTS; default 1, all of them')
    parser.add_argument('--unrolled', action='store_true', help='search by the exact second order')
    parser.add_argument('--strategy', action='store_true', help='search with the strategy DARTS on NNI 3.0')
    parser.add_argument('--processes', type=int, default=os.cpu_count(), help='that search at a time; default: the cores')
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)
    settings = [setting_of(arguments, name, seed) for seed in arguments.seeds for name in arguments.methods]
    settings = [setting for setting in settings if not summary.is_whole(setting['file'])]
    if min(arguments.processes, len(settings)) <= 1:
        list(map(run, settings))
    else:
        with concurrent.futures.ProcessPoolExecutor(arguments.processes, multiprocessing.get_context('spawn')) as pool:
            list(pool.map(run, settings))
    summary.write(arguments.output)


def setting_of(arguments, name, seed):
    kind = ''.join(['-strategy' * arguments.strategy, '-unrolled' * arguments.unrolled,
                    f'-partial{arguments.partial_channels}' if arguments.partial_channels > 1 else ''])
    shared = {field: str(value) if isinstance(value, Path) else value for field, value in vars(arguments).items()
              if field not in ('output', 'seeds', 'processes')}
    return {**shared, 'name': name, 'seed': seed, 'methods': [] if name == 'plain' else name.split(' + '),
            'file': str(arguments.output / '{}{}-{}.jsonl'.format(name, kind, seed))}


if __name__ == '__main__':
    main()
