"""The page of a run: well-formed, self-contained, and shown by a browser if there is one."""

import os
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest
import runs

from nni_darts_ext.page import of_run as page
from nni_darts_ext.run import InputRecord, Run, SpaceRecord
from nni_darts_ext.run import text as texts
from nni_darts_ext.run.writer import Writer

pytestmark = pytest.mark.ends
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
    command(tmp_path / 'run')
    parsed = Parsed((tmp_path / 'run' / 'report.html').read_text(encoding='utf-8'))
    said = [*parsed.words, *(attributes.get('alt', '') for _, attributes in parsed.elements)]
    assert any('through x' in one or 'through y' in one for one in said)
    assert all(character.isprintable() or character == '\n' for one in said for character in one)


def test_a_run_without_an_epoch_has_a_page(tmp_path):
    with Writer(tmp_path / 'run', runs.SPACES['no inputs']):
        assert 'No epoch has ended yet.' in Parsed(page.render(Run.read(tmp_path / 'run'))).words


def command(*arguments, status=0):
    ran = subprocess.run([str(Path(sys.executable).with_name('nni-darts-ext')), 'report', *map(str, arguments)],
                         stdout=subprocess.PIPE, stderr=subprocess.PIPE, universal_newlines=True, timeout=120)
    assert ran.returncode == status, ran.stderr
    return ran.stdout if status == 0 else ran.stderr


def test_the_command_writes_it(run, tmp_path):
    runs.write(tmp_path / 'run', runs.SPACES['two edges of two'], 1)
    assert command(tmp_path / 'run') == f'{tmp_path}/run/report.html\n'
    assert Run.read(tmp_path / 'run').state.status == 'done'
    assert command(run.folder, '--output', tmp_path / 'new' / 'page.html') == f'{tmp_path}/new/page.html\n'
    Parsed((tmp_path / 'new' / 'page.html').read_text(encoding='utf-8'))
    assert 'is not the run of a search' in command(tmp_path, status=1)
    assert 'cannot be written' in command(tmp_path / 'run', '--output', tmp_path, status=1)
    assert '--output first.html' in command('--help')


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
