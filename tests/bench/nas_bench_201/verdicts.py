"""Hits and misses of the verdict: what it says of searches on NAS-Bench-201, against the accuracies of the cells."""

import argparse
from collections import Counter, defaultdict
from pathlib import Path

from cells import Table
from networks import EDGES, OPERATIONS, key
from summary import records

from nni_darts_ext.core.criteria import SKIP_CONNECTIONS
from nni_darts_ext.run import DONE, Epoch, Run, SpaceRecord, State, now
from nni_darts_ext.run.verdict import DECIDED, LEANING, UNDECIDED, UNMOVED, verdict

SPACE = SpaceRecord({key(*edge): OPERATIONS for edge in EDGES}, {})
COLLAPSED, COLLAPSING, NO_SIGN = SAID = ('collapsed', 'may be collapsing', 'no sign')


def operations(cell):
    """The operation of each edge of a cell, as the benchmark writes it."""
    return {key(j, int(i)): name for j, node in enumerate(cell.split('+'), 1)
            for name, i in (edge.split('~') for edge in node.strip('|').split('|'))}


def run_of(epochs):
    """The lines of a search as a recorded run."""
    def epoch(line):
        architecture = {edge: [OPERATIONS.index(name)] if name in OPERATIONS else []
                        for edge, name in operations(line['cell']).items()}
        return Epoch(line['epoch'] - 1, line['seconds'], now(), {}, {}, line['weights'], line.get('indicators', {}), architecture)
    return Run(Path(), State(DONE, now(), [], 0, '', None, None), None, {}, {}, SPACE, [epoch(line) for line in epochs])


def said(found):
    return COLLAPSED if found.has_collapsed else COLLAPSING if found.dominated else NO_SIGN


def judged(epochs):
    """The verdict after each epoch of a search."""
    run = run_of(epochs)
    return [verdict(run._replace(epochs=run.epochs[:n + 1])) for n in range(len(epochs))]


def hits(searches, below):
    """In Markdown: how often which verdict meets cells below and above an accuracy."""
    counts = {when: {is_bad: Counter() for is_bad in (True, False)} for when in ('after the last epoch', 'after each epoch')}
    for epochs in searches:
        found = judged(epochs)
        for i, line in enumerate(epochs):
            is_bad = line['accuracy'] < below
            counts['after each epoch'][is_bad][said(found[i])] += 1
            if i == len(epochs) - 1:
                counts['after the last epoch'][is_bad][said(found[i])] += 1
    lines = ['| {} searches | {} |'.format(len(searches), ' | '.join(SAID)), '|---' * (len(SAID) + 1) + '|']
    return '\n'.join([*lines, *('| {}, {} {} % | {} |'.format(when, 'below' if is_bad else 'at least', below, ' | '.join(
        str(of_truth[word]) for word in SAID)) for when, by_truth in counts.items() for is_bad, of_truth in by_truth.items())])


def decisions(searches):
    """In Markdown: how often an edge keeps its candidate until the last epoch, by the word for how decided it is."""
    kept = defaultdict(list)
    for epochs in searches:
        last = operations(epochs[-1]['cell'])
        for line, found in zip(epochs[:-1], judged(epochs)):
            for edge, name in operations(line['cell']).items():
                kept[found.decisions[edge].word].append(name == last[edge])
    rows = ['| {} | {} | {:.0f} % |'.format(word, len(kept[word]), 100 * sum(kept[word]) / len(kept[word]))
            for word in (DECIDED, LEANING, UNDECIDED, UNMOVED) if kept[word]]
    return '\n'.join(['| an edge is | so often | and keeps its candidate until the last epoch |', '|---|---|---|', *rows])


def by_skips(table, below):
    """In Markdown: the accuracies of all cells without a zero op, by their number of skip connections."""
    found = defaultdict(list)
    for cell, accuracy in table.accuracies.items():
        names = list(operations(cell).values())
        if 'none' not in names:
            found[sum(name in SKIP_CONNECTIONS for name in names)].append(accuracy)
    rows = ['| {} of {} | {} | {:.2f} | {:.2f} | {:.0f} % |'.format(
        n, len(EDGES), len(of_n), sorted(of_n)[len(of_n) // 2], max(of_n),
        100 * sum(accuracy < below for accuracy in of_n) / len(of_n)) for n, of_n in sorted(found.items())]
    return '\n'.join(['| skip connections | cells | median | best | below {} % |'.format(below), '|---|---|---|---|---|', *rows])


def main():
    parser = argparse.ArgumentParser(prog='python tests/bench/nas_bench_201/verdicts.py', description=__doc__)
    parser.add_argument('folders', type=Path, nargs='+', metavar='FOLDER', help='an --output of this benchmark')
    parser.add_argument('--below', type=float, default=92.5, help='the accuracy of a good cell in percent; default 92.5')
    parser.add_argument('--table', type=Path, help='also tell the accuracies of all cells: a .csv or .csv.gz')
    arguments = parser.parse_args()
    lines = [[line for line in records(path) if 'epoch' in line] for folder in arguments.folders
             for path in sorted(folder.glob('*.jsonl'))]
    searches = [epochs for epochs in lines if epochs]
    print('\n\n'.join([hits(searches, arguments.below), decisions(searches),
                       *([by_skips(Table(arguments.table), arguments.below)] if arguments.table else [])]))


if __name__ == '__main__':
    main()
