"""What the hooks of a method do to a search, with the trainer and with the strategy that is here."""

import copy
import math

import pytest
import recorded_search
import torch
from resumed import Interrupted
from spaces import Cells, batches, write_weights
from torch import nn

import nni_darts_ext
from nni_darts_ext import DartsMutator, MethodError, TrainingError
from nni_darts_ext.methods import (
    ARCHITECTURE,
    READING,
    VALIDATION,
    WEIGHTS,
    BetaDecay,
    Dirichlet,
    EdgeNormalization,
    Eigenvalue,
    GumbelSoftmax,
    Method,
    RandomPerturbation,
    Shrinking,
    Softmax,
    Warmup,
)
from nni_darts_ext.run import Run, show

pytestmark = pytest.mark.family('classic', 'retiarii', 'nas')
ORDERS = [False, 'exact', 'finite_difference']
NODES = [((3, 2), 1, 'sum')]


def by_trainer(methods, data=None, epochs=1, unrolled=False, **more):
    return recorded_search.trained('first order', space=space, data=data or batches(2), epochs=epochs, methods=methods,
                                   unrolled=unrolled, **more)


def by_strategy(methods, data=None, epochs=1, unrolled=False, **more):
    return recorded_search.searched('first order', space=space, data=data or batches(2), epochs=epochs,
                                    arguments=dict(methods=methods, unrolled=unrolled, **more))


def space():
    return Cells(NODES, named=True)


@pytest.fixture(params=[by_trainer, pytest.param(by_strategy, marks=pytest.mark.family('nas', 'lightning'))],
                ids=['trainer', 'strategy'])
def searched(request):
    return request.param


class Log(Softmax):
    """Writes down when it is asked what."""

    def __init__(self):
        self.said = []

    def _say(self, hook, at):
        self.said.append((hook, at.phase, at.epoch, at.epochs, at.step))

    def relax(self, logits, at):
        if at.phase != READING:
            self._say('relax', at)
            assert set(logits) == set(at.search.space.edges)
        return super().relax(logits, at)

    def takes_architecture_step(self, at):
        self._say('takes', at)
        return True

    def begin(self, at):
        self._say('begin', at)

    def before_epoch(self, at):
        self._say('before', at)

    def after_epoch(self, at, end):
        self._say('after', at)

    def record(self, at, end):
        self._say('record', at)

    def end(self, error=None):
        self.said.append(('end', error))


@pytest.mark.parametrize('unrolled', ORDERS)
def test_each_hook_is_called_when_it_should_be_and_all_edges_are_weighed_once_in_a_pass(searched, unrolled):
    log = Log()
    searched([log], unrolled=unrolled)
    phases = {False: [ARCHITECTURE], 'exact': [WEIGHTS, ARCHITECTURE],
              'finite_difference': [WEIGHTS, ARCHITECTURE, WEIGHTS, WEIGHTS]}[unrolled]
    steps = [one for step in range(2) for one in [
        ('takes', ARCHITECTURE, 0, 1, step), *(('relax', phase, 0, 1, step) for phase in phases), ('relax', WEIGHTS, 0, 1, step)]]
    said = [one for one in log.said if one[1] != VALIDATION]
    assert said == [('begin', READING, None, 1, None), ('before', READING, 0, 1, None), *steps, ('after', READING, 0, 1, None),
                    ('record', READING, 0, 1, None), ('end', None)]


def test_a_validation_has_a_phase_of_its_own():
    log = Log()
    by_trainer([log])
    assert ('relax', VALIDATION, 0, 1, None) in log.said


class Decay(Method):
    """Half the sum of squares, whose gradient is the logits."""

    def __init__(self, weight=1.0):
        self.weight = weight

    def regularizer(self, logits, at):
        assert at.phase == ARCHITECTURE
        return self.weight / 2 * sum((of_edge ** 2).sum() for of_edge in logits.values())


class Gradients(Method):
    """Keeps the gradients of the logits of the first step, and where the logits were."""

    def __init__(self):
        self.found, self.logits = None, None

    def after_epoch(self, at, end):
        self.found = torch.cat([logits.grad for logits in at.search.choices.values()])

    def before_epoch(self, at):
        self.logits = torch.cat([logits.detach().clone() for logits in at.search.choices.values()])


