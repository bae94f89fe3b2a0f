"""Methods from text: what they are built of, and what is said of a text that names none."""

import sys
import types

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from nni_darts_ext import TrainingError
from nni_darts_ext.errors import MethodError
from nni_darts_ext.methods import EarlyStopping, Method, Shrinking, all_named, known, named


class Own(Method):
    """A method with an argument of any kind."""

    def __init__(self, weight, schedule='linear', *, edges=()):
        self.weight, self.schedule, self.edges = weight, schedule, edges


class Open(Method):
    def __init__(self, **options):
        self.options = options


class Failing(Method):
    def __init__(self, n=1):
        self.n = 1 / n


class NoMethod:
    pass


OWN = f'{__name__}.Own'
LITERALS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.lists(inner).map(tuple)
    | st.dictionaries(st.text() | st.integers() | st.tuples(st.text(), st.booleans()), inner), max_leaves=10)


@pytest.fixture
def mine(monkeypatch):
    """A module of one's own."""
    module = types.ModuleType('mine')
    module.Own, module.NoMethod, module.number = Own, NoMethod, 3
    monkeypatch.setitem(sys.modules, 'mine', module)


@pytest.mark.parametrize('text, arguments', [
    ('weight=1', {'weight': 1}), ('weight=-0.5', {'weight': -0.5}), ('weight=cosine', {'weight': 'cosine'}),
    ('weight="a, b=c: (d"', {'weight': 'a, b=c: (d'}), ('weight={10: 5, 20: 3}', {'weight': {10: 5, 20: 3}}),
    (' weight = [1, (2, 3)] , schedule = cosine,', {'weight': [1, (2, 3)], 'schedule': 'cosine'}),
    ('weight=[skip, none_of_them], edges={a: None}', {'weight': ['skip', 'none_of_them'], 'edges': {'a': None}}),
    ('weight=-inf', {'weight': float('-inf')}), ('weight={1, 2}', {'weight': {1, 2}}), ('weight="true"', {'weight': 'true'})])
def test_arguments_are_literals_and_words(text, arguments):
    assert vars(named(f'{OWN}:{text}')) == vars(Own(**arguments))


@settings(deadline=None)
@given(LITERALS, LITERALS, LITERALS)
@example(float('inf'), [float('-inf')], {'a': {'b': ()}})
def test_the_text_of_some_arguments_gives_the_method_with_these(weight, schedule, edges):
    method = Own(weight, schedule, edges=edges)
    again = named(f'{OWN}:' + ','.join(f'{name}={value!r}' for name, value in method.settings().items()))
    assert type(again) is Own and again.settings() == method.settings() and repr(again) == repr(method)


@settings(deadline=None)
@given(st.dictionaries(st.integers(1, 99), st.just(0), min_size=1).map(
    lambda epochs: {epoch: len(epochs) - i for i, epoch in enumerate(sorted(epochs))}))
def test_the_text_of_a_schedule_gives_this_schedule(schedule):
    assert named(f'Shrinking:schedule={schedule}').settings() == Shrinking(schedule).settings()


def test_a_method_of_the_folder_is_named_by_its_class_and_is_another_object_each_time():
    assert {'EarlyStopping', 'Shrinking'} <= set(known())
    first, second = named('EarlyStopping'), named('EarlyStopping')
    assert type(first) is type(second) is EarlyStopping and first is not second
    assert named(f'{OWN}:weight=[]').weight is not named(f'{OWN}:weight=[]').weight
    assert type(named('nni_darts_ext.methods.EarlyStopping:')) is EarlyStopping


def test_one_text_a_list_of_texts_or_none():
    assert all_named('') == all_named([]) == all_named(['']) == []
    assert [repr(method) for method in all_named('Shrinking:schedule={1: 1}')] == ['Shrinking({1: 1})']
    assert [type(method) for method in all_named(['EarlyStopping', f'{OWN}:weight=1'])] == [EarlyStopping, Own]
    for texts in (None, 3, {'EarlyStopping': {}}):
        with pytest.raises(MethodError, match=r"is neither a string nor a list of strings. Expected NAME.*'' for no method"):
            all_named(texts)
    with pytest.raises(MethodError, match=r'^3 is not a string that names a method'):
        all_named([3])


