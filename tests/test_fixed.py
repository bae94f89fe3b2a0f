"""Architectures applied to models of the installed NNI."""

import json

import pytest
import torch
from spaces import TWO_NODES, Cells
from torch import nn

import nni_darts_ext.nn as dnn
from nni_darts_ext import (
    ArchitectureError,
    DartsMutator,
    SearchSpaceError,
    apply_fixed_architecture,
    random_architecture,
)


def searched(named=True):
    """A supernet with logits as a search may leave them."""
    torch.manual_seed(0)
    model = Cells(TWO_NODES, cells=2, named=named)
    mutator = DartsMutator(model)
    for logits in mutator.choices.values():
        logits.data = torch.randn(len(logits))
    return model, mutator


def by_hand(model, mutator, x):
    """What the derived network must compute: the kept candidate of each kept edge, the kept edges added up."""
    decisions = mutator.sample_final()
    candidates = {key: decision.tolist().index(True) for key, decision in decisions.items()
                  if key in mutator.choices and decision.any()}
    for cell in model.cells:
        states = [x, torch.sin(x)]
        for i, edges in enumerate(cell.edges):
            kept = decisions['node{}'.format(i)].tolist()
            states.append(sum(list(edge.children())[candidates['node{}_edge{}'.format(i, j)]](states[j % len(states)])
                              for j, edge in enumerate(edges) if kept[j]))
        x = states[-1]
    return model.classifier(x)


@pytest.mark.parametrize('named', [True, False])
@pytest.mark.parametrize('form', ['classic', 'sample'])
def test_the_network_computes_what_was_chosen_and_holds_nothing_else(form, named, tmp_path):
    model, mutator = searched(named)
    x = torch.randn(5, 3)
    expected = by_hand(model.eval(), mutator, x)
    file = tmp_path / 'architecture.json'
    file.write_text(json.dumps(mutator.export(form)))

    found = Cells(TWO_NODES, cells=2, named=named)
    found.load_state_dict(model.state_dict())
    assert apply_fixed_architecture(found, file) is found
    assert torch.equal(found.eval()(x), expected)
    found.train()(x).sum().backward()
    assert all(parameter.grad is not None for parameter in found.parameters())  # every parameter is used

    assert torch.equal(apply_fixed_architecture(model, mutator.export(form))(x), expected)  # a searched model also works


def test_a_model_that_is_none_is_refused():
    with pytest.raises(SearchSpaceError, match='no LayerChoice'):
        apply_fixed_architecture(nn.Linear(1, 1), {})


def test_an_architecture_of_another_model_is_refused_and_changes_nothing():
    _, mutator = searched()
    architecture = mutator.export()
    del architecture['node0']
    fresh = Cells(TWO_NODES, cells=2, named=True)
    before = list(fresh.modules())
    with pytest.raises(ArchitectureError, match=r"keys \['node0'\] are missing, \['node9'\] are unexpected"):
        apply_fixed_architecture(fresh, {**architecture, 'node9': []})
    assert list(fresh.modules()) == before


@pytest.mark.parametrize('verbose', [True, False])
def test_verbose_says_what_was_applied_and_nothing_else(verbose, caplog):
    _, mutator = searched()
    architecture = mutator.export()
    del architecture['node0']
    with caplog.at_level('INFO', 'nni_darts_ext'), pytest.raises(ArchitectureError, match='missing'):
        apply_fixed_architecture(Cells(TWO_NODES, cells=2, named=True), architecture, verbose)  # here NNI's own is not strict
    with caplog.at_level('INFO', 'nni_darts_ext'):
        apply_fixed_architecture(Cells(TWO_NODES, cells=2, named=True), mutator.export(), verbose=verbose)
    assert ('node0' in caplog.text) == verbose


