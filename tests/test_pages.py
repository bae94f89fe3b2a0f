"""The pages of the documentation: all of their blocks are tested, and they agree with the project."""

import inspect
import re

import pytest
from pages import MARKS, PAGES, PART, ROOT, blocks, tables

from nni_darts_ext import cli, errors

NOT_RUN = {
    'README.md': ['pip install tox && tox run -e demo', 'pip install tox && tox run', 'pip install .', 'nni-darts-ext register',
                  'tox run -e bench'],
    'docs/beyond_one_machine.md': [
        'nni-darts-ext register', "ssh-keygen -t ecdsa -m PEM -N '' -f ~/.ssh/nni_ecdsa",
        'ssh -i ~/.ssh/nni_ecdsa alice@192.168.1.11 /home/alice/darts/bin/nni-darts-ext doctor --worker --manager '
        '192.168.1.10:8080',
        'scp -i ~/.ssh/nni_ecdsa -r alice@192.168.1.11:nni-experiments/ID/environments ~/nni-experiments/ID/',
        'scp -i ~/.ssh/nni_ecdsa -r alice@192.168.1.11:/tmp/nni-experiments/ID/trials ~/nni-experiments/ID/',
        'trialCommand: >-'],
    'docs/nnictl.md': ['nnictl create --config examples/nnictl/config.yml', 'nni-darts-ext best <the id that nnictl printed>',
                       'nnictl resume <the id>'],
    'docs/searching.md': ['nni-darts-ext plot runs/first', 'tox run -e bench',
                          "torch.cuda.set_device(int(os.environ['LOCAL_RANK']))   # nccl uses the current GPU",
                          'torchrun --nproc_per_node 2 search.py',
                          "trainer = Trainer(max_epochs=50, accelerator='gpu', devices=2, strategy='ddp')"],
    'docs/troubleshooting.md': ['pip install nni==2.8 torch setuptools pytorch_lightning -c tests/constraints/nni2.8.txt',
                                'nni-darts-ext doctor', 'experiment._dispatcher.stopping = True'],
}
"""The first lines of the blocks that are not run; the page gives the reason of each."""

ALL = [pytest.param(page, block, id=f'{page}:{block.line}') for page in PAGES for block in blocks(page)]


def test_what_is_not_run_is_known_and_says_why():
    found = {page: [block for block in blocks(page) if 'not run' in block.marks] for page in PAGES}
    assert {page: [block.code.splitlines()[0] for block in shown] for page, shown in found.items() if shown} == NOT_RUN
    assert all(len(block.marks['not run']) > 10 for shown in found.values() for block in shown)


@pytest.mark.parametrize('page', PAGES)
def test_no_block_is_overlooked(page):
    rest = PART.sub('', PAGES[page])
    assert '```' not in rest and '~~~' not in rest
    assert not re.search(r'\n\n {4}\S', rest)  # indented code
    assert re.findall(r'<!-- (?!made by tables.py: |until here)[^\n]*', rest) == []  # a mark without a block


@pytest.mark.parametrize('page, block', ALL)
def test_a_block_is_run_in_some_environment_of_the_matrix_or_held_against_a_file(page, block):
    assert set(block.marks) <= set(MARKS)
    if block.is_code:
        assert any(block.runs_with(tables.families_of(nni), nni) for _, nni in tables.matrix())
    elif 'same as' in block.marks:
        assert block.code == (ROOT / block.marks['same as']).read_text(encoding='utf-8')
    else:
        assert {'not run', 'file'} & set(block.marks) or block.language in ('text', '{toctree}')


@pytest.mark.parametrize('page', tables.pages(), ids=lambda page: page.name)
def test_what_is_made_from_the_project_is_what_the_project_says(page):
    text = page.read_text(encoding='utf-8')
    assert tables.filled(text) == text, 'python docs/tables.py writes it anew'


@pytest.mark.parametrize('page', PAGES)
def test_links_lead_somewhere(page):
    for target in re.findall(r'\]\(([^)\s]+)\)', re.sub(r'\$[^$]+\$', '', PART.sub('', PAGES[page]))):
        if not target.startswith('https://'):
            name, _, anchor = target.partition('#')
            file = ((ROOT / page).parent / name).resolve() if name else ROOT / page
            assert file.exists(), target
            assert not anchor or anchor in anchors(file), target


def anchors(file):
    return {re.sub(r'[^\w\- ]', '', heading.lower()).replace(' ', '-')
            for heading in re.findall(r'^#+ (.+)$', PAGES.get(file.relative_to(ROOT).as_posix(), ''), re.MULTILINE)}


# Completeness ------------------------------------------------------------------------------------------------------------

def test_every_error_is_explained():
    for name, error in inspect.getmembers(errors, inspect.isclass):
        if error is not errors.DartsExtError:
            assert f'| `{name}`' in PAGES['docs/troubleshooting.md']


def test_every_command_is_shown():
    commands = next(action for action in cli.parser()._actions if action.dest == 'command').choices
    told = ' '.join(PAGES.values())
    assert [command for command in commands if f'nni-darts-ext {command}' not in told] == []


def test_every_argument_of_tuner_and_assessor_and_every_option_of_the_trial_is_in_a_table():
    page = PAGES['docs/nnictl.md']
    rows = ' '.join(line.split('|')[1] for line in page.splitlines() if line.startswith('| `'))
    assessor, tuner, trial = (pytest.importorskip(f'nni_darts_ext.{name}', reason='no torch, or no NNI')
                              for name in ('nnictl.assessor', 'nnictl.tuner', 'trial'))
    arguments = [*inspect.signature(tuner.DartsTuner).parameters, *inspect.signature(assessor.DartsAssessor).parameters]
    options = [option for action in trial.parser()._actions for option in action.option_strings if option not in ('-h', '--help')]
    assert [name for name in [*arguments, *options] if f'`{name}`' not in rows] == []
    assert ', '.join(f'`{name}`' for name in sorted(trial.VARIED)) in page
