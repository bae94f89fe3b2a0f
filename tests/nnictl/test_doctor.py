"""The doctor in the environment of the tests, which is healthy, and its reports on others."""

import json
import os
import sys
from pathlib import Path

import pytest
from conftest import OFFERED

from nni_darts_ext import hosts
from nni_darts_ext.cli import main
from nni_darts_ext.nnictl import doctor
from nni_darts_ext.nnictl.doctor import probes, rot

NNI = doctor.installed('nni')
HEALTHY = doctor.Report('3.11.7', '/env/bin/python', '2.8', '2.0', probes.Nnictl(True, None),
                        {name: doctor.Family(nni, name != 'nas', name != 'nas', None if name != 'nas' else 'ImportError: no nas')
                         for name, nni in hosts.FAMILIES.items()}, {rot.SEARCH: None}, [], [], {}, None, None)
FILELOCK = rot.Found('filelock', '3.29', '<3.12', [rot.NNICTL], 'it moved on', [], True)


def everything_below(*folders):
    return {path: path.stat().st_mtime_ns for folder in folders for path in Path(folder).rglob('*')
            if '__pycache__' not in path.parts}


@pytest.fixture(scope='module')
def examined(tmp_path_factory):
    """The report on this environment, and the files before and after it in every place to which NNI writes."""
    home = tmp_path_factory.mktemp('home')
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv('HOME', str(home))
        patch.setenv('NNI_CONFIG_DIR', str(home / 'config'))
        patch.chdir(home)
        places = [home, Path(sys.prefix, 'nni')]
        if NNI:
            import nni
            places += list(nni.__path__)
        before = everything_below(*places)
        report = doctor.examine()
        return report, before, everything_below(*places)


@pytest.mark.skipif(NNI is None, reason='there is no NNI here')
def test_nnictl_starts_in_an_environment_of_the_matrix(examined):
    report = examined[0]
    assert report.nnictl == (True, None)
    assert (report.status, report.nni, report.unexplained) == (0, NNI, {})


@pytest.mark.ends
@pytest.mark.skipif(NNI is None, reason='there is no NNI here')
def test_a_proxy_that_takes_nnictls_requests_to_its_own_server_is_named(monkeypatch):
    for name in ('no_proxy', 'NO_PROXY', 'all_proxy', 'ALL_PROXY'):
        monkeypatch.delenv(name, raising=False)
    with probes._server() as port:
        monkeypatch.setenv('http_proxy', 'http://127.0.0.1:9')
        assert not probes.reaches_server(port)
        monkeypatch.setenv('no_proxy', 'localhost')
        assert probes.reaches_server(port)


def test_a_proxy_is_no_rot(mocker):
    mocker.patch.multiple(probes, nnictl=lambda: probes.Nnictl(False, probes.REDIRECTED), uses=lambda *_: {},
                          hosts=lambda: probes.Hosts('3.0', {}, None))
    report = doctor.examine()
    assert report.status == 1 and report.rot == [] and report.unexplained == {}
    assert NNI is None or 'DOES NOT START\n            nnictl\'s requests' in doctor.render(report)
    assert NNI is None or 'no_proxy=localhost' in doctor.render(report)


def test_the_families_are_those_that_the_package_finds(examined):
    families = examined[0].families
    assert {name: family.reason for name, family in families.items()} == OFFERED
    assert {name: family.offered for name, family in families.items()} == {name: not reason for name, reason in OFFERED.items()}
    if NNI:
        assert all(family.offered == family.expected for family in families.values())


def test_nothing_is_changed(examined):
    _, before, after = examined
    assert after == before


def test_the_report_is_json_and_text(examined):
    report = examined[0]
    assert json.loads(json.dumps(report.as_dict()))['nni'] == NNI
    assert (f'NNI {NNI}, ' if NNI else 'There is no NNI') in doctor.render(report)


@pytest.mark.skipif(NNI is not None, reason='there is an NNI here')
def test_without_nni_it_says_which_the_plugin_works_with(capsys):
    assert main(['doctor']) == 1
    said = capsys.readouterr().out
    assert 'There is no NNI' in said and 'NNI 2.0 - 3.0' in said and f'{sys.executable} -m pip install nni==' in said


def test_json_is_all_that_is_printed(mocker, capsys):
    mocker.patch.object(doctor, 'examine', return_value=HEALTHY._replace(nnictl=probes.Nnictl(False, 'why'), rot=[FILELOCK]))
    assert main(['doctor', '--json']) == 1
    said = json.loads(capsys.readouterr().out)
    assert set(said) == {'python', 'executable', 'nni', 'torch', 'nnictl', 'families', 'uses', 'rot', 'remarks', 'unexplained',
                         'mend', 'mend_all', 'status'}
    assert said['nnictl'] == {'starts': False, 'reason': 'why'}
    assert said['rot'][0]['dependency'] == 'filelock'
    assert said['families']['nas'] == {'nni': 'NNI 3.0', 'expected': False, 'offered': False, 'reason': 'ImportError: no nas'}


def test_a_healthy_installation_is_a_few_lines(mocker, capsys):
    mocker.patch.object(doctor, 'examine', return_value=HEALTHY)
    assert main(['doctor']) == 0
    assert capsys.readouterr().out.splitlines() == [
        'NNI 2.8, PyTorch 2.0, Python 3.11.7 (/env/bin/python)', '', 'nnictl      starts', 'classic     offered',
        'retiarii    offered', 'lightning   offered', 'nas         not in NNI 2.8, but in NNI 3.0', '', 'Nothing has rotted.']


