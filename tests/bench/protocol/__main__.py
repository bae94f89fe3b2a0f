"""How the time and the memory of DartsTuner grow with what an experiment has done, with a simulated manager of NNI.

    python tests/bench/protocol --searches 100 1000 10000 --concurrency 500
"""

import argparse
import contextlib
import gc
import importlib.util
import io
import json
import logging
import math
import random
import resource
import sys
import tempfile
import time
import tracemalloc
from collections import Counter, defaultdict
from pathlib import Path

import nni

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from nnictl_database import experiment
from simulated_manager import Manager

from nni_darts_ext import cli, plot
from nni_darts_ext.nnictl.selection import rank
from nni_darts_ext.nnictl.task import Task, task_of
from nni_darts_ext.nnictl.tuner import DartsTuner

OPERATIONS = ['max_pool_3x3', 'avg_pool_3x3', 'skip_connect', 'sep_conv_3x3', 'sep_conv_5x5', 'dil_conv_3x3', 'dil_conv_5x5']
KINDS = {'generate_multiple_parameters': 'request', 'receive_trial_result': 'result', 'trial_end': 'end'}


def main():
    parser = argparse.ArgumentParser(prog='python tests/bench/protocol', description=__doc__.split('\n')[0])
    parser.add_argument('--searches', type=int, nargs='+', default=[100, 1000, 10000], help='default 100 1000 10000')
    parser.add_argument('--concurrency', type=int, default=500, help='default 500')
    parser.add_argument('--failing', type=float, default=0.05, help='the probability that a trial fails; default 0.05')
    parser.add_argument('--mixes-up', type=float, default=0.05, help='that a trial has the parameters of another; default 0.05')
    parser.add_argument('--late', type=float, default=0.05, help='that results or ends are held back; default 0.05')
    parser.add_argument('--output', type=Path, help='where the results are written, as JSON')
    arguments = parser.parse_args()
    logging.disable(logging.WARNING)
    found = {'python': sys.version.split()[0], 'nni': nni.__version__, 'experiments': []}
    for searches in arguments.searches:
        timed, ended = measured(searches, arguments, tracing=False)
        traced, _ = measured(searches, arguments, tracing=True)
        points = [{**point, 'bytes': of_memory['bytes']} for point, of_memory in zip(timed, traced)]
        found['experiments'].append({'searches': searches, 'points': points, **ended})
        print(table(searches, points, ended), flush=True)
    if arguments.output:
        arguments.output.write_text(json.dumps(found, indent=1) + '\n')


class Lines:
    """A list in a file, so that it takes no memory of what is measured."""

    def __init__(self, file):
        self.file = file

    def append(self, value):
        self.file.write(json.dumps(value) + '\n')

    def __iter__(self):
        self.file.seek(0)
        return map(json.loads, self.file)


class Stopwatch:
    """The seconds of the processor that a tuner's methods took since :meth:`take`."""

    def __init__(self):
        self.seconds = defaultdict(list)

    def on(self, tuner):
        for name, kind in KINDS.items():
            setattr(tuner, name, self._timed(getattr(tuner, name), self.seconds[kind]))
        return tuner

    def _timed(self, call, seconds):
        def timed(*arguments, **named):
            began = time.thread_time()
            try:
                return call(*arguments, **named)
            finally:
                seconds.append(time.thread_time() - began)
        return timed

    def take(self):
        taken = {}
        for kind, seconds in self.seconds.items():
            if seconds:
                taken[kind] = {'mean': sum(seconds) / len(seconds), 'largest': max(seconds)}
            seconds.clear()
        return taken


def measured(searches, arguments, tracing):
    with tempfile.TemporaryFile('w+') as finished, tempfile.TemporaryFile('w+') as handed_out:
        return run(searches, arguments, tracing, Lines(finished), Lines(handed_out))