@pytest.mark.parametrize('unrolled', ORDERS)
def test_a_regularizer_is_in_the_architecture_step_of_every_order(searched, unrolled):
    plain, regularized = Gradients(), Gradients()
    searched([plain], data=batches(1), unrolled=unrolled)
    searched([regularized, Decay(0.7)], data=batches(1), unrolled=unrolled)
    assert torch.allclose(regularized.found - plain.found, 0.7 * plain.logits, rtol=0, atol=1e-12)


class WithoutSteps(Method):
    """A warm-up of one epoch."""

    def takes_architecture_step(self, at):
        return at.epoch > 0


def test_logits_rest_while_a_method_says_so_and_nobody_warns_of_it(searched, caplog):
    class Watch(Method):
        def __init__(self):
            self._moved = []

        def before_epoch(self, at):
            self._logits = [logits.detach().clone() for logits in at.search.choices.values()]

        def after_epoch(self, at, end):
            same = [torch.equal(one, other) for one, other in zip(self._logits, at.search.choices.values())]
            self._moved.append(not any(same))
            assert any(same) == all(same)
    watch = Watch()
    searched([WithoutSteps(), watch], epochs=2)
    assert watch._moved == [False, True] and 'have not changed' not in caplog.text


class OnlyFirst(Method):
    """Nothing but the first candidate runs, with a weight that grows with the epoch."""

    needs_epochs = True

    def reweigh(self, weights, at):
        assert at.phase != READING
        return {key: torch.zeros_like(of_edge).index_fill(0, torch.tensor([0]), 2.0 + at.epoch) + 0 * of_edge
                for key, of_edge in weights.items()}


def test_other_weights_count_in_the_pass_and_not_in_what_is_derived_or_recorded(searched, tmp_path):
    found = searched([OnlyFirst()], run_dir=tmp_path)
    logits = {key: torch.tensor(values, dtype=torch.float64) for key, values in found['logits'].items()}
    recorded = Run.read(tmp_path).epochs[-1].weights
    assert recorded == {key: pytest.approx(values.softmax(0).tolist()) for key, values in logits.items()}
    assert 'methods: OnlyFirst()' in show.render(Run.read(tmp_path))
    plain = searched([])
    assert plain['weights'] != found['weights']
    fresh = recorded_search.parts(write_weights(space()))
    still = [f'{name}.{own}' for name, module in fresh.items() for own, value in module._parameters.items()
             if value is not None and found['weights'][f'{name}.{own}'] == [value.sum().item(), (value ** 2).sum().item()]]
    assert any('.edges.0.0.op2.' in name or '.edges.0.0.2.' in name for name in still)  # which did not run
    assert not any('.edges.0.0.op0.' in name for name in still)


class Sampled(Method):
    """One candidate of each edge a pass, in turns."""

    samples = True

    def __init__(self):
        self._turn = 0

    def relax(self, logits, at):
        if at.phase == READING:
            return {key: of_edge.softmax(0) for key, of_edge in logits.items()}
        self._turn += 1
        hard = {key: nn.functional.one_hot(torch.tensor(self._turn % (len(of_edge) - 1)), len(of_edge))
                for key, of_edge in logits.items()}
        return {key: hard[key] + of_edge.softmax(0) * hard[key] - (of_edge.softmax(0) * hard[key]).detach()
                for key, of_edge in logits.items()}


def test_of_a_sample_the_candidates_with_weight_0_do_not_run():
    model, calls = space(), []
    for cell in model.cells:
        for i, candidate in enumerate(cell.edges[0][0].children() if hasattr(cell.edges[0][0], 'op0') is None else
                                      [module for name, module in cell.edges[0][0].named_children() if name.startswith('op')]):
            candidate.register_forward_hook(lambda *_, i=i: calls.append(i))
    mutator = DartsMutator(model, methods=[Sampled()])
    for _ in range(3):
        mutator.reset()
        model(torch.randn(4, 3))
    assert calls == [1, 2, 0]
    assert set(mutator.export()) == {'node0_edge0', 'node0_edge1', 'node0'}