def test_a_constructor_may_take_any_argument():
    assert named(f'{__name__}.Open:a=1,b=[2]').options == {'a': 1, 'b': [2]}


@pytest.mark.parametrize('text, message', [
    ('Shrinkin:schedule={1: 1}', r"'Shrinkin:schedule={1: 1}': nni_darts_ext.methods has no method 'Shrinkin'. Did you mean "
     r'Shrinking\? It has .*EarlyStopping, .*Shrinking, .*such as my_module.MyMethod'),
    ('early_stopping', r'Did you mean EarlyStopping\?'),
    ('', "'' does not name a method. Expected NAME"), (':a=1', 'does not name'), ('EarlyStopping()', 'does not name'),
    ('mine.', 'does not name'), ('.Own', 'does not name'), ('mine:Own', "no method 'mine'"),
    ('nowhere.Own', "the module nowhere cannot be imported: ModuleNotFoundError: No module named 'nowhere'.*working directory"),
    ('broken.Own', 'the module broken cannot be imported: ZeroDivisionError'),
    ('mine.Owm:weight=1', r"the module mine has no 'Owm'. Did you mean Own\? It has Own\."),
    ('mine.NoMethod', "the module mine has 'NoMethod', which is not a subclass of nni_darts_ext.methods.Method"),
    ('mine.number', "has 'number', which is not a subclass"),
    ('mine.Own:wieght=1', r"Own has no argument 'wieght'. Did you mean weight\? It has edges, schedule, weight"),
    ('EarlyStopping:patience=3', r"EarlyStopping has no argument 'patience'. It has none"),
    ('mine.Own:schedule=1', r'lacks weight. Expected mine.Own:weight=value'),
    ('Shrinking', r"'Shrinking' lacks schedule. Expected Shrinking:schedule=value"),
    ('Shrinking:{1: 1}', 'has a value without the name of its argument. Expected NAME'),
    ('mine.Own:*[1]', 'has a value without'), ('mine.Own:**{"weight": 1}', 'has a value without'),
    ('Shrinking:schedule={1: 1', 'cannot be parsed.*Expected NAME'), ('mine.Own:weight=1 schedule=2', 'cannot be parsed'),
    ('mine.Own:weight=', 'cannot be parsed'), ('mine.Own:weight=1,weight=2', 'has weight twice|cannot be parsed'),
    ('mine.Own:weight=1)', 'cannot be parsed'), ('mine.Own:weight=' + '(' * 500, 'cannot be parsed'),
    ('mine.Own:weight=true', 'the value of weight is not a literal. Expected .*True'),
    ('mine.Own:weight=skip-connect', 'Quote strings'),
    ('mine.Own:weight=[[]] * 2', 'not a literal'), ('mine.Own:weight={[]: 1}', 'not a literal'),
    ('mine.Own:weight=a.b', 'not a literal'),
    (f'{__name__}.Failing:n=0', r"Failing:n=0' cannot be built: ZeroDivisionError")])
def test_what_names_no_method_is_told(text, message, mine, tmp_path, monkeypatch):
    (tmp_path / 'broken.py').write_text('1 / 0')
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(MethodError, match=message):
        named(text)


@pytest.mark.parametrize('value', [
    'marked()', '[marked()]', '{1: marked()}', '(lambda: marked())()', '[marked() for _ in (1,)]', 'f"{marked()}"',
    'marked() or 1', '1) + marked(', '1)(marked()', '1), marked(', '1) or _(marked()', '1)[marked()', '1).a',
    '1) if marked() else _(', '__import__("os")', '(marked := 1)', 'not 1', '1 + 1', '(yield)', '1 if 1 else 2'])
def test_nothing_but_literals_is_evaluated(value, mine, monkeypatch):
    import builtins
    called = []
    monkeypatch.setattr(builtins, 'marked', lambda *_: called.append(1), raising=False)
    with pytest.raises(MethodError, match='cannot be parsed|not a literal'):
        named(f'mine.Own:weight={value}')
    assert called == []


def test_what_a_constructor_of_the_package_refuses_it_says_itself():
    with pytest.raises(TrainingError, match=r'Shrinking\({3: 0}\) has the entry 3: 0'):
        named('Shrinking:schedule={3: 0}')
