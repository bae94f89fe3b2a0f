"""The ranking from databases in the format of NNI."""

import json
import re
from pathlib import Path

import pytest
from nnictl_database import experiment

from nni_darts_ext.cli import main
from nni_darts_ext.nnictl import results
from nni_darts_ext.nnictl.task import Task

SEARCH, A, B = Task('search', 0), Task('evaluate', 0, {'edge': 'a'}), Task('evaluate', 0, {'edge': 'b'})
FOUND = [('t0', SEARCH, {'default': 0.4, 'architecture': {'edge': 'a'}}),
         ('t1', Task('search', 1, None, {'order': 2}), {'default': 0.6, 'architecture': {'edge': 'b'}}),
         ('t2', A, {'default': 0.7}), ('t3', B, {'default': 0.9}),
         ('t4', B._replace(seed=1), {'default': 0.8}), ('t5', B._replace(phase='final'), {'default': 0.95})]


def test_the_ranking_is_printed_and_the_best_architecture_written(tmp_path, capsys):
    assert main(['best', experiment(tmp_path / 'x', FOUND)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [re.split('  +', line) for line in lines[1:]] == [
        ['1.', 'seed 1, order 2', '0.9000, 0.8000', '0.8500', '0.0707', '0.9500'], ['2.', 'seed 0', '0.7000', '0.7000', '-', '-'],
        ['The best architecture is in architecture.json.']]
    assert json.loads((tmp_path / 'architecture.json').read_text()) == {'edge': 'b'}


def test_the_ranking_says_what_the_networks_cost_that_were_trained(tmp_path, capsys):
    costs = {'parameters': 3349034, 'multiply_adds': 5e8}
    folder = experiment(tmp_path / 'x', [*FOUND[:3], ('t3', B, {'default': 0.9, **costs})])
    main(['best', folder])
    assert [re.split('  +', line)[-2:] for line in capsys.readouterr().out.splitlines()[:3]] == [
        ['parameters', 'multiply-adds'], ['3,349,034', '500,000,000'], ['-', '-']]
    main(['best', folder, '--json'])
    assert [one['costs'] for one in json.loads(capsys.readouterr().out)] == [costs, {}]


def test_the_run_of_a_search_is_where_it_reports_or_in_the_folder_of_its_trial(tmp_path):
    stored = tmp_path / 'storage' / 'search-1' / 'run'
    trials = [('t0', SEARCH, {'default': 0.4, 'architecture': {'edge': 'a'}}),
              *((name, SEARCH._replace(seed=1), {'default': 0.4, 'architecture': {'edge': 'a'}, 'run': str(folder)})
                for name, folder in (('t1', stored), ('t2', tmp_path / 'on-a-worker')))]
    folder = Path(experiment(tmp_path / 'x', trials))
    for place in (stored, folder / 'trials' / 't0' / 'run', folder / 'trials' / 't1'):
        place.mkdir(parents=True)
    assert [trial.run for trial in results.read(folder).trials] == [folder / 'trials' / 't0' / 'run', stored, None]


def test_the_ranking_says_which_methods_a_search_had(tmp_path, capsys):
    texts = ['', 'Shrinking:schedule={10: 5, 20: 3}', ['EarlyStopping', 'mine.Own:weight=0.5']]
    main(['best', experiment(tmp_path / 'x', [(f't{i}', Task('search', 0, None, {'methods': text, 'order': 2}), {
        'default': 0.5, 'architecture': {'edge': i}}) for i, text in enumerate(texts)])])
    assert [re.split('  +', line)[1] for line in capsys.readouterr().out.splitlines()[1:4]] == [
        f'seed 0, methods {shown}, order 2' for shown in ('none', texts[1], 'EarlyStopping + mine.Own:weight=0.5')]
    main(['best', str(tmp_path / 'x'), '--json'])
    assert [one['found_by'][0]['methods'] for one in json.loads(capsys.readouterr().out)] == texts


def test_an_architecture_that_many_searches_found_names_the_first_ten(tmp_path, capsys):
    main(['best', experiment(tmp_path / 'x', [(str(i), Task('search', i), FOUND[0][2]) for i in reversed(range(12))])])
    assert re.split('  +', capsys.readouterr().out.splitlines()[1])[1] == (
        '; '.join(f'seed {i}' for i in range(10)) + ' and 2 more')
    main(['best', str(tmp_path / 'x'), '--json'])
    assert len(json.loads(capsys.readouterr().out)[0]['found_by']) == 12


def of_random(i, *accuracies):
    return [(f'r{i}{seed}', Task('evaluate', seed, random_architecture=i), {
        'default': accuracy, 'architecture': {'edge': f'random {i}'}}) for seed, accuracy in enumerate(accuracies)]


RANDOM = [*of_random(0, 0.6, 0.7), *of_random(1, 0.86), *of_random(2, 0.5)]


def test_the_comparison_with_random_architectures_is_printed_below_the_ranking(tmp_path, capsys):
    assert main(['best', experiment(tmp_path / 'x', FOUND + RANDOM, random_architectures=3)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 7 and lines[1].startswith('1.') and lines[2].startswith('2.')
    assert lines[3:6] == [
        'Rank of the best found architecture among 3 random ones: 2 of 4.',
        'Mean of the found ones minus mean of the random ones: +0.1050 (2 found, 3 random).',
        'Not better than random: the 95% confidence interval of this difference, -0.3042 to +0.5142, includes 0.']
    assert json.loads((tmp_path / 'architecture.json').read_text()) == {'edge': 'b'}


def test_the_comparison_is_in_the_json_too(tmp_path, capsys):
    main(['best', experiment(tmp_path / 'x', FOUND + RANDOM, 'minimize', random_architectures=3), '--json'])
    printed = json.loads(capsys.readouterr().out)
    assert [one['architecture']['edge'] for one in printed['found']] == ['a', 'b']
    assert [one['architecture']['edge'] for one in printed['random']] == ['random 2', 'random 0', 'random 1']
    assert printed['random'][1]['accuracies'] == {'0': 0.6, '1': 0.7}
    compared = printed['comparison']
    assert (compared['n_found'], compared['n_random'], compared['rank'], compared['is_better']) == (2, 3, 3, False)
    assert compared['difference'] == pytest.approx(sum(compared['interval']) / 2) == pytest.approx(0.105)


@pytest.mark.parametrize('trials, said', [
    (FOUND, 'Too few results for a comparison with random architectures: 2 found, 0 random.'),
    (FOUND + RANDOM[:1], 'Too few results for a confidence interval.')])
def test_it_says_so_while_there_are_too_few_random_architectures(trials, said, tmp_path, capsys):
    assert main(['best', experiment(tmp_path / 'x', trials, random_architectures=3)]) == 0
    assert said in capsys.readouterr().out


def test_the_smaller_is_the_better_where_the_experiment_minimises(tmp_path, capsys):
    assert main(['best', experiment(tmp_path / 'x', FOUND, 'minimize'), '--json', '--output', str(tmp_path / 'best')]) == 0
    ranked = json.loads(capsys.readouterr().out)
    assert [one['architecture'] for one in ranked] == [{'edge': 'a'}, {'edge': 'b'}]
    assert json.loads((tmp_path / 'best').read_text()) == {'edge': 'a'}


def test_what_a_trial_says_of_itself_counts_where_nni_has_mixed_up_two(tmp_path, capsys):
    mixed_up = [*FOUND[:2], ('t2', A, {'default': 0.9, 'task': B.parameters()}),
                ('t3', B, {'default': 0.7, 'task': A.parameters()})]
    main(['best', experiment(tmp_path / 'x', mixed_up), '--json'])
    assert [(one['architecture'], one['mean']) for one in json.loads(capsys.readouterr().out)] == [
        ({'edge': 'b'}, 0.9), ({'edge': 'a'}, 0.7)]


def test_an_experiment_is_found_by_its_id(tmp_path, capsys):
    elsewhere = tmp_path / 'elsewhere'
    experiment(elsewhere / 'abc', FOUND)
    experiment(tmp_path / 'nni-experiments' / 'def', FOUND)
    (tmp_path / 'nni-experiments' / '.experiment').write_text(json.dumps({'abc': {'logDir': str(elsewhere)}}))
    assert main(['best', 'abc']) == main(['best', 'def']) == 0
    assert main(['best', 'ghi']) == 1
    refused = capsys.readouterr().err
    assert "no experiment 'ghi'" in refused and 'lists abc' in refused


def test_an_experiment_without_anything_to_rank_says_so(tmp_path, capsys):
    assert main(['best', experiment(tmp_path / 'x', [('t0', SEARCH, None)])]) == 1
    assert 'No search of the experiment' in capsys.readouterr().err
    (tmp_path / 'y' / 'db').mkdir(parents=True)
    (tmp_path / 'y' / 'db' / 'nni.sqlite').write_text('no database')
    assert main(['best', str(tmp_path / 'y')]) == 1
    assert 'cannot be read' in capsys.readouterr().err
    assert not (tmp_path / 'architecture.json').exists()


@pytest.mark.parametrize('arguments', [[], ['best'], ['no-command']])
def test_what_is_not_understood_is_explained(arguments, capsys):
    with pytest.raises(SystemExit) as exit:
        main(arguments)
    assert exit.value.code == 2 and 'usage' in capsys.readouterr().err


@pytest.mark.parametrize('place', ['trials/t0', 'trials/t0/nnioutput', 'environments/remote-worker1/trials/t0'])
def test_the_files_of_a_trial_are_found_wherever_nni_puts_them(tmp_path, place):
    experiment(tmp_path / 'x', FOUND)
    (tmp_path / 'x' / 'trials' / 't0').mkdir(parents=True)  # the manager writes a trial's parameters there
    (tmp_path / 'x' / place).mkdir(parents=True, exist_ok=True)
    folders = {trial.name: trial.folder for trial in results.read(tmp_path / 'x').trials}
    assert folders.pop('t0') == tmp_path / 'x' / place and set(folders.values()) == {None}
