"""What methods='recommended' stands for, wherever methods are taken, and the hint of a search without methods."""

import pytest
import recorded_search
import torch
from spaces import TWO_NODES, Cells, batches
from torch import nn

import nni_darts_ext.nn as dnn
from nni_darts_ext import DartsMutator, MethodError
from nni_darts_ext.methods import EarlyStopping, Eigenvalue, Method, Methods, Softmax, Warmup, all_named, recommended
from nni_darts_ext.run import Run

HINT = "Pass methods='recommended'"


class Skips(dnn.ModelSpace):
    """``names`` are those of the candidates."""

    def __init__(self, names):
        super().__init__()
        modules = [nn.Linear(3, 3), nn.Identity(), nn.Tanh()]
        self.edge = dnn.LayerChoice(dict(zip(names, modules)), key='edge')
        self.classifier = nn.Linear(3, 2)

    def forward(self, x):
        return self.classifier(self.edge(x))


def by_trainer(space, epochs=1, **more):
    return recorded_search.trained('first order', space=space, data=batches(2), epochs=epochs, **more)


def by_strategy(space, epochs=1, **more):
    return recorded_search.searched('first order', space=space, data=batches(2), epochs=epochs, arguments=more)


@pytest.fixture(params=[by_trainer, pytest.param(by_strategy, marks=pytest.mark.family('nas', 'lightning'))],
                ids=['trainer', 'strategy'])
def searched(request):
    return request.param


def two_nodes():
    return Cells(TWO_NODES, named=True)


def test_the_recommended_methods_are_new_objects_each_time_and_fit_together_and_with_others():
    first, second = recommended(), recommended()
    assert first and all(isinstance(method, Method) for method in first)
    assert [repr(method) for method in first] == [repr(method) for method in second]
    assert not {id(method) for method in first} & {id(method) for method in second}
    Methods(first)
    Methods([*second, EarlyStopping()])


def test_a_search_takes_them_by_one_word(tmp_path):
    word, objects = (by_trainer(two_nodes, 3, methods=methods) for methods in ('recommended', recommended()))
    assert word['logits'] == objects['logits'] != by_trainer(two_nodes, 3)['logits']


def test_a_search_without_methods_says_once_that_it_may_collapse_and_one_with_them_does_not(searched, caplog, tmp_path):
    searched(lambda: Skips(('conv', 'skip', 'tanh')), epochs=2)
    assert [record.levelname for record in caplog.records if HINT in record.getMessage()] == ['WARNING']
    caplog.clear()
    searched(lambda: Skips(('conv', 'skip', 'tanh')), methods='recommended', run_dir=tmp_path)
    assert HINT not in caplog.text
    assert Run.read(tmp_path).settings['methods'] == [repr(method) for method in recommended()]


@pytest.mark.parametrize('names, methods, hints', [
    (('conv', 'Identity', 'tanh'), [], 1), (('conv', 'pool', 'tanh'), [], 0), (('skip',), [], 0),
    (('conv', 'skip', 'tanh'), [Softmax], 0)])
def test_the_hint_needs_skip_connections_that_compete_and_a_search_without_methods(names, methods, hints, caplog):
    by_trainer(lambda: Skips(names), methods=[method() for method in methods])
    assert caplog.text.count(HINT) == hints


def test_a_mutator_takes_them_as_it_takes_the_objects():
    def taken(methods):
        try:
            return [repr(method) for method in DartsMutator(two_nodes(), methods=methods).own_methods]
        except MethodError as error:  # for those that need epochs
            return str(error)
    assert taken('recommended') == taken(recommended()) != []


def test_a_text_names_them_alone_or_among_others():
    expected = [repr(method) for method in recommended()]
    for texts, more in (('recommended', []), (['recommended'], []), (['recommended', 'EarlyStopping'], ['EarlyStopping()'])):
        assert [repr(method) for method in all_named(texts)] == [*expected, *more]
    with pytest.raises(MethodError, match=r'Did you mean recommended\?'):
        all_named('recomended')


@pytest.mark.parametrize('methods', ['recomended', 'EarlyStopping', 'Recommended'])
def test_other_words_are_refused_with_what_is_expected(methods, searched):
    with pytest.raises(MethodError, match=f"methods='{methods}' is not a list. Expected .*or methods='recommended'"):
        searched(two_nodes, methods=methods)


def test_logits_that_move_together_alone_are_reported(caplog):
    class Falling(Method):
        """As a regulariser with the same gradient for all logits of an edge."""

        def regularizer(self, logits, at):
            return torch.cat(list(logits.values())).sum()

    class Unused(Skips):
        def __init__(self):
            super().__init__(('linear', 'identity', 'tanh'))
            self.unused = dnn.LayerChoice({'linear': nn.Linear(3, 3), 'tanh': nn.Tanh()}, key='unused')
    by_trainer(Unused, methods=[Falling()])
    assert "the logits of 'unused' have not changed, or all alike" in caplog.text


@pytest.mark.family('lightning', 'nas')
def test_a_strategy_refuses_methods_where_nni_relaxes_all_edges():
    from nni_darts_ext import DARTS
    with pytest.raises(MethodError, match='BetaDecay.* would have no effect: the model has no LayerChoice outside'):
        DARTS(methods='recommended').search.take(nn.Linear(1, 1), {}, [])
    DARTS(methods=[Warmup(1), Eigenvalue()]).search.take(nn.Linear(1, 1), {}, [])