class Scaled(Method):
    """Has a parameter of its own, which scales all weights."""

    def attach(self, search):
        self._scale = nn.Parameter(torch.ones((), dtype=torch.float64))

    def reweigh(self, weights, at):
        return {key: self._scale * of_edge for key, of_edge in weights.items()}

    def parameters(self):
        return [self._scale]

    def state_dict(self):
        return {'scale': self._scale.detach()}

    def load_state_dict(self, state):
        self._scale.data.copy_(state['scale'])


def test_parameters_of_a_method_are_stepped_with_the_logits(searched):
    method = Scaled()
    searched([method], data=batches(4))
    assert abs(method._scale.item() - 1) > 0.01


def test_a_trainer_resumes_with_the_state_and_parameters_of_its_methods(tmp_path):
    def trainer(changes=None):
        return recorded_search.trainer('first order', space=space, data=batches(2), epochs=3, methods=[Scaled(), Decay()],
                                       changes=changes, checkpoint_dir=tmp_path)

    def fail(search):
        raise Interrupted
    through = recorded_search.trained('first order', space=space, data=batches(2), epochs=3, methods=[Scaled(), Decay()])
    with pytest.raises(Interrupted):
        trainer({2: fail}).train()
    assert recorded_search.ended(trainer()) == through
    with pytest.raises(nni_darts_ext.CheckpointError, match="methods was .*'Decay': {'weight': 1.0}"):
        recorded_search.trainer('first order', space=space, data=batches(2), epochs=4, methods=[Scaled(), Decay(2.0)],
                                checkpoint_dir=tmp_path).train()


def test_a_method_whose_state_does_not_fit_is_named(tmp_path):
    class Broken(Decay):
        def state_dict(self):
            return {'x': 1}

        def load_state_dict(self, state):
            raise KeyError('y')

    def train(epochs):
        recorded_search.trainer('first order', space=space, epochs=epochs, methods=[Broken()], checkpoint_dir=tmp_path).train()
    train(1)
    with pytest.raises(nni_darts_ext.CheckpointError, match=r'The state of Broken\(weight=1.0\) does not fit: KeyError'):
        train(2)


class Evaluating(Method):
    """Evaluates the supernet twice, and without a candidate; keeps what is different afterwards."""

    def __init__(self):
        self._found, self._changed = [], []

    def after_epoch(self, at, end):
        before = self._state(at, end)
        self._found += [end.evaluate(), end.evaluate()]
        self._changed += [name for name, value in self._state(at, end).items() if value != before[name]]
        at.search.cut('node0_edge0', 'op0')
        self._found.append(end.evaluate())
        at.search.restore('node0_edge0', 'op0')

    def _state(self, at, end):
        modules = [module for module in end.network.modules() if isinstance(module, (nn.BatchNorm1d, nn.Linear))]
        return {'random': torch.get_rng_state().tolist(), 'modes': [module.training for module in modules],
                'weights': [value.tolist() for module in modules for value in module.state_dict().values()],
                'logits': [parameter.tolist() for parameter in end.logits]}


def test_a_method_evaluates_the_supernet_without_a_trace(searched):
    method, log = Evaluating(), Log()
    found, plain = searched([method, log], data=batches(3)), searched([], data=batches(3))
    assert method._found[0] == method._found[1] != method._found[2] and method._changed == []
    assert ('after', READING, 0, 1, None) in log.said
    for name in ('weights', 'architecture', 'history'):
        assert found.get(name) == plain.get(name)


def test_what_a_method_selects_of_the_inputs_is_derived_recorded_and_resumed(tmp_path):
    class Second(Method):
        def after_epoch(self, at, end):
            at.search.selected = {'node0': [False, True]}
    options = dict(space=space, data=batches(2), epochs=1, run_dir=tmp_path)
    search = recorded_search.trainer('first order', methods=[Second()], **options)
    search.mutator.choices['node0_edge0'].data[0] = 9
    search.train()
    assert [kept.tolist() for key, kept in search.mutator.sample_final().items() if key == 'node0'] == [[False, True]]
    assert nni_darts_ext.core.files.parse((tmp_path / 'architecture.json').read_bytes()) == search.mutator.export()
    again = recorded_search.trainer('first order', methods=[Second()], **options)
    again.train()
    assert again.mutator.export() == search.mutator.export()