class Guarded(dnn.ModelSpace):
    """Inputs without named sources, and operations between them and the edges."""

    def __init__(self):
        super().__init__()
        self.a = dnn.LayerChoice([nn.Linear(3, 3), nn.Identity()], key='a')
        self.b = dnn.LayerChoice([nn.Linear(3, 3), nn.Identity()], key='b')
        self.pick = dnn.InputChoice(2, n_chosen=1, key='pick')

    def forward(self, x):
        return self.pick([y if y is None else torch.relu(y) for y in (self.a(x), self.b(x))])


class Dynamic(Guarded):
    """Cannot be traced, because its control flow depends on data."""

    def forward(self, x):
        assert x.abs().max() < 1e9
        return super().forward(x)


def test_edges_that_nothing_reads_are_dropped_where_the_model_can_be_traced():
    x = torch.randn(2, 3)
    for made in (apply_fixed_architecture(Guarded(), {'a': 0, 'b': 1, 'pick': [1]}),
                 apply_fixed_architecture(Guarded(), {'a': [], 'b': 1, 'pick': 1}),
                 apply_fixed_architecture(Dynamic(), {'a': [], 'b': 1, 'pick': 1})):
        assert not list(made.parameters())
        assert torch.equal(made(x), torch.relu(x))
    kept = apply_fixed_architecture(Dynamic(), {'a': 0, 'b': 1, 'pick': [1]})
    assert len(list(kept.parameters())) == 2 and torch.equal(kept(x), torch.relu(x))


class Between(dnn.ModelSpace):
    """The layers between the edges and the InputChoice do not handle dropped edges, and change if they run."""

    def __init__(self):
        super().__init__()
        self.stride = dnn.LayerChoice([nn.Conv2d(2, 4, 3, 2, 1), nn.Conv2d(2, 4, 1, 2)], key='stride')
        self.other = dnn.LayerChoice([nn.Conv2d(2, 4, 3, 2, 1), nn.Conv2d(2, 4, 1, 2)], key='other')
        self.norms = nn.ModuleList([nn.BatchNorm2d(4), nn.BatchNorm2d(4)])
        self.pick = dnn.InputChoice(2, n_chosen=1, key='pick')

    def forward(self, x):
        found = [self.stride(x), self.other(x)]
        found = [norm(value) for norm, value in zip(self.norms, found)]
        dropped_path = [value / 0.5 * torch.bernoulli(torch.full_like(value[:, :1, :1, :1], 0.5)) for value in found]
        return self.pick([value.reshape(value.shape[0], 4, -1).transpose(1, 2) for value in dropped_path])


@pytest.mark.parametrize('form', ['classic', 'sample'])
def test_what_lies_between_a_dropped_edge_and_an_input_choice_does_not_run(form):
    torch.manual_seed(0)
    model = Between()
    mutator = DartsMutator(model)
    mutator.choices['other'].data = torch.tensor([0., 2., 0.])
    mutator.reset()
    x = torch.randn(4, 2, 6, 6)
    model(x)
    found = apply_fixed_architecture(Between(), mutator.export(form))
    assert found(x).shape == (4, 9, 4)
    assert [norm.num_batches_tracked.item() for norm in found.norms] == [1, 1]
    assert torch.equal(found.norms[0].running_mean, torch.zeros(4))  # the layer of the dropped edge
    assert not torch.equal(found.norms[1].running_mean, torch.zeros(4))
    assert {name.split('.')[0] for name, _ in found.named_parameters()} == {'other', 'norms'}


class Chain(dnn.ModelSpace):
    """A skip connection: the second edge reads the first."""

    def __init__(self, is_named):
        super().__init__()
        self.l1 = dnn.LayerChoice([nn.Linear(3, 3), nn.Identity()], key='l1')
        self.l2 = dnn.LayerChoice([nn.Linear(3, 3), nn.Identity()], key='l2')
        self.pick = dnn.InputChoice(2, choose_from=['l1', 'l2'] if is_named else None, n_chosen=1, key='pick')

    def forward(self, x):
        x1 = self.l1(x)
        x2 = self.l2(x1)
        return self.pick([x1, x2])