def test_a_broken_one_names_the_failure_the_rot_and_the_command():
    said = doctor.render(HEALTHY._replace(nnictl=probes.Nnictl(False, 'what it said'), unexplained={'nnictl': 'what it said'},
                                          rot=[FILELOCK], mend='pip it', mend_all='pip it'))
    for line in ('DOES NOT START\n            what it said',
                 'filelock 3.29 (needed: filelock<3.12)\n    it moved on. Breaks: nnictl.',
                 'Failures of unknown cause', 'This mends what nnictl and the search need:\n  pip it'):
        assert line in said
    assert 'all of it' not in said and 'Nothing has rotted' not in said


def test_a_missing_pytorch_is_no_rot():
    missing = doctor.Family('NNI 2.0 - 2.8', True, False, "ModuleNotFoundError: No module named 'torch'")
    said = doctor.render(HEALTHY._replace(torch=None, families={'classic': missing}))
    assert 'no PyTorch' in said and 'MISSING\n            PyTorch is not installed.' in said


@pytest.mark.parametrize('version, needs, fit', [
    ('3.11.0', '<3.12', True), ('3.12', '<3.12', False), ('3.12.0', '<3.12', False), ('80.10.2', '<81', True),
    ('81', '<81', False), ('1.6.5.post0', '>=1.6,<1.7', True), ('1.5.10', '>=1.6,<1.7', False),
    ('2.13.0+cpu', '>=2', True), ('2', '>=2.0', True)])
def test_bounds(version, needs, fit):
    assert rot.fits(version, needs) is fit


INSTALLED = {'setuptools': None, 'filelock': '3.29.0', 'typeguard': '2.13.3', 'numpy': '2.4.6', 'pandas': '3.1', 'scipy': None}


def test_all_that_concerns_a_failure_is_named_for_one_failure_hides_the_next():
    found = rot.find('2.8', {rot.NNICTL: 'No module named pkg_resources'}, INSTALLED, (3, 11))
    assert [(each.dependency, each.installed) for each in found] == [('setuptools', None), ('filelock', '3.29.0')]
    assert rot.mend(found, '/my env/python').endswith('/my env/python\' -m pip install "setuptools<81" "filelock<3.12"')
    assert rot.unexplained(found, {rot.NNICTL: 'No module named pkg_resources'}) == {}


def test_a_dependency_that_nni_does_not_ask_for_is_also_missed():
    found = rot.find('2.8', {'lightning': "ModuleNotFoundError: No module named 'pytorch_lightning'"}, INSTALLED, (3, 11))
    assert rot.mend(found, 'python').endswith(' -m pip install "pytorch_lightning>=1.6,<1.7"')


def test_what_works_has_not_rotted_whatever_its_version():
    assert rot.find('2.8', {}, INSTALLED, (3, 11)) == [] and rot.mend([], 'python') is None


def test_a_failure_that_no_rot_is_known_for_is_said_to_be_unknown():
    failures = {rot.NNICTL: 'OSError: no space left on device'}
    found = rot.find('2.8', failures, INSTALLED, (3, 11))
    assert rot.unexplained(found, failures) == failures


def test_bounds_on_one_dependency_become_the_tightest_and_bring_along_what_is_compiled_against_it():
    found = rot.find('2.8', {rot.EVALUATOR: 'np.Inf', rot.ASSESSOR: 'np.float'}, INSTALLED, (3, 11))
    assert rot.mend(found, 'python').endswith(' -m pip install "numpy<1.24" pandas')
    assert all(each.on_demand for each in found)


def test_no_command_asks_for_a_release_that_this_python_never_had():
    found = rot.find('2.4', {rot.ASSESSOR: 'np.float'}, INSTALLED, (3, 13))
    assert not found[0].exists and rot.mend(found, 'python') is None
    assert 'There is no such release for this Python' in doctor.render(HEALTHY._replace(rot=found))


@pytest.mark.parametrize('nni, remarked', [('2.6.1', 0), ('2.7', 1), ('3.0', 1)])
def test_lightning_s_other_distribution_is_not_that_of_nni(nni, remarked):
    assert rot.remarks(nni, {**INSTALLED, 'pytorch_lightning': '2.6.6'}) == []
    said = rot.remarks(nni, {**INSTALLED, 'pytorch_lightning': '2.6.6', 'lightning': '2.6.6'})
    assert len(said) == remarked and all(f'.{"nas" if nni == "3.0" else "retiarii"}.evaluator.pytorch' in one for one in said)
    assert all(line in doctor.render(HEALTHY._replace(remarks=said)) for line in said)


def test_a_process_without_an_end_is_ended(mocker):
    mocker.patch.object(probes, 'LIMIT', 1)
    ended = probes._python('import time; print("here", flush=True); time.sleep(60)')
    assert ended == (None, 'here' + os.linesep) and probes._error_of(ended) == 'did not end within 1 seconds'


@pytest.mark.parametrize('output, words', [
    ('Traceback:\n  File\nAttributeError: \n"load()" has been removed, use\n\n  yaml = YAML()\n',
     'AttributeError: "load()" has been removed, use yaml = YAML()'),
    ('\x1b[31mERROR: no tuner\x1b[39m\n', 'ERROR: no tuner'), ('a\nb\n', 'b'), ('', 'ended with status 1 and without output')])
def test_of_what_a_process_said_the_last_error_is_kept(output, words):
    assert probes._error_of(probes._Ended(1, output)) == words


def test_versions_are_read_without_importlib_metadata():
    assert doctor._read_version('PyTest') == doctor.installed('pytest') == pytest.__version__
    assert doctor._read_version('no-such-thing') is None is doctor.installed('no-such-thing')


def test_it_needs_the_standard_library_alone():
    code = "import sys; sys.modules.update(dict.fromkeys(['nni', 'torch', 'pkg_resources'])); import nni_darts_ext.nnictl.doctor"
    assert probes._python(code).status == 0