def test_an_error_of_a_relaxation_is_recorded_and_every_method_hears_of_it(tmp_path):
    class Failing(Softmax):
        def relax(self, logits, at):
            raise ZeroDivisionError('on purpose')

        def end(self, error=None):
            raise KeyError('in the end')
    with pytest.raises((ZeroDivisionError, KeyError)):
        by_trainer([Failing()], run_dir=tmp_path)
    state = Run.read(tmp_path).state
    assert state.status == 'failed' and 'on purpose' in state.error


# In a loop of one's own ---------------------------------------------------------------------------------------------------

def test_a_mutator_weighs_by_its_methods_and_gives_their_regularizer(caplog):
    model = space()
    mutator = DartsMutator(model, methods=[Decay(), Phases()])
    method = mutator.methods.all[1]
    for is_training in (True, False):
        model.train(is_training)
        mutator.reset()
        model(torch.randn(4, 3))
    assert method.phases == [WEIGHTS, VALIDATION]
    mutator.methods.move(phase=ARCHITECTURE)
    term = mutator.regularizer()
    expected = sum((logits ** 2).sum() for logits in mutator.parameters()) / 2
    assert torch.allclose(term, expected)
    for _ in range(9):
        mutator.reset()
    assert 'regulariser' not in caplog.text
    for _ in range(9):
        mutator.reset()
    assert caplog.text.count('is unused. Add mutator.regularizer()') == 1
    assert DartsMutator(space()).regularizer() == 0


class Across(Method):
    """The weights of all edges together add up to 1."""

    def relax(self, logits, at):
        total = sum(of_edge.exp().sum() for of_edge in logits.values())
        return {key: of_edge.exp() / total for key, of_edge in logits.items()}


def test_what_is_read_is_weighed_for_all_edges_together():
    mutator = DartsMutator(space(), methods=[Across()])
    weights = mutator.probabilities()
    assert sum(float(of_edge.sum()) for of_edge in weights.values()) == pytest.approx(1)
    assert {key: of_edge.tolist() for key, of_edge in mutator.sample_search().items() if key in weights} == {
        key: of_edge[:-1].tolist() for key, of_edge in weights.items()}


class Phases(Method):
    """Notes the phases of passes."""

    def __init__(self):
        self.phases = []

    def reweigh(self, weights, at):
        self.phases.append(at.phase)
        return weights


# What cannot be -----------------------------------------------------------------------------------------------------------

class Own(Softmax):
    pass


class NotWithDecay(Method):
    conflicts = ('Decay',)


REFUSED = [
    (Eigenvalue(), 'is not a list'), ('Shrinking', 'is not a list'), ([Shrinking], 'Shrinking in methods is a class'),
    (['Shrinking'], "'Shrinking' in methods is not a method"),
    ([Decay(), Decay()], r'Decay\(.*\) and Decay.* one method of a name'),
    ([Softmax(), Own()], r'Softmax\(\) and Own\(\) cannot be combined: both decide the weights'),
    ([Decay(), NotWithDecay()], r'Decay\(.*\) and NotWithDecay\(\) cannot be combined')]


@pytest.mark.parametrize('methods, message', REFUSED, ids=str)
def test_methods_that_cannot_be_are_refused_by_name_at_construction(methods, message):
    with pytest.raises(MethodError, match=message):
        recorded_search.trainer('first order', methods=methods)
    with pytest.raises(MethodError, match=message):
        DartsMutator(space(), methods=methods)


@pytest.mark.family('nas', 'lightning')
@pytest.mark.parametrize('methods, message', REFUSED, ids=str)
def test_and_by_the_strategy(methods, message):
    with pytest.raises(MethodError, match=message):
        nni_darts_ext.DARTS(methods=methods)


@pytest.mark.parametrize('method', [Eigenvalue(), Shrinking({1: 1}), OnlyFirst(), WithoutSteps()], ids=str)
def test_a_mutator_alone_has_no_epochs(method):
    with pytest.raises(MethodError, match='needs the epochs and steps.*unknown to DartsMutator. Pass it to DartsTrainer'):
        DartsMutator(space(), methods=[method])


