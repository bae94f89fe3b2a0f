"""The example configurations agree in both schemas, and the files that they name exist."""

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
