"""Edge normalisation against the formula of its paper."""

import papers
import pytest
import recorded_search
import torch
import two_processes
from papers import FAMILIES, ORDERS
from resumed import Interrupted
from spaces import batches, smooth
from torch import nn

import nni_darts_ext.nn as dnn
from nni_darts_ext import DartsMutator, MethodError, hosts
from nni_darts_ext.methods import EdgeNormalization

BEGUN = 2 * smooth((2,), 0.7)


class Begun(EdgeNormalization):
    """From other betas than 0, in float64."""

    def attach(self, search):
        super().attach(search)
        for beta in self.parameters():
            beta.data = BEGUN.clone()


def paper(alphas, at):
    """Softmax of alpha, times softmax of beta over the edges of the node."""
    of_edges = torch.softmax(alphas.get('pick', BEGUN), 0)
    return {key: torch.softmax(alphas[key], 0) * of_edges[i] for i, key in enumerate('ab')}


class Made:
    """Makes the method, and checks the gradient of its beta."""

    def __call__(self):
        self.method = Begun()
        return self.method

    def check(self, order):
        beta = nn.Parameter(BEGUN.clone())
        expected = papers.gradients(paper, order, others={'pick': beta})['pick']
        learned, = self.method.parameters()
        assert learned.grad.tolist() == pytest.approx(expected.tolist(), abs=1e-10)
        assert expected.abs().max() > 1e-5


@pytest.mark.parametrize('family', FAMILIES)
@pytest.mark.parametrize('order', ORDERS)
def test_the_trainer_has_the_gradient_of_the_paper(order, family, monkeypatch):
    monkeypatch.setenv(hosts.PREFERENCE, family)
    made = Made()
    papers.check_trainer(made, paper, order)
    made.check(order)


@pytest.mark.parametrize('family', FAMILIES)
def test_a_training_loop_of_your_own_has_it(family, monkeypatch):
    monkeypatch.setenv(hosts.PREFERENCE, family)
    made = Made()
    papers.check_loop(made, paper)
    made.check(False)


@pytest.mark.family('lightning', 'nas')
@pytest.mark.parametrize('order', ORDERS)
def test_a_strategy_has_it(order):
    made = Made()
    papers.check_strategy(made, paper, order)
    made.check(order)


class Cell(dnn.ModelSpace):
    """Two nodes, of which the second one may name its sources."""

    def __init__(self, named=False):
        super().__init__()
        self.edges = nn.ModuleList([dnn.LayerChoice([nn.Linear(3, 3), nn.Tanh()], key=key) for key in 'abcd'])
        self.one = dnn.InputChoice(choose_from=['a', 'b'], n_chosen=1, key='one')
        self.two = dnn.InputChoice(2, choose_from=['c', 'd'] if named else None, n_chosen=1, key='two')
        self.classifier = nn.Linear(3, 2)

    def forward(self, x):
        a, b, c, d = self.edges
        one = self.one([a(x), b(x)])
        return self.classifier(self.two([c(one), d(one)]))


def searched(cls=Cell):
    model = cls()
    return model, DartsMutator(model, methods=[EdgeNormalization()])


def test_inputs_are_kept_by_the_product_of_both_weights():
    model, mutator = searched()
    for key, first in dict(a=0.1, b=1.0, c=2.0, d=0.5).items():
        mutator.choices[key].data = torch.tensor([first, 0.0, 0.0])
    mutator.reset()
    model(torch.ones(1, 3))
    assert [mutator.export('classic')[key] for key in ('one', 'two')] == ['b', 0]
    assert mutator.input_weights()['one'].tolist() == [0.5, 0.5]
    one, two = mutator.methods.parameters()
    one.data[0], two.data[1] = 1.0, 0.1
    assert [mutator.export('classic')[key] for key in ('one', 'two')] == ['a', 0]
    assert mutator.input_weights()['one'].tolist() == torch.softmax(torch.tensor([1.0, 0.0]), 0).tolist()


def test_inputs_are_weighed_whether_their_sources_are_named_or_found():
    found = []
    for named in (True, False):
        torch.manual_seed(0)
        model, mutator = searched(lambda named=named: Cell(named))
        mutator.methods.parameters()[1].data[0] = 1.0
        mutator.reset()
        with torch.no_grad():
            found.append(model(torch.ones(2, 3)))  # a pass that finds no sources
        found.append(model(torch.ones(2, 3)))
    assert all(torch.equal(one, found[0]) for one in found)


class Sum(dnn.ModelSpace):
    """Adds up by itself."""

    def __init__(self):
        super().__init__()
        self.a = dnn.LayerChoice([nn.Identity(), nn.Tanh()], key='a')


def test_it_is_refused_where_no_input_choice_reads_an_edge():
    with pytest.raises(MethodError, match=r'no InputChoice of the model reads a LayerChoice.*InputChoice\(choose_from=keys\)'):
        searched(Sum)


def test_weights_of_another_shape_are_refused():
    class Wrong(EdgeNormalization):
        def weigh_inputs(self, key):
            return torch.ones(3)
    model = Cell()
    mutator = DartsMutator(model, methods=[Wrong()])
    mutator.reset()
    with pytest.raises(MethodError, match=r"weigh_inputs\('one'\) of Wrong\(\) returned tensor.*shape \(2,\)"):
        model(torch.ones(1, 3))


def test_two_that_weigh_inputs_are_refused():
    class Other(EdgeNormalization):
        pass
    with pytest.raises(MethodError, match='both decide the weights of inputs'):
        DartsMutator(Cell(), methods=[EdgeNormalization(), Other()])


def trainer(epochs=3, **options):
    return recorded_search.trainer('first order', space=recorded_search.two_nodes, epochs=epochs, methods=[EdgeNormalization()],
                                   **options)


def state_of(search):
    return [logits.tolist() for logits in (*search.mutator.choices.values(), *search.steps.methods.parameters())]


def test_a_search_resumes_bit_for_bit(tmp_path):
    def fail(search):
        raise Interrupted
    plain = trainer()
    plain.train()
    with pytest.raises(Interrupted):
        trainer(checkpoint_dir=tmp_path, changes={2: fail}).train()
    resumed = trainer(checkpoint_dir=tmp_path)
    resumed.train()
    assert state_of(resumed) == state_of(plain) and resumed.callbacks[0].begun == [2]
    assert all(beta.abs().min() > 0 for beta in plain.steps.methods.parameters())


def of_rank():
    data = [tuple(two_processes.share_of(batch) for batch in step) for step in batches(2)]
    search = trainer(1, data=data)
    search.train()
    return state_of(search)


def test_two_processes_have_the_same_betas():
    one, other = two_processes.results(of_rank)
    assert one == other
