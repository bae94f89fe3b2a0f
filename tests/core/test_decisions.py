import json

import pytest

from nni_darts_ext import ArchitectureError
from nni_darts_ext.core.decisions import decide, load
from nni_darts_ext.core.space import Edge, InputNode, SearchSpace

SPACE = SearchSpace([Edge('a', ('conv', 'skip')), Edge('b', ('0', '1')), Edge('c', (0, 1)), Edge('free', ('x',)),
                     InputNode('i', ('a', 'b', 'c'), 2)])
DECISIONS = {'a': [False, True], 'b': [True, False], 'c': [False, False], 'free': [True], 'i': [True, True, False]}
FORMS = {
    'classic': {'a': 'skip', 'b': 0, 'c': [], 'free': 'x', 'i': ['a', 'b']},
    'lists': {'a': ['skip'], 'b': ['0'], 'c': [], 'free': ['x'], 'i': [1, 0]},
    'bools': DECISIONS,
    'retiarii': {'a': 'skip', 'b': '0', 'c': '1', 'free': 'x', 'i': [0, 1]},
    'sample': {'a': 'skip', 'b': 0, 'c': 1, 'free': 'x', 'i': [0, 1]},
}


@pytest.mark.parametrize('form', FORMS)
def test_every_form_says_the_same(form):
    assert decide(SPACE, FORMS[form]) == DECISIONS


def test_a_single_input_stands_without_brackets():
    space = SearchSpace([Edge('a', ('x',)), Edge('b', ('x',)), InputNode('i', ('a', 'b'), 1)])
    for form in ({'i': 'b'}, {'i': 1}, {'i': [1]}):
        assert decide(space, {'a': 'x', 'b': 'x', **form}) == {'a': [False], 'b': [True], 'i': [False, True]}


def test_an_edge_stays_if_any_input_choice_kept_it():
    space = SearchSpace([Edge('a', ('x',)), InputNode('i', ('a', ''), 1), InputNode('j', ('a', ''), 1)])
    assert decide(space, {'a': 'x', 'i': [1], 'j': [0]})['a'] == [True]
    assert decide(space, {'a': 'x', 'i': [1], 'j': [1]})['a'] == [False]


@pytest.mark.parametrize('change, message', [
    ({'a': 'conf'}, "'a' cannot be 'conf'.*'conv', 'skip'.*0 to 1"),
    ({'a': 2}, "'a' cannot be 2"),
    ({'a': -1}, "'a' cannot be -1"),
    ({'a': None}, "'a' cannot be None"),
    ({'a': 0.5}, "'a' cannot be 0.5"),
    ({'a': {'conv': 1}}, "'a' cannot be"),
    ({'a': ['conv', 'skip']}, "'a' cannot be .*conv"),
    ({'a': [True, True]}, "'a' cannot be"),
    ({'a': [True]}, "'a' cannot be"),
    ({'i': ['a', 'd']}, r"'i' cannot keep \['a', 'd'\].*'a', 'b', 'c'.*0 to 2"),
    ({'i': [0, 3]}, "'i' cannot keep"),
    ({'i': ['']}, "'i' cannot keep"),
])
def test_what_a_choice_does_not_have_is_refused(change, message):
    with pytest.raises(ArchitectureError, match=message):
        decide(SPACE, {**FORMS['classic'], **change})


def test_missing_and_unexpected_keys_are_listed_together():
    architecture = {key: value for key, value in FORMS['classic'].items() if key not in ('a', 'i')}
    with pytest.raises(ArchitectureError, match=r"\['a', 'i'\] are missing, \['z'\] are unexpected.*strict=False"):
        decide(SPACE, {**architecture, 'z': 1})
    assert decide(SPACE, {**architecture, 'z': 1}, strict=False) == {'b': [True, False], 'c': [False, False], 'free': [True]}


def test_files_are_read(tmp_path):
    file = tmp_path / 'architecture.json'
    file.write_text(json.dumps(FORMS['classic']))
    assert load(file) == load(str(file)) == FORMS['classic']
    for content in ('{"a": ', '[1]', '3'):
        file.write_text(content)
        with pytest.raises(ArchitectureError, match=r'architecture\.json'):
            load(file)
    with pytest.raises(ArchitectureError, match='nowhere'):
        load(tmp_path / 'nowhere.json')
