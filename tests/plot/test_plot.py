"""The pictures: their content, that nothing overlaps, and that they are readable without colour."""

import os
import random
import subprocess
import sys
import time
import unicodedata
from pathlib import Path

import pytest
import runs

from nni_darts_ext import plot
from nni_darts_ext.errors import RunError
from nni_darts_ext.run import InputRecord, Run, SpaceRecord
from nni_darts_ext.run.writer import Writer

if os.environ.get('TOX_ENV_NAME') != 'py311-nni3.0':  # in that environment a missing package is an error
    pytest.importorskip('matplotlib', reason='pictures need matplotlib')
    pytest.importorskip('networkx', reason='pictures need networkx')

import matplotlib.figure
import networkx as nx

from nni_darts_ext.plot import dots, graph, style

LONG = 'a_very_long_name_of_an_operation_that_nobody_would_choose_for_an_edge_of_a_cell'
SPACES = {**runs.SPACES, 'odd names': SpaceRecord(
    {'': ('$x_1$', 'a\nb'), 'k$1$': (LONG, 'x'), LONG: (0, 1), '<b>&amp;</b>': tuple(f'op{i}' for i in range(30))},
    {'in.puts/1': InputRecord(('', 'k$1$', LONG), 1), LONG * 2: InputRecord(('<b>&amp;</b>',) * 9, 3)})}


@pytest.fixture(scope='module')
def read(tmp_path_factory):
    """The run of a space, written once."""
    folder = tmp_path_factory.mktemp('runs')

    def read(name, seed=0, epochs=12):
        path = folder / f'{name} {seed} {epochs}'
        return Run.read(path if path.exists() else runs.write(path, SPACES[name], epochs, seed))
    return read


def texts(figure):
    """Every text in a figure with its bounding box in pixels."""
    figure.canvas.draw()
    renderer, drawn = figure.canvas.get_renderer(), []
    renderer.draw_text = lambda *args, mtext=None, **kwargs: drawn.append(mtext)
    figure.draw(renderer)
    return [(text.get_text(), text.get_window_extent(renderer)) for text in dict.fromkeys(drawn)]


DRAWN = {}


def by_name(run, all_edges=False):
    """The pictures of a run by their names, drawn once."""
    if (run.folder, all_edges) not in DRAWN:
        DRAWN[run.folder, all_edges] = {picture.name: picture for picture in plot.pictures(run, all_edges)}
    return DRAWN[run.folder, all_edges]


def assert_readable(picture):
    with style.applied():
        drawn = texts(picture.figure)
    width, height = picture.figure.bbox.width, picture.figure.bbox.height
    for i, (text, box) in enumerate(drawn):
        assert box.x0 >= 0 and box.y0 >= 0 and box.x1 <= width and box.y1 <= height, f'{picture.name}: {text!r} is cut off'
        assert [other for other, its in drawn[:i] if box.overlaps(its)] == [], f'{picture.name}: something lies over {text!r}'


@pytest.mark.parametrize('name', list(SPACES))
def test_no_text_lies_over_another_or_outside(read, name, tmp_path):
    drawn = list(by_name(read(name), all_edges=True).values())
    for picture in drawn:
        assert_readable(picture)
    files = plot.save(drawn, tmp_path / 'out')
    assert len(set(files)) == len(files) and all(file.parent == tmp_path / 'out' and file.exists() for file in files)


@pytest.mark.parametrize('groups', [
    {'found': [0.93, 0.94], 'random': [0.9 + random.Random(i).gauss(0, 0.02) for i in range(40)]},
    {'one & only': [0.5]}, {'found': [], 'a $very$ long name of a group': [0.0, 0.0, 0.0]}])
def test_results_are_marks_that_can_be_told_apart(groups):
    first = next(iter(groups.values()))
    picture = plot.results(groups, 'accuracy', max(first, default=None))
    assert_readable(picture)
    axes, = picture.figure.axes
    marks = [list(line.get_xdata()) for line in axes.lines if line.get_linestyle() == 'None' and line.get_marker() != '*']
    assert marks == [sorted(values) for values in groups.values()]
    places = [place for line in axes.lines if line.get_marker() in 'os' for place in axes.transData.transform(line.get_xydata())]
    size = dots.MARK * picture.figure.dpi
    near = sum(abs(a - b).max() < 0.9 * size for i, a in enumerate(places) for b in places[:i])
    assert near <= len(places) / 20


