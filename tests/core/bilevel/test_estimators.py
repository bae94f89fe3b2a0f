"""The estimators against unrolling that is differentiated directly, autograd going through the virtual step."""

import copy
import math

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from nni_darts_ext import TrainingError
from nni_darts_ext.core.bilevel import estimators
from nni_darts_ext.core.bilevel.gradients import frozen, set_gradients

EXACT = [estimators.unrolled_exact, lambda *problem: estimators.unrolled_finite_difference(*problem, radius=1e-5)]
TOLERANCE = [1e-8, 1e-5]
BOTH = pytest.mark.parametrize('estimate, tolerance', list(zip(EXACT, TOLERANCE)), ids=['exact', 'finite difference'])


# Which parameters a step computes for ------------------------------------------------------------------------------------

def test_a_backward_pass_does_not_touch_what_is_frozen():
    weight, logit, never = (nn.Parameter(torch.ones(1), requires_grad=on) for on in (True, True, False))
    with frozen([weight, never]):
        (weight * logit * never).backward()
    assert weight.grad is None and logit.grad == 1
    assert [p.requires_grad for p in (weight, logit, never)] == [True, True, False]


def test_an_error_within_leaves_nothing_frozen():
    weight = nn.Parameter(torch.ones(1))
    try:
        with frozen([weight]):
            raise RuntimeError
    except RuntimeError:
        assert weight.requires_grad


# Against direct differentiation ------------------------------------------------------------------------------------------

class Mixed(nn.Module):
    """A smooth network of two edges, whose parameters come from outside so that they may be functions of the logits."""

    def __init__(self):
        super().__init__()
        self.weights = nn.ParameterList([nn.Parameter(torch.randn(shape, dtype=torch.float64) * 0.7) for shape in [
            (4, 3), (4, 3), (4,), (4, 4), (2, 4)]])
        self.unused = nn.Parameter(torch.ones(2, dtype=torch.float64))

    def loss(self, batch, logits, weights=None):
        a, b, bias, c, head = self.weights if weights is None else weights
        x, y = batch
        one, two = (torch.softmax(of_edge, 0) for of_edge in logits[:2])
        h = one[0] * F.softplus(F.linear(x, a, bias)) + one[1] * torch.tanh(F.linear(x, b))
        h = two[0] * F.softplus(F.linear(h, c)) + two[1] * h + two[2] * F.linear(torch.tanh(h), c.t())  # c is tied
        return F.cross_entropy(F.linear(h, head), y)


class Problem:
    """The network, its logits, batches, and an optimiser that has taken some steps."""

    def __init__(self, make_optimizer, steps=3):
        torch.manual_seed(0)
        self.model = Mixed()
        self.logits = [nn.Parameter(torch.randn(n, dtype=torch.float64)) for n in (2, 3, 4)]  # the last one nothing reaches
        self.batches = [(torch.randn(8, 3, dtype=torch.float64), torch.randint(2, (8,))) for _ in range(2)]
        self.optimizer = make_optimizer(self.model)
        for _ in range(steps):
            self.optimizer.zero_grad()
            self.training().backward()
            self.optimizer.step()
        for parameter in (*self.model.parameters(), *self.logits):
            parameter.grad = None

    def training(self):
        return self.model.loss(self.batches[0], self.logits)

    def validation(self):
        return self.model.loss(self.batches[1], self.logits)

    def estimate(self, estimator):
        return estimator(self.training, self.validation, self.logits, [self.optimizer], self.model)

    def direct(self):
        """With a graph through the virtual step, which is written out here a second time."""
        weights = [weight.detach().clone().requires_grad_() for weight in self.model.weights]
        loss = self.model.loss(self.batches[0], self.logits, weights)
        gradients = torch.autograd.grad(loss, weights, create_graph=True)
        virtual = []
        for weight, original, gradient in zip(weights, self.model.weights, gradients):
            group = next((group for group in self.optimizer.param_groups if any(p is original for p in group['params'])), None)
            if group is None or not original.requires_grad:
                virtual.append(weight)
                continue
            step = gradient + group.get('weight_decay', 0) * weight
            if group.get('momentum') and 'nesterov' in group:
                before = self.optimizer.state[original].get('momentum_buffer')
                after = step if before is None else group['momentum'] * before + (1 - group['dampening']) * step
                step = step + group['momentum'] * after if group['nesterov'] else after
            virtual.append(weight - group['lr'] * step)
        return torch.autograd.grad(self.model.loss(self.batches[1], self.logits, virtual), self.logits[:2])


