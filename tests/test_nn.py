"""The functions that build a search space, alike on every NNI."""

import pytest
from spaces import NO_KEY
from torch import nn

import nni_darts_ext.nn as dnn
from nni_darts_ext import DartsMutator, SearchSpaceError


def test_no_key_is_reachable():
    assert dnn.InputChoice.NO_KEY == NO_KEY == ''


class Sources(dnn.ModelSpace):
    def __init__(self, *choose_from, **inputs):
        super().__init__()
        self.edge = dnn.LayerChoice([nn.Identity(), nn.Tanh()], key='edge')
        self.pick = dnn.InputChoice(choose_from=list(choose_from), key='pick', **inputs)


def test_choose_from_is_kept():
    assert Sources('edge', NO_KEY).pick.choose_from == ['edge', NO_KEY]


def test_a_number_of_candidates_is_enough():
    class Net(dnn.ModelSpace):
        def __init__(self):
            super().__init__()
            self.pick = dnn.InputChoice(3, n_chosen=1, key='pick')
    assert Net().pick.choose_from == [NO_KEY] * 3


def test_an_unknown_source_is_refused():
    with pytest.raises(SearchSpaceError, match=r"'pick' names \['edgy'\] in choose_from.*\['edge'\].*NO_KEY"):
        DartsMutator(Sources('edge', 'edgy', n_chosen=1))


@pytest.mark.parametrize('arguments, message', [
    (dict(), "'pick' has neither n_candidates nor choose_from"),
    (dict(n_candidates=2, choose_from=['a']), "'pick' has n_candidates=2 but 1 keys"),
    (dict(n_candidates=2, n_chosen=3), "'pick'.*n_chosen=3 of 2 candidates.*0 to 2"),
    (dict(n_candidates=2, reduction='max'), "'pick' has reduction='max'.*sum, mean, concat, none"),
])
def test_an_input_choice_that_makes_no_sense_is_refused(arguments, message):
    with pytest.raises(SearchSpaceError, match=message):
        dnn.InputChoice(key='pick', **arguments)


@pytest.mark.parametrize('candidates, message', [
    ([nn.Tanh(), None], "Candidate 1 of LayerChoice 'edge' is None.*nn.Identity.*zero op"),
    ({'tanh': nn.Tanh(), 'pair': (nn.Tanh(), nn.Tanh())}, r"Candidate 'pair' of LayerChoice 'edge' is \(Tanh\(\).*nn.Sequential"),
    ([nn.Tanh], "Candidate 0 of LayerChoice 'edge' is <class"),
])
def test_a_candidate_that_is_no_module_is_refused(candidates, message):
    with pytest.raises(SearchSpaceError, match=message):
        dnn.LayerChoice(candidates, key='edge')


def test_a_candidate_of_nnis_own_choices_that_is_no_module_is_refused():
    class Net(dnn.ModelSpace):
        def __init__(self):
            super().__init__()
            self.layers = nn.ModuleList([dnn.LayerChoice([nn.Identity(), nn.Tanh(), nn.ReLU()], key='edge')])
            self.layers[0]._modules['1'] = None  # as NNI registers it
    with pytest.raises(SearchSpaceError, match="Candidate '?1'? of LayerChoice 'edge' at 'layers.0' is None"):
        DartsMutator(Net())


def test_candidates_may_come_in_modules_that_hold_modules():
    class Net(dnn.ModelSpace):
        def __init__(self):
            super().__init__()
            self.a = dnn.LayerChoice(nn.ModuleDict({'skip': nn.Identity(), 'tanh': nn.Tanh()}), key='a')
            self.b = dnn.LayerChoice(nn.ModuleList([nn.Identity(), nn.Tanh()]), key='b')
    edges = DartsMutator(Net()).space.edges
    assert edges['a'].names == ('skip', 'tanh') and tuple(map(str, edges['b'].names)) == ('0', '1')


def test_a_search_says_when_the_network_found_will_have_fewer_channels(caplog):
    DartsMutator(Sources('edge', NO_KEY, n_chosen=1, reduction='concat'))
    assert "'pick' at 'pick' has reduction='concat'" in caplog.text
    caplog.clear()
    DartsMutator(Sources('edge', NO_KEY, reduction='concat'))
    assert not caplog.messages


@pytest.mark.parametrize('candidates', [[], {}])
def test_an_edge_needs_candidates(candidates):
    with pytest.raises(SearchSpaceError, match="'edge' has no candidates"):
        dnn.LayerChoice(candidates, key='edge')