def test_results_against_a_cost():
    picture = plot.against({'found': [(2.5e6, 0.9), (1.2e6, 0.8)], 'random': [(3e6, 0.7)]}, 'parameters', 'accuracy')
    assert_readable(picture)
    found, others = picture.figure.axes[0].lines
    assert found.get_xydata().tolist() == [[2.5e6, 0.9], [1.2e6, 0.8]] and found.get_marker() != others.get_marker()
    assert 'found: 2 with parameters from 1.2e+06 to 2.5e+06' in picture.alt


def test_names_of_files_differ_in_more_than_case(tmp_path):
    drawn = [plot.Picture(name, '', matplotlib.figure.Figure((1, 1)))
             for name in ('cell-a', 'cell-A', 'cell-ä', 'cell-a\u0308', 'CELL-Ä')]
    names = [file.name for file in plot.save(drawn, tmp_path)]
    folded = {unicodedata.normalize('NFC', name).casefold() for name in names}
    assert len(folded) == len(names) == len(list(tmp_path.iterdir())) and names[:2] == ['cell-a.png', 'cell-A-2.png']


def test_every_kind_of_choice_has_its_pictures(read):
    def names(space):
        return set(by_name(read(space), all_edges=True))
    assert names('two edges of two') == {'cell-cell_2_inputs', 'weights-cell_2_inputs', 'heatmap', 'progress'}
    assert names('no inputs') == {'layers', 'weights-layers', 'heatmap', 'progress'}
    assert names('of all sorts') == {'cell-inputs', 'cell-unfed', 'layers', 'weights-inputs', 'weights-layers', 'heatmap',
                                     'progress'}


def shown(picture):
    return [text for text, _ in texts(picture.figure)]


def test_a_cell_shows_what_is_derived_and_the_rest_on_request(read):
    run = read('nine edges of six')
    kept = [f'{run.decision(key)} {max(weights[:-1]):.2f}' for key, weights in run.epochs[-1].weights.items()
            if run.decision(key) != 'dropped']
    best = [f'{run.space.edges[key][weights.index(max(weights[:-1]))]} {max(weights[:-1]):.2f}'
            for key, weights in run.epochs[-1].weights.items()]
    for all_edges, expected in ((False, kept), (True, best)):
        labels = [' '.join(text.split()) for text in shown(by_name(run, all_edges=all_edges)['cell-normal'])]
        assert sorted(labels) == sorted([*expected, 'input 0', 'input 1', '2', '3', '4',
                                         f'{run.name}: normal, derived after epoch 12'])


def test_a_cell_runs_from_left_to_right(read):
    boxes = dict(texts(by_name(read('fourteen edges of eight'), all_edges=True)['cell-normal'].figure))
    order = [boxes[name].x0 for name in ('input 0', '2', '3', '4', '5')]
    assert order == sorted(order) and boxes['input 0'].x0 == pytest.approx(boxes['input 1'].x0, abs=1)


@pytest.mark.parametrize('seed', range(5))
def test_crossings_are_counted_as_one_sees_them(seed):
    draw = random.Random(seed)
    layers = [[f'{rank} {i}' for i in range(draw.randint(1, 6))] for rank in range(3)]
    after = {node: draw.sample(below, draw.randint(0, len(below))) for layer, below in zip(layers, [*layers[1:], []])
             for node in layer}
    links = [(rank, i, layers[rank + 1].index(other)) for rank, layer in enumerate(layers) for i, node in enumerate(layer)
             for other in after[node]]
    assert graph._crossings(layers, after) == sum(rank == its and (a - c) * (b - d) < 0 for n, (rank, a, b) in enumerate(links)
                                                  for its, c, d in links[:n])