def assert_right(problem, estimate, tolerance):
    *found, unreached = problem.estimate(estimate)
    assert unreached is None
    for one, other in zip(found, problem.direct()):
        torch.testing.assert_close(one, other, rtol=0, atol=tolerance)


def sgd(**options):
    return lambda model: torch.optim.SGD(model.parameters(), **{**dict(lr=0.3), **options})


def groups(model):
    a, b, bias, c, head = model.weights
    return torch.optim.SGD([{'params': [a, bias]}, {'params': [b, c], 'lr': 0.02, 'momentum': 0.0},
                            {'params': [head, model.unused], 'nesterov': True, 'weight_decay': 0.1}], lr=0.3, momentum=0.9)


def frozen_weight(model):
    model.weights[3].requires_grad_(False)
    return torch.optim.SGD(model.parameters(), 0.3, momentum=0.9)


OPTIMIZERS = {
    'plain': sgd(), 'momentum': sgd(momentum=0.9), 'weight decay': sgd(momentum=0.9, weight_decay=0.1),
    'nesterov': sgd(momentum=0.9, nesterov=True, weight_decay=0.1), 'dampening': sgd(momentum=0.9, dampening=0.4),
    'several groups': groups, 'a frozen weight': frozen_weight,
    'a weight that it does not hold': lambda model: torch.optim.SGD(list(model.weights)[1:], 0.3),
    'Adam, as plain SGD': lambda model: torch.optim.Adam(model.parameters(), 0.1, weight_decay=0.1),
    'RMSprop, as plain SGD': lambda model: torch.optim.RMSprop(model.parameters(), 0.1, momentum=0.9),
}


@BOTH
@pytest.mark.parametrize('steps', [0, 3])
@pytest.mark.parametrize('optimizer', OPTIMIZERS)
def test_the_gradient_is_that_of_unrolling_differentiated_directly(optimizer, steps, estimate, tolerance):
    problem = Problem(OPTIMIZERS[optimizer], steps)
    assert_right(problem, estimate, tolerance)
    first = estimators.first_order(problem.validation, problem.logits, problem.model)
    assert (first[0] - problem.direct()[0]).abs().max() > 1e-5  # there is a difference to be right about


@settings(deadline=None, max_examples=25, suppress_health_check=list(HealthCheck))
@given(lr=st.floats(0, 0.5), momentum=st.floats(0, 0.99), weight_decay=st.floats(0, 0.3), dampening=st.floats(0, 1),
       nesterov=st.booleans(), steps=st.integers(0, 3))
def test_so_it_is_whatever_the_settings_of_sgd(lr, momentum, weight_decay, dampening, nesterov, steps):
    nesterov = nesterov and momentum > 0
    options = dict(lr=lr, momentum=momentum, weight_decay=weight_decay, dampening=0 if nesterov else dampening, nesterov=nesterov)
    for estimate, tolerance in zip(EXACT, TOLERANCE):
        assert_right(Problem(sgd(**options), steps), estimate, tolerance)