def test_parameters_that_are_no_list_are_named():
    class One(Method):
        def parameters(self):
            return nn.Parameter(torch.ones(1))
    with pytest.raises(MethodError, match=r'parameters\(\) of One is a Parameter'):
        DartsMutator(space(), methods=[One()])


def test_a_method_belongs_to_one_search():
    method = Decay()
    DartsMutator(space(), methods=[method])
    with pytest.raises(MethodError, match='already belongs to another search'):
        DartsMutator(space(), methods=[method])


def trainer_of(mutator, **more):
    model = mutator.model
    return nni_darts_ext.DartsTrainer(model, nn.functional.cross_entropy, None, torch.optim.SGD(model.parameters(), 0.05), 1,
                                      list(zip(*batches(2))), mutator=mutator, device='cpu', progress=False, **more)


def test_a_second_trainer_of_a_mutator_has_its_methods_and_not_those_of_the_first(tmp_path):
    mutator = DartsMutator(space().double(), methods=[Scaled()])
    for i, methods in enumerate(([Shrinking({1: 1})], [Softmax()])):
        trainer = trainer_of(mutator, methods=methods, run_dir=tmp_path / str(i))
        assert [type(method) for method in trainer.steps.methods][1:-1] == [Scaled, *map(type, methods)]
    trainer.train()
    assert len(Run.read(tmp_path / '1').epochs) == 1


def test_a_copied_mutator_keeps_what_its_methods_have_learned():
    mutator = DartsMutator(space().double(), methods=[Scaled()])
    mutator.methods.parameters()[0].data.fill_(2)
    try:
        copied = copy.deepcopy(mutator)
    except (NotImplementedError, TypeError):
        pytest.skip("classic NNI's choices and Retiarii's before 2.6 refuse copies")
    learned, = trainer_of(copied).steps.methods.parameters()
    assert learned.item() == 2
    assert any(learned is parameter for parameter in copied.parameters())
    assert mutator.methods.parameters()[0] is not learned


@pytest.mark.parametrize('method', [Softmax, EdgeNormalization])
def test_a_copy_of_the_model_alone_runs(method):
    model = space()
    mutator = DartsMutator(model, methods=[method()])
    mutator.reset()
    try:
        copied = copy.deepcopy(model)
    except (NotImplementedError, TypeError):
        pytest.skip("classic NNI's choices and Retiarii's before 2.6 refuse copies")
    (x, _), = (training for training, _ in batches(1))
    assert torch.equal(copied(x.float()), model(x.float()))


@pytest.mark.parametrize('method', [GumbelSoftmax, Dirichlet, RandomPerturbation])
def test_a_copy_of_the_model_alone_samples_in_training_mode_only(method):
    search = recorded_search.trainer('first order', space=space, data=batches(2), epochs=1, methods=[method()])
    search.train()
    try:
        copied = copy.deepcopy(search.model)
    except (NotImplementedError, TypeError):
        pytest.skip("classic NNI's choices and Retiarii's before 2.6 refuse copies")
    (x, _), = (training for training, _ in batches(1))
    for part in (copied, search.model, search.mutator):
        part.eval()
    expected = search.model(x)
    assert torch.equal(copied(x), expected)
    copied.train()
    assert not torch.equal(copied(x), expected)


def test_an_epoch_that_is_called_for_by_itself_refuses_what_has_no_effect_in_it(tmp_path):
    for options, named in (({'methods': [BetaDecay()]}, 'BetaDecay'), ({'methods': [Eigenvalue()]}, 'Eigenvalue'),
                           ({'run_dir': tmp_path / 'run'}, 'run_dir')):
        with pytest.raises(MethodError, match=f'{named}.* has no effect in an epoch that is called for by itself. Call train()'):
            trainer_of(DartsMutator(space().double()), **options).train_one_epoch(0)
    trainer = trainer_of(DartsMutator(space().double()), methods=[Warmup(1)])
    before = trainer.mutator.choices.state_dict()
    trainer.train_one_epoch(0)
    assert all(torch.equal(value, before[name]) for name, value in trainer.mutator.choices.state_dict().items())