def test_a_layer_of_many_links_is_laid_out_in_no_time():
    many = nx.DiGraph()
    many.add_nodes_from(range(80), rank=0)
    many.add_nodes_from(range(80, 160), rank=1)
    many.add_edges_from((i, j) for i in range(80) for j in range(80, 160))
    started = time.process_time()
    graph.rows(many)
    assert time.process_time() - started < 6  # comparing each pair of links would take 17 s


def test_weights_show_every_candidate_and_the_zero_op_and_since_when(read):
    run = read('nine edges of six')
    picture = by_name(run, all_edges=True)['weights-normal']
    panels = [axes for axes in picture.figure.axes if axes.axison]
    assert len(panels) == 9 and all(len([line for line in axes.lines if len(line.get_xdata()) == 12]) == 7 for axes in panels)
    said = shown(picture)
    for key, axes in zip(run.space.edges, panels):
        drawn = [list(line.get_ydata()) for line in axes.lines if len(line.get_xdata()) == 12]
        assert drawn == [[epoch.weights[key][i] for epoch in run.epochs] for i in range(7)]
        marks = [line.get_xdata()[0] for line in axes.lines if len(line.get_xdata()) == 2]
        since = run.since(key)
        assert marks == ([since + 1] if since else [])
        assert f'{run.decision(key)}, ' + (f'since epoch {since + 1}' if since else 'from the start') in said
    assert {*runs.NAMES[:6], 'zero op'} <= set(said)


def test_lines_differ_without_their_colours(read):
    lines = list(style.lines(range(27)).values())
    assert len({(str(line.linestyle), line.marker) for line in lines}) == len(lines) == 28
    for picture in by_name(read('nine edges of six'), all_edges=True).values():
        for axes in picture.figure.axes:
            markers = [line.get_marker() for line in axes.lines if len(line.get_xdata()) == 12]
            assert len(set(markers)) == len(markers) and 'None' not in markers


def luminance(color):
    r, g, b = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in matplotlib.colors.to_rgb(color))
    return 0.2126 * r + 0.7152 * g + 0.0722 * b


@pytest.mark.parametrize('name, n_edges, n_derived', [('fourteen edges of eight', 14, 8), ('two kinds of cells', 28, 16)])
def test_numbers_in_the_heat_map_stand_out_from_their_ground(read, name, n_edges, n_derived):
    picture = by_name(read(name), all_edges=True)['heatmap']
    axes = picture.figure.axes[0]
    grounds = [patch for patch in axes.patches if patch.get_fill()]
    numbers = [text for text in axes.texts if text.get_text().startswith(('0.', '1.'))]
    assert len(numbers) == len(grounds) == n_edges * (1 + len(read(name).space.edges['normal_2_0']))
    for ground, number in zip(grounds, numbers):
        dark, bright = sorted([luminance(ground.get_facecolor()), luminance(number.get_color())])
        assert (bright + 0.05) / (dark + 0.05) > 4.5
    assert sum(number.get_weight() == 'bold' for number in numbers) == n_derived
    assert sum(not patch.get_fill() for patch in axes.patches) == 2 * n_derived


def test_runs_are_compared_by_their_curves_and_by_the_decisions_in_which_they_differ(read):
    one, two = read('nine edges of six'), read('nine edges of six', seed=1)
    picture = plot.comparison([one, two])
    assert_readable(picture)
    said = shown(picture)
    differ = [key for key in one.space.edges if one.decision(key) != two.decision(key)]
    assert f'{len(differ)} of 9 decisions differ. Bold: not as in {one.name}.' in said and differ
    assert [key for key in one.space.edges if key in said] == differ
    assert 'All 9 decisions are the same.' in shown(plot.comparison([one, one]))
    others = plot.comparison([one, read('of all sorts'), read('no inputs', epochs=1)])
    assert_readable(others)
    assert 'has none' in shown(others) and '17 of 17 decisions differ. Bold: not as in nine edges of six 0 12.' in shown(others)


def test_a_single_epoch_and_numbers_that_are_none_can_be_drawn(tmp_path):
    space = runs.SPACES['two edges of two']
    with Writer(tmp_path / 'run', space) as writer:
        epoch = runs.epoch(space, 0)
        writer.epoch(epoch._replace(train={'loss': float('nan')}, valid={'loss': float('inf')}, indicators={}))
    for picture in plot.pictures(Run.read(tmp_path / 'run')):
        assert_readable(picture)
        assert picture.content('png').startswith(b'\x89PNG') and b'<svg' in picture.content('svg')