@pytest.mark.parametrize('steps', [0, 3])
@pytest.mark.parametrize('optimizer', [name for name in OPTIMIZERS if 'plain SGD' not in name])
def test_the_virtual_step_is_the_one_that_the_optimizer_takes(optimizer, steps):
    problem = Problem(OPTIMIZERS[optimizer], steps)
    seen = []

    def validation():
        seen.append([weight.detach().clone() for weight in problem.model.weights])
        return problem.validation()
    estimators.unrolled_exact(problem.training, validation, problem.logits, [problem.optimizer], problem.model)
    problem.training().backward()
    problem.optimizer.step()
    for virtual, real in zip(seen[0], problem.model.weights):
        torch.testing.assert_close(virtual, real.detach(), rtol=1e-12, atol=1e-12)


@BOTH
def test_an_optimizer_that_climbs_is_unrolled_upwards(estimate, tolerance):
    problem = Problem(sgd())
    problem.optimizer.param_groups[0].update(maximize=True, lr=1e-5)
    up = problem.estimate(estimate)[0] - estimators.first_order(problem.validation, problem.logits, problem.model)[0]
    problem.optimizer.param_groups[0].update(maximize=False)
    down = problem.estimate(estimate)[0] - estimators.first_order(problem.validation, problem.logits, problem.model)[0]
    torch.testing.assert_close(up, -down, rtol=1e-2, atol=1e-12)  # the more so, the smaller the step


@BOTH
def test_several_optimizers_step_together(estimate, tolerance):
    problem = Problem(lambda model: torch.optim.SGD(model.parameters(), 0.3))
    expected = problem.estimate(estimate)[0]
    parts = [torch.optim.SGD(part, 0.3) for part in (list(problem.model.weights)[:2], list(problem.model.weights)[2:])]
    found = estimate(problem.training, problem.validation, problem.logits, parts, problem.model)[0]
    torch.testing.assert_close(found, expected)


@BOTH
def test_logits_in_the_weight_optimizer_are_no_weights(estimate, tolerance):
    problem = Problem(sgd())
    expected = problem.estimate(estimate)[0]
    problem.optimizer.add_param_group({'params': problem.logits})
    assert torch.equal(problem.estimate(estimate)[0], expected)


# The closed form -----------------------------------------------------------------------------------------------------------

@BOTH
@settings(deadline=None, max_examples=20, suppress_health_check=list(HealthCheck))
@given(a=st.floats(-2, 2), w=st.floats(-2, 2), xi=st.floats(0.01, 0.5))
def test_a_quadratic_problem_has_its_closed_form(estimate, tolerance, a, w, xi):
    """T = (w - a)**2 / 2 and V = w**2 / 2, so w' = w - xi * (w - a) and dV(w')/da = xi * w'. First order sees nothing."""
    logit, weight = (nn.Parameter(torch.tensor([value], dtype=torch.float64)) for value in (a, w))
    model = nn.ParameterList([weight])
    problem = (lambda: ((weight - logit) ** 2 / 2).sum(), lambda: (weight ** 2 / 2).sum(), [logit],
               [torch.optim.SGD([weight], xi)], model)
    assert estimators.first_order(problem[1], [logit], model) == [None]
    gradient, = estimate(*problem)
    expected = xi * (w - xi * (w - a))
    assert (0.0 if gradient is None else gradient.item()) == pytest.approx(expected, abs=tolerance)


@BOTH
def test_logits_go_where_the_closed_form_leads(estimate, tolerance):
    """The best weight for T is the logit itself, the best for V is 3: so is the logit in the end."""
    logit, weight = (nn.Parameter(torch.zeros(1, dtype=torch.float64)) for _ in range(2))
    model, optimizer = nn.ParameterList([weight]), torch.optim.SGD([weight], 0.3)
    upper = torch.optim.SGD([logit], 0.3)
    for _ in range(200):
        set_gradients([logit], estimate(lambda: ((weight - logit) ** 2).sum(), lambda: ((weight - 3) ** 2).sum(), [logit],
                                       [optimizer], model))
        upper.step()
        optimizer.zero_grad()
        ((weight - logit.detach()) ** 2).sum().backward()
        optimizer.step()
    assert logit.item() == pytest.approx(3.0, abs=1e-6)


