"""A page of tables and plots: ``python tests/bench/report.py FOLDER`` reads the results in a folder and writes beside them."""

import json
import statistics
import sys
from pathlib import Path

STEP, CALLS, LAUNCHES, SECOND_ORDER, GRADIENT, EPOCH, GROWTH = (
    'step', 'calls', 'launches', 'second-order', 'gradient', 'epoch', 'growth')
TITLES = {
    STEP: 'A search step, first order',
    CALLS: 'A search step where calls count',
    LAUNCHES: 'What a search step launches on a GPU',
    SECOND_ORDER: 'A search step, second order',
    GRADIENT: "The second order's architecture gradient",
    EPOCH: 'An epoch of four steps, with all that belongs to it',
    GROWTH: 'How a step grows',
}
"""The studies, by the names that they have on the command line and in the files."""

HEAD = """# What the benchmark measured

`tox run -e bench` writes this page. The sides of a table took turns in one process. A time is the median of a side's turns. A
ratio is the median of the ratios of the rounds, with the least and the greatest. Memory is the peak of a process of the side's
own, from building the model to the end of the second turn; on a GPU, that of PyTorch's allocator, including what compiles.

*The candidates alone* are the forward and backward passes of every candidate, without mixing, optimisers and loading of data.
They have the memory format of what is held against them. *As the paper writes it* is the finite difference of the paper's
equations 7 and 8 on the mixture of its equation 2; [references.py](../references.py) says more. NNI's own second order never
moves the weights to the virtual ones, but takes the passes that it would take if it did.

*What a search step launches* is counted, not timed, and the same on every machine: the operations that PyTorch dispatches,
forward and backward, but for views and allocations. On a CPU it runs as on a GPU, with the foreach variants of the optimisers. A
*wait* is a number that the host reads from the device. Sides *at* a commit are what they were then. [launches.py](../launches.py)
says more.
"""


def main():
    folder = Path(sys.argv[1])
    results = [json.loads(path.read_text()) for path in sorted(folder.glob('*.json'))]
    try:
        import plots
    except ImportError:
        drawn = []
        print('There is no matplotlib here, so there are no plots.')
    else:
        drawn = plots.draw(results, folder)
    pictures = ['![{}]({})'.format(title, path.name) for title, path in drawn]
    (folder / 'README.md').write_text('\n\n'.join([HEAD.rstrip(), *pictures, *map(tables, results)]) + '\n')


# What is in the results --------------------------------------------------------------------------------------------------------

def study_of(results, name):
    """The sides of a study that is there once, or None."""
    return next((study['sides'] for study in results['studies'] if study['name'] == name), None)


def grown(results, field):
    """For each size of a field of the problem, in ascending order, the sides at that size; the other fields stay."""
    fixed = results['grown_from']
    found = [(study['problem'][field], study['sides']) for study in results['studies'] if study['name'] == GROWTH
             and all(study['problem'][other] == fixed[other] for other in fixed if other != field)]
    return sorted(found, key=lambda pair: pair[0])


def varied(results):
    """The fields of the problem of which there are several sizes."""
    return [field for field in results['grown_from'] if len(grown(results, field)) > 1]


def bases(sides):
    """What the sides are held against."""
    return list(dict.fromkeys(base for side in sides.values() for base, other in side['against'].items() if other in sides))


def time_ratios(sides, name, base):
    """Of each round; none where the side is not held against that."""
    other = sides.get(sides[name]['against'].get(base))
    return [own / others for own, others in zip(sides[name]['seconds'], other['seconds'])] if other else []


def memory_ratio(sides, name, base):
    """None where the side is not held against that, or one of them has no memory."""
    own, other = sides[name].get('bytes'), sides.get(sides[name]['against'].get(base), {}).get('bytes')
    return own / other if own and other else None


def environment(results):
    return 'NNI {nni}, PyTorch {torch}, Python {python}'.format(**results['machine'])


def size(problem):
    return '{channels} channels, {cells} cells, {nodes} nodes, {candidates} candidates, batches of {batch_size}'.format(**problem)


# Tables ------------------------------------------------------------------------------------------------------------------------

def tables(results):
    """Markdown of the results of one environment."""
    found = ['## ' + environment(results),
             '{processor}, {cores} cores, {threads} thread(s) used, {system}, {date}.'.format(**results['machine'])]
    for name, title in TITLES.items():
        problems = [study['problem'] for study in results['studies'] if study['name'] == name]
        if problems:
            found.append('### ' + title)
            if name == GROWTH:
                found += [size(results['grown_from']) + ', but for what the row says.', growth_table(results)]
            else:
                of_sides = launches_table if name == LAUNCHES else table
                found += [size(problems[0]) + '.', of_sides(study_of(results, name))]
    return '\n\n'.join(found)


def table(sides):
    of_bases = ['of ' + base for base in bases(sides)]
    has_memory = any(side.get('bytes') for side in sides.values())
    rows = [['', 'time', *of_bases, *(['memory', *of_bases] if has_memory else [])]]
    for name, side in sides.items():
        rows.append([name, _seconds(side), *(_spread(time_ratios(sides, name, base)) for base in bases(sides))])
        if has_memory:
            rows[-1] += [_megabytes(side), *(_number(memory_ratio(sides, name, base)) for base in bases(sides))]
    return _markdown(rows)


def launches_table(sides):
    kinds = list(dict.fromkeys(kind for side in sides.values() for kind in side['launches']))
    base = bases(sides)[0]
    rows = [['', 'launches', 'of ' + base, 'waits', *kinds]]
    for name, side in sides.items():
        total = sum(side['launches'].values())
        other = sides.get(side['against'].get(base))
        rows.append([name, str(total), _number(other and total / sum(other['launches'].values())), str(side['waits']),
                     *(str(side['launches'].get(kind, 0)) for kind in kinds)])
    return _markdown(rows)


def growth_table(results):
    rows = []
    for field in varied(results):
        for value, sides in grown(results, field):
            for name, side in sides.items():
                base = next(iter(side['against']), None)
                rows.append(['{} {}'.format(value, WORDS.get(field, field)) if not side['against'] else '', name, _seconds(side),
                             _spread(time_ratios(sides, name, base)), _megabytes(side), _number(memory_ratio(sides, name, base))])
    return _markdown([['', '', 'time', 'ratio', 'memory', 'ratio'], *rows])


WORDS = {'batch_size': 'images in a batch'}


def _seconds(side):
    return '{:.3f} s'.format(statistics.median(side['seconds']))


def _megabytes(side):
    return '{:.0f} MB'.format(side['bytes'] / 1e6) if side.get('bytes') else ''


def _number(value):
    return '' if value is None else '{:.2f}'.format(value)


def _spread(values):
    return '{:.2f} ({:.2f} - {:.2f})'.format(statistics.median(values), min(values), max(values)) if values else ''


def _markdown(rows):
    return '\n'.join('| {} |'.format(' | '.join(row)) for row in [rows[0], ['---'] * len(rows[0]), *rows[1:]])


if __name__ == '__main__':
    main()