def test_drawing_leaves_matplotlib_as_it_was_and_gives_the_same_file_again(read):
    before = matplotlib.rcParams.copy()
    with matplotlib.rc_context({'font.size': 30, 'axes.facecolor': 'black', 'text.usetex': True}):
        odd = [picture.content('svg') for picture in plot.pictures(read('two edges of two'))]
    assert matplotlib.rcParams.copy() == before
    assert odd == [picture.content('svg') for picture in plot.pictures(read('two edges of two'))]


def test_a_run_without_an_epoch_is_refused(tmp_path):
    Writer(tmp_path / 'run', runs.SPACES['no inputs']).end()
    with pytest.raises(RunError, match=r'has no epoch to draw yet \(done\)'):
        plot.pictures(Run.read(tmp_path / 'run'))


# The command, by its executable --------------------------------------------------------------------------------------------

def command(*arguments, status=0, **options):
    ran = subprocess.run([str(Path(sys.executable).with_name('nni-darts-ext')), *map(str, arguments)], stdout=subprocess.PIPE,
                         stderr=subprocess.PIPE, universal_newlines=True, timeout=120, **options)
    assert ran.returncode == status, ran.stderr
    return ran.stdout if status == 0 else ran.stderr


def test_the_pictures_of_a_run_lie_in_its_folder(tmp_path):
    runs.write(tmp_path / 'run', runs.SPACES['two edges of two'], 2)
    said = command('plot', tmp_path / 'run', '--all-edges')
    folder = tmp_path / 'run' / 'pictures'
    names = ['cell-cell_2_inputs', 'weights-cell_2_inputs', 'heatmap', 'progress']
    assert said.splitlines() == [str(folder / f'{name}.png') for name in names]
    assert all((folder / f'{name}.png').read_bytes().startswith(b'\x89PNG') for name in names)
    assert Run.read(tmp_path / 'run').state.status == 'done'


def test_runs_are_compared_where_one_says(tmp_path):
    for seed in (0, 1):
        runs.write(tmp_path / f'run{seed}', runs.SPACES['two edges of two'], 2, seed)
    assert command('plot', 'run0', 'run1', '--format', 'svg', '--output', 'out', cwd=str(tmp_path)) == 'out/comparison.svg\n'
    assert (tmp_path / 'out' / 'comparison.svg').read_text(encoding='utf-8').startswith('<?xml')


def test_what_cannot_be_drawn_is_refused(tmp_path):
    assert 'is not the run of a search' in command('plot', tmp_path, status=1)
    assert "invalid choice: 'gif'" in command('plot', tmp_path, '--format', 'gif', status=2)
    assert 'nni-darts-ext plot runs/first runs/second' in command('plot', '--help')
    runs.write(tmp_path / 'run', runs.SPACES['no inputs'], 2)
    (tmp_path / 'file').write_text('')
    assert 'cannot be written' in command('plot', tmp_path / 'run', '--output', tmp_path / 'file', status=1)


@pytest.mark.parametrize('weight', [0.0, -0.5])
def test_weights_of_any_size_are_drawn(weight, tmp_path):
    space = SPACES['of all sorts']
    with Writer(tmp_path / 'run', space, {}, 1, {}) as writer:
        first = runs.epoch(space, 0)
        writer.epoch(first._replace(weights={key: [weight] * len(values) for key, values in first.weights.items()}))
    pictures = by_name(Run.read(tmp_path / 'run'))
    with style.applied():
        said = [text for picture in pictures.values() for text, _ in texts(picture.figure)]
    assert f'{weight:.2f}' in said
    for axes in (axes for picture in pictures.values() for axes in picture.figure.axes):
        for line in axes.lines:
            drawn = [y for y in line.get_ydata() if y == weight]
            assert all(axes.get_ylim()[0] <= y <= axes.get_ylim()[1] for y in drawn)
