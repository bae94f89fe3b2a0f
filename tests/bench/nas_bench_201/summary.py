"""A table and a plot of what searches have found."""

import json
import statistics
from pathlib import Path


def is_whole(path):
    """Whether a search has written its last line into a file."""
    return bool(records(path)) and 'epoch' not in records(path)[-1]


def records(path):
    path = Path(path)
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def searches(folder):
    """The epochs of each whole search, by name of the methods and seed."""
    found = {}
    for path in sorted(Path(folder).glob('*.jsonl')):
        if is_whole(path):
            name, _, seed = path.stem.rpartition('-')
            found.setdefault(name, {})[int(seed)] = records(path)
    return found


def own_choice(of_search):
    """The epoch with the highest accuracy of the supernet on the validation images, which a search knows without a table."""
    return max(of_search[:-1], key=lambda epoch: epoch['metrics']['valid']['acc'])


def table(found):
    """In Markdown: for each list of methods the accuracy of the cell at the end and of the supernet's best epoch."""
    titles = ('methods', 'seeds', 'at the end', 'of each seed', 'better cells', "at supernet's best epoch", 'seconds an epoch')
    lines = ['| {} |'.format(' | '.join(titles)), '|' + '---|' * len(titles)]
    for name, of_seeds in found.items():
        runs = [of_seeds[seed] for seed in sorted(of_seeds)]
        last = [run[-1] for run in runs]
        own = [own_choice(run) for run in runs if 'valid' in run[0]['metrics']]
        seconds = statistics.median(epoch['cpu_seconds'] for run in runs for epoch in run[:-1])
        lines.append('| {} | {} | {} | {} | {} | {} | {:.1f} |'.format(
            name, ', '.join(map(str, sorted(of_seeds))), mean_and_spread([end['accuracy'] for end in last]),
            ', '.join('{accuracy:.2f}'.format(**end) for end in last), ', '.join('{better:.1f} %'.format(**end) for end in last),
            mean_and_spread([epoch['accuracy'] for epoch in own]) if own else '', seconds))
    return '\n'.join(lines)


def mean_and_spread(values):
    return '{:.2f} ± {:.2f}'.format(statistics.mean(values), statistics.stdev(values) if len(values) > 1 else 0)


def plot(found, path):
    """The accuracy over the epochs: for each list of methods the mean over the seeds, in a band from the least to the most."""
    import matplotlib
    matplotlib.use('Agg')
    from matplotlib import pyplot
    figure, axes = pyplot.subplots(figsize=(11, 5), constrained_layout=True)
    axes.set_prop_cycle(color=pyplot.get_cmap('tab20').colors)
    for name, of_seeds in found.items():
        runs = [[epoch['accuracy'] for epoch in run[:-1]] for run in of_seeds.values()]
        epochs = range(1, max(map(len, runs)) + 1)
        held = [run + [of_seed[-1]['accuracy']] * (len(epochs) - len(run)) for run, of_seed in zip(runs, of_seeds.values())]
        line, = axes.plot(epochs, [statistics.mean(values) for values in zip(*held)], label=name)
        least, most = zip(*((min(values), max(values)) for values in zip(*held)))
        axes.fill_between(epochs, least, most, alpha=0.07, color=line.get_color())
    axes.set(xlabel='epoch', ylabel='test accuracy of the found cell (%)', ylim=(85, 94.6))
    axes.legend(loc='center left', bbox_to_anchor=(1, 0.5), fontsize='small')
    figure.savefig(str(path))


def write(folder):
    """Print the table, and write it and the plot into the folder."""
    found = searches(folder)
    text = table(found)
    print(text)
    (Path(folder) / 'table.md').write_text(text + '\n')
    plot(found, Path(folder) / 'accuracy.png')