class Counting(Method):
    def __init__(self):
        self._epochs = []

    def after_epoch(self, at, end):
        self._epochs.append(at.epoch)

    def state_dict(self):
        return {'epochs': self._epochs}

    def load_state_dict(self, state):
        self._epochs = state['epochs']


def test_a_trainer_that_starts_again_gives_its_methods_their_first_state():
    method = Counting()
    trainer = trainer_of(DartsMutator(space().double()), methods=[method])
    for _ in range(3):
        trainer.train()
        assert method._epochs == [0]
    trainer.num_epochs = 2  # goes on with what there is
    trainer.train()
    assert method._epochs == [0, 1]


@pytest.mark.parametrize('answer, found', [
    (lambda logits: {key: of_edge.sigmoid()[:-1] for key, of_edge in logits.items()}, r'weights of shape \(3,\)'),
    (lambda logits: {key: of_edge.tolist() for key, of_edge in logits.items()}, 'a list'),
    (lambda logits: {}, 'no weights'), (lambda logits: None, 'no weights')])
def test_weights_that_are_none_are_named(answer, found):
    class Lacking(Method):
        def relax(self, logits, at):
            return answer(logits)
    model = space()
    mutator = DartsMutator(model, methods=[Lacking()])
    with pytest.raises(ValueError, match=rf"Lacking\(\)\] gives {found} for 'node0_edge0'"):
        mutator.reset()
        model(torch.randn(4, 3))


def test_weights_that_cannot_be_recorded_end_the_search(tmp_path):
    class Infinite(Softmax):
        def relax(self, logits, at):
            return {key: of_edge * math.inf if at.phase == READING and at.epoch == 1 else of_edge.softmax(0)
                    for key, of_edge in logits.items()}
    with pytest.raises(nni_darts_ext.LogitsError, match='Expected finite numbers'):
        by_trainer([Infinite()], epochs=2, run_dir=tmp_path)
    assert [epoch.epoch for epoch in Run.read(tmp_path).epochs] == [0]


@pytest.mark.parametrize('hook, returned, expected', [
    ('after_epoch', False, 'returned False. Expected why the search ends, a string, or None'),
    ('after_epoch', True, 'returned True. Expected why the search ends'),
    ('takes_architecture_step', None, 'returned None. Expected True or False')])
def test_what_a_hook_must_not_return_is_named(searched, hook, returned, expected):
    method = type('Odd', (Method,), {hook: lambda self, *args: returned})()
    with pytest.raises(MethodError, match=rf'{hook}\(\) of Odd\(\) {expected}'):
        searched([method])


def test_a_regularizer_that_is_infinite_for_a_cut_is_named():
    class Squares(Method):
        def regularizer(self, logits, at):
            return sum(of_edge.square().sum() for of_edge in logits.values())
    with pytest.raises(TrainingError, match='The regulariser in step 0 of epoch 1 .* is inf'):
        by_trainer([Squares(), Shrinking({1: 1})], epochs=2)


def test_a_pass_that_a_user_makes_between_the_steps_is_of_no_reading():
    phases = []

    class Phases(Method):
        def reweigh(self, weights, at):
            phases.append(at.phase)
            return weights

    class Validates:
        def build(self, model, mutator, trainer):
            self.parts = model, mutator

        def on_epoch_begin(self, epoch):
            pass

        def on_epoch_end(self, epoch):
            model, mutator = self.parts
            del phases[:]
            for mode in (True, False):
                model.train(mode)
                mutator.train(mode)
                mutator.reset()
                model(batches(1)[0][0][0])
    trainer_of(DartsMutator(space().double()), methods=[Phases()], callbacks=[Validates()]).train()
    assert phases == [WEIGHTS, VALIDATION]


def test_a_regularizer_that_is_no_scalar_is_named():
    class Wrong(Method):
        def regularizer(self, logits, at):
            return [1]
    with pytest.raises(MethodError, match=r'The regulariser of Wrong\(\) is \[1\]'):
        by_trainer([Wrong()])
