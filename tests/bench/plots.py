"""The plots of the results, to be read in black and white, too."""

import statistics

from matplotlib import pyplot
from report import GRADIENT, STEP, WORDS, environment, grown, memory_ratio, study_of, time_ratios, varied

BARS = {'edgecolor': 'black', 'height': 0.62}
MARKS = ['o-', 's--', '^:', 'D-.']


def draw(all_results, folder):
    """The titles and paths of the plots that were written."""
    drawn = []
    for name, title, file in ((STEP, "A search step, against NNI's", 'step.png'),
                              (GRADIENT, "The second order's gradient, against the paper's as it writes it", 'second_order.png')):
        shown = [(results, study_of(results, name)) for results in all_results if study_of(results, name)]
        if shown:
            drawn.append((title, _draw_ratios(shown, title, folder / file)))
    for results in all_results:
        fields = varied(results)
        if fields:
            title = 'A search step, {}'.format(environment(results))
            file = 'growth_nni{nni}_torch{torch}'.format(**results['machine']).split('+')[0] + '.png'
            drawn.append((title, _draw_growth(results, fields, title, folder / file)))
    return drawn


def _draw_ratios(shown, title, path):
    """A row for each environment, in it the times and the memory of the sides that are held against something."""
    rows = [(results, sides, [name for name in sides if sides[name]['against']]) for results, sides in shown]
    n_bars = [len(names) for _, _, names in rows]
    figure, axes = pyplot.subplots(
        len(rows), 2, squeeze=False, sharex='col', layout='constrained', figsize=(10, 1 + 0.7 * len(rows) + 0.32 * sum(n_bars)),
        gridspec_kw={'height_ratios': [n + 0.8 for n in n_bars]})
    figure.suptitle(title)
    for (left, right), (results, sides, names) in zip(axes, rows):
        left.set_title(environment(results), loc='left', fontsize=10)
        for i, name in enumerate(names):
            base = next(iter(sides[name]['against']))
            of_rounds = time_ratios(sides, name, base)
            middle = statistics.median(of_rounds)
            fill = '0.8' if name.startswith('ours') else 'white'
            left.barh(i, middle, color=fill, **BARS)
            left.plot([min(of_rounds), max(of_rounds)], [i, i], 'k|-', linewidth=1)
            left.text(max([1, *of_rounds]) + 0.04, i, '{:.2f}'.format(middle), va='center')
            memory = memory_ratio(sides, name, base)
            if memory is not None:
                right.barh(i, memory, color=fill, **BARS)
                right.text(max(1, memory) + 0.04, i, '{:.2f}'.format(memory), va='center')
        for axis in (left, right):
            axis.axvline(1, color='black', linewidth=1, linestyle='--')
            axis.set_yticks(range(len(names)))
            axis.set_ylim(len(names) - 0.4, -0.6)
            axis.spines[['top', 'right']].set_visible(False)
        left.set_yticklabels(names)
        right.set_yticklabels([])
    axes[-1][0].set_xlabel('time, median of the rounds and their range')
    axes[-1][1].set_xlabel('peak memory')
    return _written(figure, path)


def _draw_growth(results, fields, title, path):
    """Time above, memory below, a column for each field of the problem."""
    figure, axes = pyplot.subplots(
        2, len(fields), squeeze=False, sharex='col', layout='constrained', figsize=(3 * len(fields) + 1, 6))
    figure.suptitle(title)
    for (upper, lower), field in zip(axes.T, fields):
        sizes, of_sizes = zip(*grown(results, field))
        for name, mark in zip(of_sizes[0], MARKS):
            of_side = [sides[name] for sides in of_sizes]
            options = {'color': 'black', 'markerfacecolor': 'white', 'label': name}
            upper.plot(sizes, [statistics.median(side['seconds']) for side in of_side], mark, **options)
            if all(side.get('bytes') for side in of_side):
                lower.plot(sizes, [side['bytes'] / 1e6 for side in of_side], mark, **options)
        lower.set_xlabel(WORDS.get(field, field))
        lower.set_xticks(sizes)
        for axis in (upper, lower):
            axis.set_ylim(bottom=0)
            axis.spines[['top', 'right']].set_visible(False)
    axes[0][0].set_ylabel('seconds')
    axes[1][0].set_ylabel('peak memory, MB')
    figure.legend(*axes[0][0].get_legend_handles_labels(), loc='outside lower center', ncols=len(MARKS), frameon=False)
    return _written(figure, path)


def _written(figure, path):
    figure.savefig(path, dpi=110)
    pyplot.close(figure)
    return path