@pytest.mark.parametrize('is_named', [True, False])
def test_an_edge_that_another_edge_reads_stays(is_named):
    torch.manual_seed(0)
    model = Chain(is_named)
    mutator = DartsMutator(model)
    mutator.choices['l2'].data = torch.tensor([2., 0., 0.])
    mutator.reset()
    x = torch.randn(4, 3)
    model(x)
    assert mutator.sample_final()['l1'].tolist() == [True, False] or mutator.sample_final()['l1'].tolist() == [False, True]
    for form in ('classic', 'sample'):
        fresh = Chain(is_named)
        fresh.load_state_dict(model.state_dict())
        best = int(mutator.choices['l1'][1] > mutator.choices['l1'][0])
        expected = next(model.l2.children())(list(model.l1.children())[best](x))
        assert torch.equal(apply_fixed_architecture(fresh, mutator.export(form))(x), expected)
    mutator.choices['l1'].data = torch.tensor([3., 0., 0.])
    assert mutator.export()['l2'] == []  # nothing reads l2


def test_an_input_choice_cannot_keep_an_edge_that_is_dropped():
    with pytest.raises(ArchitectureError, match="'pick' keeps the input from LayerChoice 'l2', which the architecture drops"):
        apply_fixed_architecture(Chain(True), {'l1': 0, 'l2': [], 'pick': 'l2'})
    found = apply_fixed_architecture(Chain(False), {'l1': [], 'l2': 0, 'pick': 1})  # its InputChoice names no sources
    with pytest.raises(ArchitectureError, match="'pick' keeps its candidate 1, which is computed from a LayerChoice that"):
        found(torch.randn(2, 3))


class Repeated(dnn.ModelSpace):
    """One LayerChoice in many places."""

    def __init__(self):
        super().__init__()
        edge = dnn.LayerChoice([nn.Linear(3, 3), nn.Tanh(), nn.Sigmoid()], key='a')
        self.layers = nn.Sequential(edge, nn.ReLU(), edge)
        self.again = nn.ModuleList([edge, edge])
        self.plain = [edge, (edge, {'edge': edge})]

    def forward(self, x):
        x = self.again[1](self.again[0](self.layers(x)))
        return self.plain[1][1]['edge'](self.plain[1][0](self.plain[0](x)))


@pytest.mark.parametrize('index', [0, 1, 2])
def test_every_use_of_a_choice_is_what_was_chosen(index):
    torch.manual_seed(0)
    model = Repeated()
    chosen = list(model.again[0].children())[index]
    x = torch.randn(2, 3)
    expected = chosen(torch.relu(chosen(x)))
    for _ in range(5):
        expected = chosen(expected)
    found = apply_fixed_architecture(model, {'a': index})
    assert torch.equal(found(x), expected)
    assert len(list(found.parameters())) == (2 if index == 0 else 0)


class Closure(dnn.ModelSpace):
    """Calls its LayerChoice through a closure."""

    def __init__(self):
        super().__init__()
        self.edge = edge = dnn.LayerChoice([nn.Tanh(), nn.Sigmoid()], key='a')
        self.call = lambda x: edge(x)

    def forward(self, x):
        return self.call(x)


def test_what_calls_a_choice_through_a_closure_calls_what_was_chosen():
    model, x = Closure(), torch.randn(2, 3)
    DartsMutator(model).reset()  # classic choices run only under a mutator
    assert torch.equal(apply_fixed_architecture(model, {'a': 1})(x), torch.sigmoid(x))


