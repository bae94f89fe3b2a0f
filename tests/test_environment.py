"""The environment is what its name says: nothing below may be skipped because a host is broken."""

import os

import pytest

from nni_darts_ext import hosts

CLASSIC = ('2.0', '2.1', '2.2', '2.3', '2.4', '2.5', '2.6.1', '2.7', '2.8')
FAMILIES = {**{version: {'classic', 'retiarii'} for version in CLASSIC}, '2.8': {'classic', 'retiarii', 'lightning'},
            '2.9': {'retiarii', 'lightning'}, '2.10.1': {'retiarii', 'lightning'}, '3.0': {'nas'}, 'none': set()}


def installed():
    try:
        import nni
    except ImportError:
        return 'none'
    return nni.__version__


@pytest.mark.skipif('TOX_ENV_NAME' not in os.environ, reason='only tox says which NNI an environment shall have')
def test_the_installed_nni_is_the_one_in_the_environments_name():
    name = os.environ['TOX_ENV_NAME']
    assert installed() == (name.split('-nni')[1] if '-nni' in name else 'none')


@pytest.mark.skipif(installed() not in FAMILIES, reason='a version outside the matrix')
def test_every_family_that_this_nni_has_can_be_used():
    reasons = hosts.available()
    assert {family for family, reason in reasons.items() if reason is None} == FAMILIES[installed()], reasons