# What must not fail --------------------------------------------------------------------------------------------------------

@BOTH
def test_a_validation_loss_without_a_slope_in_the_weights(estimate, tolerance):
    problem = Problem(sgd())
    loss = problem.validation
    problem.validation = lambda: 0 * loss() + problem.logits[0].sum()
    assert torch.equal(problem.estimate(estimate)[0], torch.ones(2, dtype=torch.float64))


@BOTH
@pytest.mark.parametrize('lost', ['training', 'validation'])
def test_a_loss_that_reaches_nothing(lost, estimate, tolerance):
    problem = Problem(sgd())
    setattr(problem, lost, lambda: torch.ones((), dtype=torch.float64))
    first = estimators.first_order(problem.validation, problem.logits, problem.model)
    found = problem.estimate(estimate)
    assert found[2] is None and (lost == 'training' or not any(g is not None and g.any() for g in found))
    if lost == 'training':
        assert all(torch.equal(one, other) for one, other in zip(found[:2], first[:2]))


@BOTH
def test_a_training_loss_that_is_linear_in_the_weights(estimate, tolerance):
    problem = Problem(sgd())
    problem.training = lambda: sum(weight.sum() for weight in problem.model.weights)
    found = problem.estimate(estimate)[0]
    for weight in problem.model.weights:
        weight.data = weight.data - 0.3
    torch.testing.assert_close(found, torch.autograd.grad(problem.validation(), problem.logits[0])[0])


@BOTH
def test_no_weights_at_all(estimate, tolerance):
    problem = Problem(sgd())
    found = estimate(problem.training, problem.validation, problem.logits, [], problem.model)
    assert torch.equal(found[0], estimators.first_order(problem.validation, problem.logits, problem.model)[0])


def test_an_operation_without_a_second_derivative_is_explained():
    problem = Problem(sgd())
    problem.training = lambda: F.ctc_loss((problem.model.weights[0] * problem.logits[0][0]).log_softmax(-1)[:, None],
                                          torch.tensor([[1, 2]]), torch.tensor([4]), torch.tensor([2]))
    with pytest.raises(TrainingError, match=r"second derivatives.*'finite_difference'"):
        problem.estimate(estimators.unrolled_exact)
    assert problem.estimate(estimators.unrolled_finite_difference)[0] is not None


# What must stay --------------------------------------------------------------------------------------------------------------

class Noisy(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(3, 6), nn.BatchNorm1d(6), nn.Softplus(), nn.Dropout(0.5), nn.Linear(6, 2))
        self.layers[1].register_buffer('shared', self.layers[1].running_mean)

    def forward(self, x, logits):
        return self.layers(x) * torch.softmax(logits, 0)


def noisy():
    torch.manual_seed(0)
    model, logits = Noisy(), nn.Parameter(torch.randn(2))
    batches = [(torch.randn(8, 3), torch.randint(2, (8,))) for _ in range(2)]
    training, validation = (lambda batch=batch: F.cross_entropy(model(batch[0], logits), batch[1]) for batch in batches)
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
    training().backward()
    optimizer.step()
    return model, logits, training, validation, optimizer


def state_of(model, optimizer):
    return copy.deepcopy((dict(model.state_dict()), [p.grad for p in model.parameters()], optimizer.state_dict()['state'],
                          torch.get_rng_state(), [p.requires_grad for p in model.parameters()]))


def same(one, other):
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    return all(map(same, one, other)) if isinstance(one, (list, tuple)) else one == other


@BOTH
def test_weights_gradients_statistics_momentum_and_random_state_stay_bit_for_bit(estimate, tolerance):
    model, logits, training, validation, optimizer = noisy()
    places = [p.data_ptr() for p in (*model.parameters(), *model.buffers())]
    before, of_logits = state_of(model, optimizer), logits.grad.clone()
    estimate(training, validation, [logits], [optimizer], model)
    assert same(state_of(model, optimizer), before)
    assert [p.data_ptr() for p in (*model.parameters(), *model.buffers())] == places
    assert model.layers[1].shared is model.layers[1].running_mean
    assert torch.equal(logits.grad, of_logits)


