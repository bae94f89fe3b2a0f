"""The pages of a run and of an experiment: well-formed, self-contained, and shown by a browser if there is one."""

import os
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest
import runs
from nnictl_database import experiment

from nni_darts_ext.cli import main
from nni_darts_ext.nnictl import results
from nni_darts_ext.nnictl.task import Task
from nni_darts_ext.page import of_experiment
from nni_darts_ext.page import of_run as page
from nni_darts_ext.run import InputRecord, Run, SpaceRecord
from nni_darts_ext.run import text as texts
from nni_darts_ext.run.writer import Writer

if os.environ.get('TOX_ENV_NAME') != 'py311-nni3.0':  # in that environment a missing package is an error
    pytest.importorskip('matplotlib', reason='the pictures of a page need matplotlib')
    pytest.importorskip('networkx', reason='the pictures of a page need networkx')

BROWSER = next(filter(None, map(shutil.which, ['chromium', 'chromium-browser', 'google-chrome'])), None)
VOID = ('meta', 'img', 'br', 'hr', 'link', 'input')


class Parsed(HTMLParser):
    """The elements of a page and their text. Fails if tags are not properly nested."""

    def __init__(self, text):
        super().__init__()
        self.open, self.elements, self.words = [], [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if data.strip() and self.open[-1] != 'style':
            self.words.append(data.strip())


@pytest.fixture(scope='module')
def run(tmp_path_factory):
    return Run.read(runs.write(tmp_path_factory.mktemp('page') / 'run', runs.SPACES['of all sorts'], 3))


@pytest.fixture(scope='module')
def text(run):
    return page.render(run)


def test_the_page_holds_what_there_is_to_know(run, text):
    said = Parsed(text).words
    assert text.startswith('<!DOCTYPE html>\n<html lang="en">')
    assert {'Search run', texts.status_line(run), 'learning_rate', '0.05', run.decision('stem'),
            'conv_3x3, conv_5x5'} <= set(said)
    for epoch in run.epochs:
        assert {str(epoch.epoch + 1), texts.number(epoch.valid['acc']), texts.number(epoch.indicators['entropy'])} <= set(said)


def test_what_people_look_for_comes_first(run, text):
    said = Parsed(text).words
    assert said[1:4] == ['Search run', texts.status_line(run), '✓ No collapse']
    parts = ['Architecture', 'Supernet', 'How decided each edge is', 'The next best architectures', 'Price', 'Curves', 'Tables']
    assert [said.index(part) for part in parts] == sorted(said.index(part) for part in parts)
    second = texts.ranking(run, 2)[1]
    for part, wanted in [('Supernet', texts.best(run, 'acc')), ('The next best architectures', second[-1]),
                         ('Price', texts.price(run)), ('Tables', 'After each epoch')]:
        assert wanted in said[said.index(part):]


def test_the_best_of_a_loss_is_the_smallest_and_of_other_metrics_the_largest(run):
    for name, best in (('loss', min), ('acc', max)):
        value, number = best((epoch.valid[name], epoch.epoch + 1) for epoch in run.epochs)
        assert texts.best(run, name) == f'{texts.number(value)} in epoch {number}'


@pytest.mark.parametrize('logits, said', [((0, 9), '✗ Collapsed'), ((9, 0), '✓ No collapse')])
def test_the_verdict_is_a_word_and_a_sign_not_only_a_colour(logits, said, tmp_path):
    space = runs.SPACES['two edges of two']
    with Writer(tmp_path / 'run', space) as writer:
        for number in range(6):
            chosen = [int(logits[1] > logits[0])]
            shares = [0.05 + 0.9 * (i in chosen) - 0.001 * number for i in range(2)]
            writer.epoch(runs.epoch(space, number)._replace(
                weights={key: [*shares, 0.002 * number] for key in space.edges},
                architecture={'cell_2_0': chosen, 'cell_2_1': [], 'cell_2_inputs': [0]}))
    assert said in Parsed(page.render(Run.read(tmp_path / 'run'))).words


def test_it_needs_nothing_beside_itself(text):
    elements = Parsed(text).elements
    assert not {'script', 'link', 'iframe', 'object'} & {tag for tag, _ in elements}
    assert all(attributes['src'].startswith('data:image/svg+xml;base64,') for tag, attributes in elements if tag == 'img')
    assert 'http' not in text and 'url(' not in text and '@import' not in text


def test_every_picture_has_words_for_those_who_cannot_see_it(run, text):
    alts = [attributes['alt'] for tag, attributes in Parsed(text).elements if tag == 'img']
    assert len(alts) == 7 and all(len(alt) > 30 for alt in alts)
    assert any(f'through {run.decision("a")}' in alt or f'through {run.decision("b")}' in alt for alt in alts)


def test_names_are_no_markup(tmp_path):
    space = SpaceRecord({'<script>"&': ('<b>', 'a\x00\x1b')}, {})
    parsed = Parsed(page.render(Run.read(runs.write(tmp_path / '<i>', space, 1))))
    assert 'script' not in {tag for tag, _ in parsed.elements}
    assert {'Search <i>', '<script>"&', '<b>, a'} <= set(parsed.words)


def test_names_that_are_no_text_have_a_page(tmp_path):
    space = SpaceRecord({'a\ud800': ('x\udfff', 'y\x00'), 'b\x1b': ('x', 'y')},
                        {'in\udc00': InputRecord(('a\ud800', 'b\x1b'), 1)})
    runs.write(tmp_path / 'run', space, 1)
    assert main(['report', str(tmp_path / 'run')]) == 0
    parsed = Parsed((tmp_path / 'run' / 'report.html').read_text(encoding='utf-8'))
    said = [*parsed.words, *(attributes.get('alt', '') for _, attributes in parsed.elements)]
    assert any('through x' in one or 'through y' in one for one in said)
    assert all(character.isprintable() or character == '\n' for one in said for character in one)


def test_a_run_without_an_epoch_has_a_page(tmp_path):
    with Writer(tmp_path / 'run', runs.SPACES['no inputs']):
        assert 'No epoch has ended yet.' in Parsed(page.render(Run.read(tmp_path / 'run'))).words


SEARCHES = [Task('search', seed, None, {'<b>"&': 'x'}) for seed in range(3)]
TRIALS = [('s0', SEARCHES[0], {'default': 0.5, 'architecture': {'edge': '<i>a'}}),
          ('s1', SEARCHES[1], {'default': 0.5, 'architecture': {'edge': 'b'}}), ('s2', SEARCHES[2], None),
          *((f'e{seed}{edge}', Task('evaluate', seed, {'edge': edge}), {'default': value})
            for edge, values in (('<i>a', (0.91, 0.92)), ('b', (0.93, 0.94))) for seed, value in enumerate(values))]
RANDOM = [(f'r{i}', Task('evaluate', 0, random_architecture=i),
           {'default': 0.6 + i / 100, 'parameters': 200000 + i, 'architecture': {'edge': str(i)}}) for i in range(4)]


def test_the_page_of_an_experiment(tmp_path, capsys):
    folder = experiment(tmp_path / 'x', TRIALS + RANDOM, failed=['s2'], random_architectures=4)
    for trial in ('s0', 's1'):
        runs.write(tmp_path / 'x' / 'environments' / 'local-env' / 'trials' / trial / 'run', runs.SPACES['nine edges of six'], 2)
    for source in (tmp_path / 'x' / 'environments' / 'local-env' / 'trials' / 's1' / 'run', folder):
        assert main(['report', str(source)]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == f'{folder}/report.html'
    parsed = Parsed((tmp_path / 'x' / 'report.html').read_text(encoding='utf-8'))
    said = parsed.words
    assert said[1:4] == ['Experiment x', '2 architectures found, 4 random ones; trials: 10 succeeded, 1 failed',
                         '✓ Better than random']
    parts = ['The best architecture', 'Found among random architectures', 'Ranking', 'Searches', 'Failed trials', 'Tables']
    assert [said.index(part) for part in parts] == sorted(said.index(part) for part in parts)
    assert any('95% confidence interval of this difference' in one for one in said)
    assert said[said.index('Ranking') + 7:][:3] == ['1.', 'seed 1, <b>"& x', '0.9300, 0.9400']
    assert said[said.index('Failed trials') + 5:][:3] == ['s2', 'search', 'seed 2, <b>"& x']
    assert [attributes['href'] for tag, attributes in parsed.elements if tag == 'a'] == [
        'environments/local-env/trials/s1/run/report.html']
    assert '{\n  "edge": "b"\n}' in said
    cell, dots, sizes = [attributes['alt'] for tag, attributes in parsed.elements if tag == 'img']
    assert cell.startswith('Cell normal. node 2 reads') and 'found: 2 from 0.915 to 0.935' in dots and 'random: 4' in dots
    assert sizes.startswith('mean result against parameters. random: 4')


@pytest.mark.parametrize('trials, arguments, word', [
    (TRIALS, {}, '… Not compared'), (TRIALS, {'random_architectures': 4}, '… Too few results'),
    (TRIALS[:2], {'random_architectures': 4}, '… Too few results'),
    (TRIALS + RANDOM, {'random_architectures': 4, 'optimize_mode': 'minimize'}, '✗ Worse than random')])
def test_the_verdict_on_an_experiment(trials, arguments, word, tmp_path):
    folder = Path(experiment(tmp_path / 'x', trials, **arguments))
    parsed = Parsed(of_experiment.render('x', results.read(folder), folder / 'page.html', 'report.html'))
    assert word in parsed.words and not {'b', 'i'} & {tag for tag, _ in parsed.elements}
    assert '{\n  "edge": ' in ''.join(parsed.words)  # there is no run to draw it from


def test_the_page_of_a_large_experiment_shows_the_first_rows_and_says_how_many_there_are(tmp_path, monkeypatch):
    monkeypatch.setattr(of_experiment, 'ROWS', 2)
    folder = Path(experiment(tmp_path / 'x', TRIALS + RANDOM, failed=['s0', 's1', 's2'], random_architectures=4))
    said = Parsed(of_experiment.render('x', results.read(folder), folder / 'page.html', 'report.html')).words
    assert [one for one in said if one.startswith('The first ')] == [
        f'The first 2 of {n}. {others}' for n, others in [
            (3, "NNI's web page lists all trials; nni-darts-ext show prints the run of a search.")] * 2 + [
            (4, 'nni-darts-ext best --json prints all.')]]
    assert said.count('s1') == 2 and 's2' not in said and 'seed 1, <b>"& x' in said


def command(*arguments, status=0):
    ran = subprocess.run([str(Path(sys.executable).with_name('nni-darts-ext')), 'report', *map(str, arguments)],
                         stdout=subprocess.PIPE, stderr=subprocess.PIPE, universal_newlines=True, timeout=120)
    assert ran.returncode == status, ran.stderr
    return ran.stdout if status == 0 else ran.stderr


def test_the_command_writes_it(run, tmp_path, capsys):
    runs.write(tmp_path / 'run', runs.SPACES['two edges of two'], 1)
    assert command(tmp_path / 'run') == f'{tmp_path}/run/report.html\n'  # the others without a new process, which takes time
    assert Run.read(tmp_path / 'run').state.status == 'done'
    assert main(['report', str(run.folder), '--output', str(tmp_path / 'new' / 'page.html')]) == 0
    Parsed((tmp_path / 'new' / 'page.html').read_text(encoding='utf-8'))
    assert main(['report', str(tmp_path)]) == main(['report', str(tmp_path / 'run'), '--output', str(tmp_path)]) == 1
    refused = capsys.readouterr().err
    assert 'is not the run of a search: it has no config.json. There is no experiment' in refused
    assert 'cannot be written' in refused


@pytest.mark.skipif(BROWSER is None, reason='there is no browser here')
def test_a_browser_shows_it_with_its_pictures(text, tmp_path):
    from matplotlib.colors import to_rgb
    from matplotlib.image import imread

    from nni_darts_ext.plot.style import PALETTE
    (tmp_path / 'page.html').write_text(text, encoding='utf-8')
    subprocess.run([BROWSER, '--headless', '--no-sandbox', '--disable-gpu', f'--user-data-dir={tmp_path / "profile"}',
                    '--window-size=1200,4500', f'--screenshot={tmp_path / "page.png"}', (tmp_path / 'page.html').as_uri()],
                   check=True, timeout=120, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    pixels = imread(str(tmp_path / 'page.png'))[..., :3]
    for color in PALETTE[:2]:  # colours of curves; the page itself has none
        assert (abs(pixels - to_rgb(color)).max(axis=-1) < 0.01).sum() > 100
