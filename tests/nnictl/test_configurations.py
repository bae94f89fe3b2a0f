"""The example configurations agree in both schemas, NNI accepts them, and the files that they name exist."""

import copy
import importlib
import re
import shlex
from pathlib import Path

import pytest
from conftest import version

from nni_darts_ext.nnictl import registration

yaml = pytest.importorskip('yaml')
EXAMPLES = Path(__file__).parents[2] / 'examples' / 'nnictl'
PLATFORMS = ('local', 'remote', 'kubeflow', 'frameworkcontroller')
NNI = tuple(map(int, version.split('.')[:2])) if version else ()


def example(platform, schema=''):
    return EXAMPLES / ('config' + ('' if platform == 'local' else f'_{platform}') + f'{schema}.yml')


def read(*names):
    return yaml.safe_load(example(*names).read_text())


NEW = read('local')


def commands(config):
    """The commands of the trials, wherever they are in the configuration."""
    for key, value in config.items():
        if key in ('command', 'trialCommand'):
            yield value
        for part in value if isinstance(value, list) else [value]:
            if isinstance(part, dict):
                yield from commands(part)


@pytest.mark.parametrize('platform', PLATFORMS)
def test_both_schemas_say_the_same(platform):
    new, old = read(platform), read(platform, '_v1')
    assert new['trainingService']['platform'] == old['trainingServicePlatform'] == platform
    assert len({*commands(new), *commands(old)}) == 1 and new['trialCodeDirectory'] == old['trial']['codeDir']
    for key, of_old in (('searchSpaceFile', 'searchSpacePath'), *zip(*[('trialConcurrency', 'nniManagerIp')] * 2)):
        assert new.get(key) == old.get(of_old)
    for kind in ('tuner', 'assessor'):
        assert new[kind] == NEW[kind] and old[kind]['classArgs'] == NEW[kind]['classArgs']
        assert new[kind]['name'] == old[kind][f'builtin{kind.title()}Name'] in registration.NAMES


def test_both_schemas_name_the_same_machines():
    new, old = read('remote')['trainingService'], read('remote', '_v1')
    names = {'ip': 'host', 'username': 'user', 'sshKeyPath': 'sshKeyFile'}
    assert new['machineList'] == [{names.get(key, key): value for key, value in each.items()} for each in old['machineList']]
    assert new['reuseMode'] == old['remoteConfig']['reuse']


@pytest.fixture
def key(tmp_path):
    """NNI accepts keys that exist."""
    (tmp_path / '.ssh').mkdir()
    (tmp_path / '.ssh' / 'nni_ecdsa').write_text('a key')


@pytest.mark.skipif(NNI < (2, 3), reason='NNI 2.3 and later have this schema')
@pytest.mark.parametrize('platform', PLATFORMS)
def test_nni_accepts_the_later_schema(platform, key):
    if platform in ('kubeflow', 'frameworkcontroller') and NNI < (2, 6):
        pytest.skip('NNI 2.3 - 2.5 have other names there')
    from nni.experiment.config import ExperimentConfig
    config = ExperimentConfig.load(str(example(platform)))
    accepted = config.canonical_copy() if hasattr(config, 'canonical_copy') else config.canonical()
    accepted.validate()
    assert accepted.training_service.platform == platform
    with pytest.raises((AttributeError, ValueError)):  # what is not known there is refused
        ExperimentConfig(**{**read(platform), 'trainingService': {**read(platform)['trainingService'], 'unknown': 1}})


@pytest.mark.skipif(not (2, 0) <= NNI <= (2, 5), reason='NNI 2.0 - 2.5 check this schema')
@pytest.mark.parametrize('platform', PLATFORMS)
def test_nni_accepts_the_first_schema(platform, key, nnis_configuration):
    from nni.tools.nnictl import config_schema, launcher_utils
    registration.register()
    importlib.reload(config_schema)  # it reads the registered names when it is imported
    validate = importlib.reload(launcher_utils).validate_all_content
    config = read(platform, '_v1')
    if NNI == (2, 0):
        for machine in config.get('machineList', ()):
            machine['preCommand'] = f'export PATH={machine.pop("pythonPath")}:$PATH'
    validate(copy.deepcopy(config), str(example(platform, '_v1')))
    with pytest.raises(Exception, match='unknown'):
        validate({**config, 'unknown': 1}, str(example(platform, '_v1')))


def test_the_command_and_the_arguments_are_understood(monkeypatch):
    trial = pytest.importorskip('nni_darts_ext.trial', reason='no torch, or no NNI')
    tuner, assessor, hyperparameters = (pytest.importorskip(f'nni_darts_ext.nnictl.{module}')
                                        for module in ('tuner', 'assessor', 'hyperparameters'))
    monkeypatch.syspath_prepend(str((EXAMPLES / NEW['trialCodeDirectory']).resolve()))
    args = trial.parser().parse_args(shlex.split(NEW['trialCommand'])[3:])
    assert args.space.__name__ == 'CellSpace' and len(list(args.data())) == 2
    tuner.DartsTunerValidator().validate_class_args(**NEW['tuner']['classArgs'])
    assessor.DartsAssessorValidator().validate_class_args(**NEW['assessor']['classArgs'])
    space = yaml.safe_load((EXAMPLES / NEW['searchSpaceFile']).read_text())
    assert set(space) <= set(trial.VARIED) and len(list(hyperparameters.combinations(space, 0))) == 2


def test_the_methods_of_the_comparison_are_those_of_a_search_of_this_length():
    trial = pytest.importorskip('nni_darts_ext.trial', reason='no torch, or no NNI')
    searched = pytest.importorskip('nni_darts_ext.nnictl.hyperparameters')
    from nni_darts_ext.methods import Methods, Shrinking, all_named
    space = yaml.safe_load((EXAMPLES / 'methods.json').read_text())
    values = [each['methods'] for each in searched.combinations(space, 0)]
    assert set(space) <= set(trial.VARIED) and '' in values and any(isinstance(value, list) for value in values)
    epochs = int(re.search(r'--search-epochs (\d+)', NEW['trialCommand']).group(1))
    for value in values:
        for method in Methods(all_named(value)):
            assert not isinstance(method, Shrinking) or method.schedule[-1][0] < epochs