@BOTH
@pytest.mark.parametrize('which', range(4))
def test_they_stay_when_a_loss_raises_in_between(which, estimate, tolerance):
    model, logits, training, validation, optimizer = noisy()
    calls = []

    def failing(loss):
        def run():
            value = loss()
            calls.append(value)
            if len(calls) > which:
                raise KeyboardInterrupt
            return value
        return run
    before = state_of(model, optimizer)
    try:
        estimate(failing(training), failing(validation), [logits], [optimizer], model)
    except KeyboardInterrupt:
        assert len(calls) == which + 1
    else:
        assert estimate is estimators.unrolled_exact and which >= 2
    assert same(state_of(model, optimizer), before) and logits.requires_grad


@BOTH
def test_dropout_draws_the_same_in_every_pass_so_that_both_estimators_agree(estimate, tolerance):
    model, logits, training, validation, optimizer = noisy()
    model.double()
    logits = nn.Parameter(logits.detach().double())
    generator = torch.Generator().manual_seed(3)
    batches = [(torch.randn(8, 3, generator=generator).double(), torch.randint(2, (8,), generator=generator)) for _ in range(2)]
    training, validation = (lambda batch=batch: F.cross_entropy(model(batch[0], logits), batch[1]) for batch in batches)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    state = torch.get_rng_state()
    found, = estimate(training, validation, [logits], [optimizer], model)

    # Directly: one evaluation of each loss, from the same random state, through a virtual step.
    names = [name for name, _ in model.named_parameters()]
    weights = [p.detach().clone().requires_grad_() for p in model.parameters()]

    def loss(batch, values):
        torch.set_rng_state(state)
        w = dict(zip(names, values))
        h = F.linear(batch[0], w['layers.0.weight'], w['layers.0.bias'])
        h = F.batch_norm(h, None, None, w['layers.1.weight'], w['layers.1.bias'], training=True)
        h = F.linear(F.dropout(F.softplus(h), 0.5), w['layers.4.weight'], w['layers.4.bias'])
        return F.cross_entropy(h * torch.softmax(logits, 0), batch[1])
    gradients = torch.autograd.grad(loss(batches[0], weights), weights, create_graph=True)
    expected, = torch.autograd.grad(loss(batches[1], [w - 0.1 * g for w, g in zip(weights, gradients)]), [logits])
    torch.testing.assert_close(found, expected, rtol=0, atol=tolerance)


def test_first_order_computes_nothing_for_the_weights_and_is_an_ordinary_pass():
    model, logits, _, validation, _ = noisy()
    before = model.layers[1].num_batches_tracked.item()
    grads = [p.grad.clone() for p in model.parameters()]
    seen = []

    def loss():
        value = validation()
        seen.extend(p.requires_grad for p in model.parameters())
        return value
    found, = estimators.first_order(loss, [logits], model)
    torch.manual_seed(0)
    assert found.shape == (2,) and not any(seen)
    assert model.layers[1].num_batches_tracked == before + 1
    assert all(torch.equal(p.grad, old) for p, old in zip(model.parameters(), grads))


# The argument ----------------------------------------------------------------------------------------------------------------

def test_what_the_argument_means():
    assert estimators.choose(False) is None
    assert estimators.choose(True) is estimators.choose('exact') is estimators.unrolled_exact
    assert estimators.choose('finite_difference') is estimators.unrolled_finite_difference


@pytest.mark.parametrize('value', [None, 1, 0.0, 'second', '', 'finite difference', [True], math.nan])
def test_anything_else_is_refused_by_name(value):
    with pytest.raises(TrainingError, match=r"^unrolled=.*Expected False.*True.*'exact'.*'finite_difference'"):
        estimators.choose(value)