@pytest.mark.family('classic', 'retiarii')  # those of NNI 3.0 need a ModelSpace
def test_a_model_that_is_a_choice_becomes_what_was_chosen():
    x = torch.randn(2, 3)
    found = apply_fixed_architecture(dnn.LayerChoice([nn.Tanh(), nn.Sigmoid()], key='a'), {'a': 1})
    assert isinstance(found, nn.Sigmoid) and torch.equal(found(x), torch.sigmoid(x))
    found = apply_fixed_architecture(nn.Sequential(dnn.LayerChoice([nn.Tanh()], key='a')), {'a': 0})
    assert torch.equal(found(x), torch.tanh(x))


class Hidden(dnn.ModelSpace):
    def __init__(self):
        super().__init__()
        self.seen = dnn.LayerChoice([nn.Tanh()], key='seen')
        self.hidden = {'list': [dnn.LayerChoice([nn.Tanh()], key='hidden')]}


def test_a_choice_that_no_module_has_registered_is_refused():
    for use in (DartsMutator, lambda model: apply_fixed_architecture(model, {'seen': 0})):
        with pytest.raises(SearchSpaceError, match="'hidden' is in a plain list, tuple or dict.*ModuleList"):
            use(Hidden())


class WithItsInput(dnn.ModelSpace):
    def __init__(self, choose_from, n_chosen):
        super().__init__()
        self.a = dnn.LayerChoice([nn.Linear(3, 3), nn.Identity()], key='a')
        self.pick = dnn.InputChoice(choose_from=choose_from, n_chosen=n_chosen, key='pick')

    def forward(self, x):
        return self.pick([self.a(x), x][:self.pick_from])

    @property
    def pick_from(self):
        return 2 if self.both else 1


@pytest.mark.parametrize('choose_from, n_chosen', [(['a', ''], 2), (['a', ''], None), ([''], 1), (['', ''], 1)])
@pytest.mark.parametrize('form', ['classic', 'sample'])
def test_inputs_without_a_key_are_applied_as_they_are_exported(choose_from, n_chosen, form):
    def made():
        model = WithItsInput(choose_from, n_chosen)
        model.both = len(choose_from) == 2
        return model
    torch.manual_seed(0)
    model = made()
    mutator = DartsMutator(model)
    mutator.choices['a'].data = torch.tensor([0., 2., 0.])
    mutator.reset()
    x = torch.randn(2, 3)
    model(x)
    expected = 2 * x if choose_from == ['a', ''] else x
    assert torch.equal(apply_fixed_architecture(made(), mutator.export(form))(x), expected)


class Zeros(dnn.ModelSpace):
    """Two nodes that share an edge, and an edge of its own before them."""

    def __init__(self, reduction='sum'):
        super().__init__()
        self.stem = dnn.LayerChoice([nn.Linear(3, 3), nn.Identity()], key='stem')
        self.a = dnn.LayerChoice([nn.Linear(3, 3), nn.Identity()], key='a')
        self.b = dnn.LayerChoice([nn.Linear(3, 3), nn.Identity()], key='b')
        self.one = dnn.InputChoice(choose_from=['a', 'b'], key='one', reduction=reduction)
        self.two = dnn.InputChoice(choose_from=['a'], key='two', reduction=reduction)

    def forward(self, x):
        x = self.stem(x)
        a = self.a(x)
        return torch.cat([self.one([a, self.b(x)]), self.two([a])], dim=1)


@pytest.mark.parametrize('zero, decided', [
    ('b', {'stem': True, 'a': True, 'b': False, 'one': [True, False]}),
    ('stem', {'stem': True, 'a': True, 'b': True, 'one': [True, True]}),  # the other edges read it
    ('a', {'stem': True, 'a': True, 'b': True, 'one': [False, True]}),  # it is the only input of node two
])
def test_where_the_zero_op_wins_there_is_one_network_that_runs(zero, decided):
    torch.manual_seed(0)
    model = Zeros()
    mutator = DartsMutator(model, zero_op_wins=True)
    mutator.choices[zero].data = torch.tensor([0., 1., 5.])
    mutator.reset()
    x = torch.randn(2, 3)
    model(x)
    final = {key: decision.tolist() for key, decision in mutator.sample_final().items()}
    assert {key: any(final[key]) if key in mutator.choices else final[key] for key in decided} == decided
    found = []
    for form in ('classic', 'sample'):
        fresh = Zeros()
        fresh.load_state_dict(model.state_dict())
        found.append(apply_fixed_architecture(fresh, mutator.export(form)))
    assert torch.equal(found[0](x), found[1](x))
    assert [name for name, _ in found[0].named_parameters()] == [name for name, _ in found[1].named_parameters()]


