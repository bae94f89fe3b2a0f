"""The errors if NNI is missing or broken."""

import sys

import pytest
from conftest import OFFERED

import nni_darts_ext
from nni_darts_ext import HostNotSupported, hosts

NOTHING_OFFERED = all(OFFERED.values())


@pytest.mark.skipif(not NOTHING_OFFERED, reason='there is an NNI here')
@pytest.mark.parametrize('name', ['DartsMutator', 'DARTS'])
def test_without_nni_the_missing_piece_is_named(name):
    with pytest.raises(HostNotSupported, match=f"{name} needs.*no NNI that can be imported.*No module named 'nni'"):
        getattr(nni_darts_ext, name)


@pytest.mark.skipif(not NOTHING_OFFERED, reason='there is an NNI here')
def test_without_nni_choices_say_what_they_need():
    from torch import nn

    import nni_darts_ext.nn as dnn
    with pytest.raises(HostNotSupported, match='choices of a search space need NNI 2.0 - 3.0.*no NNI'):
        dnn.LayerChoice([nn.Identity()])
    with pytest.raises(ImportError):
        dnn.ModelSpace  # noqa: B018


@pytest.mark.skipif(not NOTHING_OFFERED, reason='there is an NNI here')
def test_without_nni_trainer_and_application_say_what_they_need():
    import torch
    from torch import nn
    model = nn.Linear(1, 1)
    with pytest.raises(HostNotSupported, match='A search space needs NNI 2.0 - 3.0.*no NNI'):
        nni_darts_ext.apply_fixed_architecture(model, {})
    with pytest.raises(HostNotSupported, match='A search space needs NNI 2.0 - 3.0.*no NNI'):
        nni_darts_ext.DartsTrainer(model, None, None, torch.optim.SGD(model.parameters(), 0.1), 1, [1, 2, 3])


def test_a_host_that_is_broken_is_reported_with_the_reason(mocker):
    for family in hosts.FAMILIES:
        mocker.patch.dict(sys.modules)
        sys.modules.pop(f'nni_darts_ext.hosts.{family}', None)
    mocker.patch.dict(hosts._missing, clear=True)
    mocker.patch.object(hosts.importlib, 'import_module', side_effect=AttributeError("module 'numpy' has no attribute 'bool'"))
    assert hosts.available() == dict.fromkeys(hosts.FAMILIES, "AttributeError: module 'numpy' has no attribute 'bool'")
    with pytest.raises(HostNotSupported, match="has no attribute 'bool'"):
        nni_darts_ext.DARTS  # noqa: B018


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match='no attribute'):
        nni_darts_ext.Darts  # noqa: B018


def test_names_are_imported_from_the_top():
    from nni_darts_ext import errors, run
    of_errors = {name for name, value in vars(errors).items() if isinstance(value, type)}
    assert of_errors == set(nni_darts_ext.__all__)
    assert {'DARTS', 'DartsMutator', 'DartsTrainer', 'Recorder', 'Run', 'apply_fixed_architecture', 'available', 'nn',
            *of_errors} <= set(dir(nni_darts_ext))
    assert nni_darts_ext.Run is run.Run and nni_darts_ext.available is hosts.available
    assert nni_darts_ext.Recorder.__module__ == 'nni_darts_ext.run.recorder' and nni_darts_ext.nn.__name__ == 'nni_darts_ext.nn'