def run(searches, arguments, tracing, finished, handed_out):
    """One experiment with two restarts: what was measured at every tenth of it, and at its restarts and its end."""
    draw = random.Random(searches)
    stopwatch = Stopwatch()

    def begin():
        tuner = DartsTuner(searches=searches, final_trainings=3)
        tuner.update_search_space({})
        return tuner if tracing else stopwatch.on(tuner)

    def outcome(parameters):
        return None if draw.random() < arguments.failing else reported(parameters)
    gc.collect()
    before = resident()
    if tracing:
        tracemalloc.start()
    began = time.process_time()
    manager = Manager(begin(), arguments.concurrency, draw, outcome, arguments.mixes_up, arguments.late, finished,
                      handed_out)
    ended = {'start_seconds': time.process_time() - began, 'restarts': []}
    points, n = [], 0
    slice_size = math.ceil(2 * searches * (1 + arguments.failing + arguments.late) / 10)
    stopwatch.take()
    while True:
        done = manager.run(slice_size)
        n += done
        gc.collect()
        points.append({'events': n, 'bytes': tracemalloc.get_traced_memory()[0] if tracing else None,
                       'resident': resident() - before, 'seconds': stopwatch.take()})
        if done < slice_size:
            break
        if len(points) in (4, 7):
            began = time.process_time()
            manager.restart(begin(), keeps_trials=len(points) == 7)  # as NNI 3.0, and before as 2.0
            ended['restarts'].append(time.process_time() - began)
            stopwatch.take()
    if tracing:
        tracemalloc.stop()
        return points, ended
    return points, {**ended, **verified(manager, searches)}


def reported(parameters):
    """The result of a trial, always the same for a task."""
    of_it = random.Random(json.dumps(parameters, sort_keys=True))
    value = {'default': of_it.random(), 'task': parameters}
    if parameters['phase'] == 'search':
        value['architecture'] = {f'cell {i // 14}, edge {i % 14}': of_it.choice(OPERATIONS) for i in range(28)}
    return value


def verified(manager, searches):
    """What the experiment was asked to do, held against what was done; the time of ``best`` and ``report``."""
    finished = [(task_of(one['value'], one['parameter']), one['value']) for one in manager.finished]
    handed_out = Counter(Task.of(parameters).key() for parameters in manager.handed_out)
    trained = Counter(task.key() for task, _ in finished)
    best = rank(finished)[0]
    assert manager.tuner.selection.is_done
    assert sum(task.phase == 'search' for task, _ in finished) >= 0.9 * searches
    assert len(best.finals) == 3 and {str(task.architecture) for task, _ in finished if task.phase == 'final'} == {
        str(best.architecture)}, 'the final trainings are not those of the best'
    with tempfile.TemporaryDirectory() as folder:
        experiment(Path(folder), [(str(i), task, value) for i, (task, value) in enumerate(finished)])
        took = {'best_seconds': command('best', folder, '--output', f'{folder}/best.json')}
        if all(importlib.util.find_spec(package) for package in plot.PACKAGES):
            took.update(report_seconds=command('report', folder), report_bytes=Path(folder, 'report.html').stat().st_size)
    return {'trials': sum(handed_out.values()), 'results': len(finished), 'tasks': len(trained),
            'trained_twice': sum(n > 1 for n in trained.values()), **took}


def command(*arguments):
    """The seconds of a command of ``nni-darts-ext``."""
    began = time.process_time()
    with contextlib.redirect_stdout(io.StringIO()):
        assert cli.main(arguments) == 0
    return time.process_time() - began


def resident():
    return int(Path('/proc/self/statm').read_text().split()[1]) * resource.getpagesize()


def table(searches, points, ended):
    """Markdown of one experiment."""
    rows = [['events', *(f'{kind}, mean (largest)' for kind in KINDS.values()), 'traced memory', 'resident memory']]
    rows += [[str(point['events']), *(microseconds(point['seconds'].get(kind)) for kind in KINDS.values()),
              f'{point["bytes"] / 1e6:.2f} MB', f'{point["resident"] / 1e6:.0f} MB'] for point in points]
    lines = ['| {} |'.format(' | '.join(row)) for row in [rows[0], ['---'] * len(rows[0]), *rows[1:]]]
    return '\n'.join([f'\n{searches} searches: {ended}\n', *lines])


def microseconds(seconds):
    return f'{seconds["mean"] * 1e6:.0f} ({seconds["largest"] * 1e6:.0f}) µs' if seconds else ''


if __name__ == '__main__':
    main()
