"""Searches on NAS-Bench-201 with different methods: the cell after each epoch, and its accuracy in the benchmark's table."""

import argparse
import concurrent.futures
import multiprocessing
import os
from pathlib import Path

from searches import run


def main():
    parser = argparse.ArgumentParser(prog='python tests/bench/nas_bench_201', description=__doc__)
    parser.add_argument('methods', nargs='*', help='each "NAME=METHOD;METHOD;..." ')
    parser.add_argument('--images', required=True)
    parser.add_argument('--table', required=True)
    parser.add_argument('--seeds', type=int, nargs='+', default=[0, 1, 2])
    parser.add_argument('--epochs', type=int, default=25)
    parser.add_argument('--channels', type=int, default=8)
    parser.add_argument('--cells', type=int, default=1)
    parser.add_argument('--batch-size', type=int, default=64)
    parser.add_argument('--limit', type=int)
    parser.add_argument('--unrolled', action='store_true')
    parser.add_argument('--output', type=Path, required=True)
    parser.add_argument('--processes', type=int, default=os.cpu_count())
    args = parser.parse_args()
    args.output.mkdir(parents=True, exist_ok=True)
    jobs = []
    for seed in args.seeds:
        for text in args.methods:
            name, _, methods = text.partition('=')
            jobs.append({'name': name, 'seed': seed, 'methods': [m for m in methods.split(';') if m], 'images': args.images,
                         'table': args.table, 'limit': args.limit, 'epochs': args.epochs, 'channels': args.channels,
                         'cells': args.cells, 'batch_size': args.batch_size, 'unrolled': args.unrolled,
                         'file': str(args.output / '{}-{}.jsonl'.format(name, seed))})
    with concurrent.futures.ProcessPoolExecutor(args.processes, multiprocessing.get_context('spawn')) as pool:
        for _ in pool.map(run, jobs):
            pass


if __name__ == '__main__':
    main()
