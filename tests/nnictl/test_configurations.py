"""The example configurations agree in both schemas, and the files that they name exist."""

import re
import shlex
from pathlib import Path

import pytest

from nni_darts_ext.nnictl import registration

yaml = pytest.importorskip('yaml')
EXAMPLES = Path(__file__).parents[2] / 'examples' / 'nnictl'
NEW, OLD = (yaml.safe_load((EXAMPLES / name).read_text()) for name in ('config.yml', 'config_v1.yml'))


def test_both_schemas_say_the_same():
    assert NEW['trialCommand'] == OLD['trial']['command'] and NEW['trialCodeDirectory'] == OLD['trial']['codeDir']
    assert NEW['searchSpaceFile'] == OLD['searchSpacePath'] and NEW['trialConcurrency'] == OLD['trialConcurrency']
    for kind in ('tuner', 'assessor'):
        assert NEW[kind]['name'] == OLD[kind][f'builtin{kind.title()}Name'] in registration.NAMES
        assert NEW[kind]['classArgs'] == OLD[kind]['classArgs']


def test_the_command_and_the_arguments_are_understood(monkeypatch):
    trial = pytest.importorskip('nni_darts_ext.trial', reason='no torch, or no NNI')
    tuner, assessor = (pytest.importorskip(f'nni_darts_ext.nnictl.{kind}') for kind in ('tuner', 'assessor'))
    monkeypatch.syspath_prepend(str((EXAMPLES / NEW['trialCodeDirectory']).resolve()))
    args = trial.parser().parse_args(shlex.split(NEW['trialCommand'])[3:])
    assert args.space.__name__ == 'CellSpace' and len(list(args.data())) == 2
    tuner.DartsTunerValidator().validate_class_args(**NEW['tuner']['classArgs'])
    assessor.DartsAssessorValidator().validate_class_args(**NEW['assessor']['classArgs'])
    space = yaml.safe_load((EXAMPLES / NEW['searchSpaceFile']).read_text())
    assert set(space) <= set(trial.VARIED) and len(list(tuner.combinations(space, 0))) == 2


def test_the_methods_of_the_comparison_are_those_of_a_search_of_this_length():
    trial = pytest.importorskip('nni_darts_ext.trial', reason='no torch, or no NNI')
    tuner = pytest.importorskip('nni_darts_ext.nnictl.tuner')
    from nni_darts_ext.methods import Methods, Shrinking, all_named
    space = yaml.safe_load((EXAMPLES / 'methods.json').read_text())
    values = [hyperparameters['methods'] for hyperparameters in tuner.combinations(space, 0)]
    assert set(space) <= set(trial.VARIED) and '' in values and any(isinstance(value, list) for value in values)
    epochs = int(re.search(r'--search-epochs (\d+)', NEW['trialCommand']).group(1))
    for value in values:
        for method in Methods(all_named(value)):
            assert not isinstance(method, Shrinking) or method.schedule[-1][0] < epochs
