"""Random search spaces: straight-line programs of LayerChoices, InputChoices and fixed operations, written for every NNI."""

from typing import NamedTuple, Tuple

import torch
from hypothesis import strategies as st
from torch import nn

import nni_darts_ext.nn as dnn

NO_KEY = dnn.InputChoice.NO_KEY
WIDTH = 3
OPERATIONS = {
    'relu': lambda a, b: torch.relu(a),
    'reshape': lambda a, b: a.reshape(-1, 1, WIDTH).flatten(1),
    'add': lambda a, b: a + b,
    'multiply': lambda a, b: a * torch.tanh(b),
}


class Edge(NamedTuple):
    """Calls a LayerChoice; two statements may call the same module, and two modules may share a key."""

    module: int
    read: int


class Pick(NamedTuple):
    key: str
    read: Tuple[int, ...]
    n_chosen: object
    reduction: str
    is_named: bool


class Operation(NamedTuple):
    name: str
    read: int
    other: int


class Program(NamedTuple):
    """Values are numbered in the order in which they are computed; value 0 is the input, value 1 its sine."""

    modules: Tuple[Tuple[str, int], ...]
    """For each LayerChoice its key and how many candidates it has."""
    statements: Tuple[object, ...]
    outputs: Tuple[int, ...]
    """The values that are added up in the end."""

    def run(self, x, edge, pick):
        """The program with the given meanings of its choices. What is computed from None is None."""
        values = [x, torch.sin(x)]
        for statement in self.statements:
            if isinstance(statement, Edge):
                values.append(edge(statement, values[statement.read]))
            elif isinstance(statement, Pick):
                values.append(pick(statement, [values[i] for i in statement.read]))
            else:
                operands = [values[statement.read], values[statement.other]]
                is_missing = operands[0] is None or (operands[1] is None and statement.name in ('add', 'multiply'))
                values.append(None if is_missing else OPERATIONS[statement.name](*operands))
        total = values[self.outputs[0]]
        for i in self.outputs[1:]:
            total = total + values[i]
        return total

    def sources(self, statement):
        """The key of the one LayerChoice behind each candidate, NO_KEY where there are none or several."""
        behind = [set(), set()]
        for one in self.statements:
            if isinstance(one, Edge):
                behind.append({self.modules[one.module][0]})
            elif isinstance(one, Pick):
                behind.append(set().union(*(behind[i] for i in one.read)))
            else:
                read = [one.read, one.other] if one.name in ('add', 'multiply') else [one.read]
                behind.append(set().union(*(behind[i] for i in read)))
        found = [behind[i] for i in statement.read]
        return [next(iter(keys)) if len(keys) == 1 else NO_KEY for keys in found]

    def is_straight(self):
        """Whether no fixed operation reads the output of a LayerChoice."""
        return not any(isinstance(one, Operation) for one in self.statements)


@st.composite
def programs(draw):
    keys = draw(st.lists(st.sampled_from('abcd'), min_size=1, max_size=5))
    sizes = {key: draw(st.integers(1, 3)) for key in sorted(set(keys))}
    n_values, statements = 2, []
    calls = [*range(len(keys)), *draw(st.lists(st.integers(0, len(keys) - 1), max_size=2))]  # each at least once, some again
    for module in draw(st.permutations(calls)):
        statements.append(Edge(module, draw(st.integers(0, n_values - 1))))
        n_values += 1
        for kind in draw(st.lists(st.sampled_from(['pick', 'operation']), max_size=2)):
            if kind == 'operation':
                statements.append(Operation(draw(st.sampled_from(sorted(OPERATIONS))), draw(st.integers(0, n_values - 1)),
                                            draw(st.integers(0, n_values - 1))))
            else:
                statements.append(_pick(draw, n_values, len(statements)))
            n_values += 1
    if draw(st.booleans()):
        statements.append(_pick(draw, n_values, len(statements)))
        n_values += 1
    outputs = draw(st.lists(st.integers(0, n_values - 1), max_size=2, unique=True))
    return Program(tuple((key, sizes[key]) for key in keys), tuple(statements),
                   tuple(dict.fromkeys([n_values - 1, *outputs])))


def _pick(draw, n_values, number):
    read = draw(st.lists(st.integers(0, n_values - 1), min_size=1, max_size=4))
    reduction = draw(st.sampled_from(['sum', 'sum', 'mean', 'concat']))
    n_chosen = None if reduction == 'concat' else draw(st.one_of(st.none(), st.integers(1, len(read))))
    return Pick('pick{}'.format(number), tuple(read), n_chosen, reduction, draw(st.booleans()))


class Model(dnn.ModelSpace):
    """The search space of a program. With ``is_dynamic`` its control flow depends on data, so that it cannot be traced."""

    def __init__(self, program, is_dynamic=False):
        super().__init__()
        self.program, self.is_dynamic = program, is_dynamic
        self.edges = nn.ModuleList([dnn.LayerChoice(_candidates(n), key=key) for key, n in program.modules])
        picks = [one for one in program.statements if isinstance(one, Pick)]
        self.picks = nn.ModuleList([
            dnn.InputChoice(choose_from=program.sources(one) if one.is_named else [NO_KEY] * len(one.read), key=one.key,
                            n_chosen=one.n_chosen, reduction=one.reduction) for one in picks])
        self.places = {one: i for i, one in enumerate(picks)}
        self.projections = nn.ModuleList([nn.Linear(WIDTH * len(one.read), WIDTH) if one.reduction == 'concat' else nn.Identity()
                                          for one in picks])

    def forward(self, x):
        if self.is_dynamic and x.abs().max() > 1e9:
            raise ValueError('too large')
        return self.program.run(x, self._edge, self._pick)

    def _edge(self, statement, value):
        return self.edges[statement.module](value)

    def _pick(self, statement, values):
        place = self.places[statement]
        return self.projections[place](self.picks[place](values))


def _candidates(n):
    return [nn.Linear(WIDTH, WIDTH), nn.Sequential(nn.Tanh(), nn.Linear(WIDTH, WIDTH)), nn.Identity()][:n]