def test_the_zero_op_takes_no_input_from_a_concatenation():
    mutator = DartsMutator(Zeros('concat'), zero_op_wins=True)
    mutator.choices['b'].data = torch.tensor([0., 1., 5.])
    assert mutator.sample_final()['one'].tolist() == [True, True]
    assert mutator.export()['b'] == 1


class InPlace(dnn.ModelSpace):
    """Two edges read the same tensor, which the first would overwrite."""

    def __init__(self):
        super().__init__()
        self.a = dnn.LayerChoice([nn.Sequential(nn.ReLU(inplace=True), nn.Linear(3, 3)), nn.Identity()], key='a')
        self.b = dnn.LayerChoice([nn.Identity(), nn.Tanh()], key='b')

    def forward(self, x):
        return self.a(x) + self.b(x)


def test_a_candidate_that_works_in_place_leaves_its_input_to_other_edges():
    torch.manual_seed(0)
    found = apply_fixed_architecture(InPlace(), {'a': 0, 'b': 0})
    x = torch.randn(4, 3)
    kept = x.clone()
    expected = found.a[1](torch.relu(x)) + x
    assert torch.equal(found(x), expected) and torch.equal(x, kept)


class Read(dnn.ModelSpace):
    """Edge a is read by the InputChoice, which keeps b, and in another way."""

    def __init__(self, how):
        super().__init__()
        self.a = dnn.LayerChoice([nn.Linear(3, 3), nn.Sequential(nn.Linear(3, 3), nn.Tanh())], key='a')
        self.b = dnn.LayerChoice([nn.Linear(3, 3), nn.Identity()], key='b')
        self.pick = dnn.InputChoice(choose_from=['a', 'b'], n_chosen=1, key='pick')
        self.how, self.seen, self.n = how, [], 0

    def forward(self, x, doubled=False):
        a, h = self.a(x), x.clone()
        extra = torch.zeros(())
        if self.how == 'written into another tensor':
            h.add_(a)
        elif self.how == 'without gradient':
            extra = a.detach().mean()
        elif (self.how == 'in evaluation' and not self.training) or (self.how == 'under a flag' and doubled):
            extra = a
        elif self.how == 'by index':
            extra = x.gather(1, a.argmax(1)[:, None])
        if self.how != 'by index':
            self.seen.append(a)
            self.n += 1
        return self.pick([a, self.b(x)]) + h + extra


SEEN = ['written into another tensor']
UNSEEN = ['without gradient', 'in evaluation', 'under a flag', 'by index']
"""Reads that the first forward pass of a search does not find."""


@pytest.mark.parametrize('form, how', [*(('classic', how) for how in SEEN), *(('sample', how) for how in SEEN + UNSEEN)])
def test_an_edge_stays_that_is_read_in_any_way(form, how):
    model, mutator, x = read(how)
    fresh = Read(how)
    fresh.load_state_dict(model.state_dict())
    found = apply_fixed_architecture(fresh, mutator.export(form))
    assert not found.seen and found.n == 0  # tracing does not change the model
    for network in (found, found.eval()):
        a, h = found.a(x), x.clone()
        extra = {'without gradient': a.mean(), 'in evaluation': 0 if network.training else a, 'under a flag': a,
                 'by index': x.gather(1, a.argmax(1)[:, None])}.get(how, a)
        torch.testing.assert_close(network(x, how == 'under a flag'), found.b(x) + h + extra)


