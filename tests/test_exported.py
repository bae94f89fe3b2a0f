"""What is exported runs: architectures of random spaces, applied by this package and by NNI, compute what was derived."""

import logging
import sys

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from programs import Edge, Model, Pick, programs

from nni_darts_ext import DartsMutator, apply_fixed_architecture, hosts

try:
    from nni_darts_ext import DARTS
except ImportError:  # this NNI has no strategies
    DARTS = None

CHECKED = settings(max_examples=200 if sys.version_info >= (3, 11) else 50, deadline=None, derandomize=True, database=None,
                   suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])


@pytest.fixture(autouse=True)
def _quiet():
    logging.disable(logging.WARNING)
    yield
    logging.disable(logging.NOTSET)


def searched(program, seed, zero_op_wins, is_dynamic, n_cuts):
    """A supernet after a forward pass, in double precision, with random logits of which some are cut."""
    torch.manual_seed(seed)
    model = Model(program, is_dynamic).double()
    mutator = DartsMutator(model, zero_op_wins=zero_op_wins)
    mutator.reset()
    decide(model, mutator, n_cuts)
    return model, mutator


def searched_by_strategy(program, seed, zero_op_wins, is_dynamic, n_cuts):
    """The same by the strategy of NNI 3.0."""
    torch.manual_seed(seed)
    strategy = DARTS(zero_op_wins=zero_op_wins)
    model = strategy.mutate_model(Model(program, is_dynamic)).double()
    decide(model, strategy.search, n_cuts)
    return model, strategy.search


def decide(model, search, n_cuts):
    for logits in search.choices.values():
        logits.data = 2 * torch.randn(len(logits)).to(logits.dtype)
    model(torch.randn(4, 3, dtype=torch.float64))
    for key in list(search.choices)[:n_cuts]:
        for index in range(len(search.choices[key]) - 2):  # all but one candidate and the zero op
            search.choices.cut(key, index)


def restricted(model, mutator, x):
    """The supernet with weight 1 for what was derived and 0 for the rest; None where nothing is left of an edge."""
    decisions = {key: decision.tolist() for key, decision in mutator.sample_final().items()}
    program = model.program

    def edge(statement, value):
        kept = decisions[program.modules[statement.module][0]]
        if not any(kept):
            return None
        assert value is not None, 'an edge that stays reads one that was dropped'
        candidates = list(model.edges[statement.module]._modules.values())
        return candidates[kept.index(True)](value)

    def pick(statement, values):
        kept = [value for value, is_kept in zip(values, decisions[statement.key]) if is_kept]
        assert kept and all(value is not None for value in kept), 'an input that is kept reads an edge that was dropped'
        reduced = {'sum': sum, 'mean': lambda parts: sum(parts) / len(parts),
                   'concat': lambda parts: torch.cat(parts, dim=1)}[statement.reduction](kept)
        return model.projections[model.places[statement]](reduced)
    return program.run(x, edge, pick)


def fresh(model):
    """A supernet with the same weights that nobody has searched."""
    made = Model(model.program, model.is_dynamic).double()
    assert not made.load_state_dict(model.state_dict(), strict=False).missing_keys
    return made


@pytest.mark.ends
@CHECKED
@given(programs(), st.integers(0, 2 ** 31), st.booleans(), st.booleans(), st.integers(0, 2))
def test_the_found_network_is_the_supernet_restricted_to_the_architecture(program, seed, zero_op_wins, is_dynamic, n_cuts):
    model, mutator = searched(program, seed, zero_op_wins, is_dynamic, n_cuts)
    x, expected = check_forms(model, mutator)
    found = apply_fixed_architecture(model, mutator.export(), verbose=False)  # a searched one will do, too
    torch.testing.assert_close(found(x), expected, rtol=1e-6, atol=1e-6)


@pytest.mark.ends
@pytest.mark.family('nas')
@CHECKED
@given(programs(), st.integers(0, 2 ** 31), st.booleans(), st.booleans(), st.integers(0, 2))
def test_so_it_is_with_what_a_strategy_finds(program, seed, zero_op_wins, is_dynamic, n_cuts):
    check_forms(*searched_by_strategy(program, seed, zero_op_wins, is_dynamic, n_cuts))


def check_forms(model, search):
    """Every form gives the network that computes what the restricted supernet does. Returns an input and that output."""
    x = torch.randn(2, 3, dtype=torch.float64)
    expected = restricted(model, search, x)
    names = {}
    for form in ('classic', 'sample'):
        found = apply_fixed_architecture(fresh(model), search.architecture(form), verbose=False)
        torch.testing.assert_close(found(x), expected, rtol=1e-6, atol=1e-6)
        names[form] = sorted(name for name, _ in found.named_parameters())
    if not model.is_dynamic:
        assert names['classic'] == names['sample']
    return x, expected


@pytest.mark.ends
@CHECKED
@given(programs(), st.integers(0, 2 ** 31), st.integers(0, 2))
def test_nni_makes_the_same_network_of_it(program, seed, n_cuts):
    model, mutator = searched(program, seed, False, False, n_cuts)
    x = torch.randn(2, 3, dtype=torch.float64)
    expected = restricted(model, mutator, x)
    ours = apply_fixed_architecture(fresh(model), mutator.export(mutator.form), verbose=False)
    theirs = made_by_nni(model, mutator, ours)
    if theirs is not None:
        torch.testing.assert_close(theirs(x), expected, rtol=1e-6, atol=1e-6)


def made_by_nni(model, mutator, ours):
    """NNI's own network of an architecture, with our weights; None where NNI has none: its dropped edges give None."""
    program = model.program
    if hosts.of_model(model).__name__.endswith('classic'):
        if not program.is_straight():
            return None
        from nni.nas.pytorch.fixed import apply_fixed_architecture as nnis
        found = fresh(model)
        nnis(found, mutator.export())
        return found
    if hosts.of_model(model).__name__.endswith('nas'):
        from nni.nas.space import model_context
        context = model_context(mutator.export('sample'))
    else:
        from nni.retiarii import fixed_arch
        context = fixed_arch(mutator.export('sample'), verbose=False)
    with context:
        found = Model(program).double()
    assert not found.load_state_dict(ours.state_dict(), strict=False).unexpected_keys
    return found


def test_the_spaces_are_what_they_are_meant_to_be():
    """Chains, keys that are shared, modules that are called twice, and edges with several readers do occur."""
    seen = {'a chain': False, 'a shared key': False, 'a module called twice': False, 'an edge with several readers': False}

    @settings(max_examples=100, deadline=None, derandomize=True, database=None)
    @given(programs())
    def look(program):
        edges = [one for one in program.statements if isinstance(one, Edge)]
        numbers = [i + 2 for i, one in enumerate(program.statements) if isinstance(one, Edge)]
        reads = [i for one in program.statements for i in (one.read if isinstance(one, Pick) else [one.read])]
        seen['a chain'] |= any(one.read in numbers for one in edges)
        seen['a shared key'] |= len({key for key, _ in program.modules}) < len(program.modules)
        seen['a module called twice'] |= len({one.module for one in edges}) < len(edges)
        seen['an edge with several readers'] |= any(reads.count(number) > 1 for number in numbers)
    look()
    assert all(seen.values()), seen
