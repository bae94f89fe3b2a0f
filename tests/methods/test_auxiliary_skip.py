"""The auxiliary skip connection against the equation of its paper."""

import papers
import pytest
import torch
from papers import FAMILIES, ORDERS, check_loop, check_strategy, check_trainer
from spaces import batches

from nni_darts_ext import hosts
from nni_darts_ext.core.space import candidates_in
from nni_darts_ext.errors import MethodError
from nni_darts_ext.methods import At, AuxiliarySkip, Method


@pytest.fixture
def by_paper(monkeypatch):
    """The loss of the tests' space with beta times the input beside each edge, whether it has a skip connection or not."""
    def loss_of(weights_of_edges, parameters, batch):
        x, labels = batch
        a, a_bias, b, b_bias, c, c_bias = parameters
        of_a, of_b, beta = (weights_of_edges[key] for key in ('a', 'b', 'beta'))
        of_edge_a = beta * x + of_a[0] * (x @ a.t() + a_bias) + of_a[1] * torch.tanh(x)
        of_edge_b = (of_b[1] + beta) * x + of_b[0] * (x @ b.t() + b_bias) + of_b[2] * torch.sin(x)
        return torch.nn.functional.cross_entropy((of_edge_a + of_edge_b) @ c.t() + c_bias, labels)
    monkeypatch.setattr(papers, 'loss_of', loss_of)


def paper(alphas, at):
    return {'beta': 1 - at.epoch / at.epochs, **{key: torch.softmax(of_edge, 0) for key, of_edge in alphas.items()}}


@pytest.mark.parametrize('family', FAMILIES)
@pytest.mark.parametrize('order', ORDERS)
def test_the_trainer_has_the_gradient_of_the_paper(order, family, by_paper, monkeypatch):
    monkeypatch.setenv(hosts.PREFERENCE, family)
    check_trainer(AuxiliarySkip, paper, order, epoch=2)


@pytest.mark.family('lightning', 'nas')
@pytest.mark.parametrize('order', ORDERS)
def test_a_strategy_has_it(order, by_paper):
    check_strategy(AuxiliarySkip, paper, order, epoch=1)


def test_recomputation_keeps_it(by_paper):
    check_trainer(AuxiliarySkip, paper, False, recompute=True)


def test_validations_have_it_also_where_the_skip_connection_is_cut_and_what_is_derived_has_it_not():
    search = papers.trainer([AuxiliarySkip()], 2)
    search.mutator.cut('b', 'skip')
    search.train()
    model, weights = search.model.eval(), {key: of_edge.detach() for key, of_edge in search.mutator.probabilities().items()}
    (x, _), = (training for training, _ in batches(1))
    mixed = sum(weight * candidate(x) for key, candidates in candidates_in(model, search.mutator.space).items()
                for weight, candidate in zip(weights[key], candidates))
    beta = 1 - 1 / 2                                                   # that of the last epoch, beside two edges
    assert torch.allclose(model(x), model.classifier(mixed + 2 * beta * x), atol=1e-12)
    assert weights['b'][1] == 0 and float(weights['b'].sum()) == pytest.approx(1)


@pytest.mark.parametrize('before, after', [((2, 3, 8, 8), (4, 4)), ((2, 3, 7, 7), (4, 4)), ((2, 3, 9, 6), (3, 6)),
                                           ((2, 3, 5), (3,)), ((2, 3, 4, 4, 6), (2, 4, 3)), ((2, 3, 1, 1), (1, 1))])
def test_where_the_output_is_smaller_the_input_is_averaged(before, after):
    x = torch.rand(before)
    skipped = AuxiliarySkip().edge(torch.zeros(*before[:2], *after), [x], 'a', At(None, epoch=0, epochs=4))
    assert skipped.shape == (*before[:2], *after)
    assert x.min() <= skipped.min() and skipped.max() <= x.max()
    if all(size % to == 0 for size, to in zip(before[2:], after)):
        assert torch.allclose(skipped.mean(), x.mean())


@pytest.mark.parametrize('inputs, output', [
    ([torch.rand(2, 3)], torch.rand(2, 4)), ([torch.rand(2, 3, 4, 4)], torch.rand(2, 6, 2, 2)),
    ([torch.rand(2, 3, 2, 2)], torch.rand(2, 3, 4, 4)), ([torch.rand(2, 3, 5)], torch.rand(2, 3, 4)),
    ([torch.arange(6)], torch.rand(6)), ([[torch.rand(2)]], [torch.rand(2)]), ([], torch.rand(2))])
def test_an_edge_that_cannot_have_it_is_named_once(inputs, output, caplog):
    method = AuxiliarySkip()
    for _ in range(2):
        assert method.edge(output, inputs, 'a', At(None, epoch=0, epochs=4)) is output
    assert [record.getMessage()[:56] for record in caplog.records] == ["LayerChoice 'a' has no auxiliary skip connection: its fi"]


def test_the_type_of_the_output_stays():
    for dtype in (torch.bfloat16, torch.float64):
        output = AuxiliarySkip().edge(torch.zeros(2, 3, dtype=dtype), [torch.ones(2, 3)], 'a', At(None, epoch=3, epochs=4))
        assert output.dtype == dtype and output.tolist() == [[.25] * 3] * 2


@pytest.mark.parametrize('wrong', [0, -1.0, float('nan'), float('inf'), None, '1'])
def test_beta_is_checked(wrong):
    with pytest.raises(MethodError, match=r'AuxiliarySkip\(beta=.*a number above 0'):
        AuxiliarySkip(wrong)


@pytest.mark.parametrize('family', FAMILIES)
def test_own_loops_have_what_methods_do_to_edges_but_no_epochs(family, monkeypatch):
    monkeypatch.setenv(hosts.PREFERENCE, family)

    class Halved(Method):
        def edge(self, output, inputs, key, at):
            return output / 2
    check_loop(Halved, lambda alphas, at: {key: torch.softmax(of_edge, 0) / 2 for key, of_edge in alphas.items()})
    model = papers.Space()
    with pytest.raises(MethodError, match=r'AuxiliarySkip\(beta=1.0\) needs the epochs'):
        hosts.of_model(model).DartsMutator(model, methods=[AuxiliarySkip()])


def test_a_method_that_gives_no_output_is_refused():
    class Wrong(Method):
        def edge(self, output, inputs, key, at):
            pass
    with pytest.raises(MethodError, match=r"edge\(\) of Wrong\(\) returned None for 'a'"):
        papers.trainer([Wrong()]).train()