@pytest.mark.parametrize('how', UNSEEN)
def test_a_read_that_a_search_does_not_see_is_reported_where_its_edge_is_dropped(how, caplog):
    _, mutator, _ = read(how)
    assert mutator.export()['a'] == []
    apply_fixed_architecture(Read(how), mutator.export())
    assert "drops 'a', which the model seems to read outside its InputChoices" in caplog.text


def read(how):
    torch.manual_seed(0)
    model, x = Read(how), torch.randn(4, 3)
    mutator = DartsMutator(model)
    mutator.choices['a'].data = torch.tensor([1., 0., 0.])
    mutator.choices['b'].data = torch.tensor([3., 0., 0.])
    mutator.reset()
    model(x)
    return model, mutator, x


def test_what_a_dropped_edge_gives_follows_the_network_and_has_no_numbers():
    architecture = {'stride': [], 'other': 1, 'pick': 1}
    x = torch.randn(4, 2, 6, 6)
    assert apply_fixed_architecture(Between(), architecture).double()(x.double()).dtype == torch.float64
    assert apply_fixed_architecture(Between(), architecture).eval()(x[:1]).shape == (1, 9, 4)
    absent = apply_fixed_architecture(Between(), architecture).stride(x)
    assert absent.shape == (4, 4, 3, 3)
    with pytest.raises((ArchitectureError, RuntimeError)):
        absent.tolist()
    with pytest.raises((ArchitectureError, RuntimeError)):
        torch.equal(absent, absent)


def test_a_found_network_does_not_tell_the_search_what_reads_its_edges():
    model = Chain(True)
    mutator = DartsMutator(model)
    mutator.choices['l2'].data = torch.tensor([2., 0., 0.])
    mutator.name_readers({'l1': ['l2', ['pick', 0]], 'l2': [['pick', 1]]})
    before = mutator.export()
    apply_fixed_architecture(model, before)(torch.randn(4, 3))
    assert mutator.export() == before


@pytest.mark.parametrize('form', ['classic', 'sample'])
@pytest.mark.parametrize('space', [lambda: Cells(TWO_NODES, cells=2), lambda: Chain(True), Dynamic, Repeated])
def test_a_random_architecture_makes_a_network_that_runs_and_torch_draws_as_it_would_without_it(space, form):
    for seed in range(8):
        drawn = []
        for is_random in (True, False):
            torch.manual_seed(0)
            model = space()
            if is_random:
                architecture = random_architecture(model, seed, form)
                network = apply_fixed_architecture(model, json.loads(json.dumps(architecture)))
            drawn.append(torch.rand(2, 3))
        assert torch.equal(*drawn) and network(drawn[0]).isfinite().all()


def test_a_random_architecture_drops_what_nothing_reads_where_no_input_choice_names_a_source():
    drawn = [(random_architecture(Guarded(), seed), random_architecture(Chain(False), seed)) for seed in range(20)]
    assert all((guarded['a'] == [], guarded['b'] == []) == (guarded['pick'] == 1, guarded['pick'] == 0) for guarded, _ in drawn)
    assert all(chain['l1'] != [] and (chain['l2'] == []) == (chain['pick'] == 0) for _, chain in drawn)


def test_random_architectures_differ_and_stay_the_same_when_the_space_has_been_searched():
    model, mutator = searched()
    drawn = [random_architecture(model, seed) for seed in range(20)]
    assert drawn == [random_architecture(searched()[0], seed) for seed in range(20)]
    assert len({json.dumps(one) for one in drawn}) > 10 and all(set(one) == set(mutator.export()) for one in drawn)


def test_a_random_architecture_needs_a_space_and_a_form_that_is_known():
    with pytest.raises(ValueError, match="form='nas' is unknown. Expected one of "):
        random_architecture(searched()[0], 0, 'nas')
    with pytest.raises(SearchSpaceError):
        random_architecture(nn.Linear(2, 2), 0)
