"""What is measured, at which sizes, and how often."""

from functools import partial
from typing import Dict, NamedTuple

import measure
import sides
from problem import TINY, Problem
from report import CALLS, EPOCH, GRADIENT, GROWTH, LAUNCHES, SECOND_ORDER, STEP

SMALL = Problem(channels=4, cells=5, nodes=4, candidates=7, batch_size=2)
"""Its images are so small that what is done for each call of a layer takes as long as the layer."""
GROWN_FROM = Problem(channels=8, cells=3, nodes=3, candidates=7, batch_size=8)
SIZES = {'candidates': (2, 4, 7, 11, 16), 'nodes': (2, 3, 5, 7), 'channels': (4, 8, 16, 32), 'batch_size': (4, 8, 16, 32)}
QUICKLY_SMALL = SMALL._replace(channels=8, cells=3, nodes=1, candidates=2)  # with fewer, PyTorch may write beyond its memory
QUICKLY_GROWN_FROM = Problem(channels=8, cells=3, nodes=2, candidates=2, batch_size=2)
QUICK_SIZES = {'candidates': (2, 4), 'nodes': (2, 3), 'channels': (8, 16), 'batch_size': (2, 4)}

ON_GPU = (STEP, EPOCH, LAUNCHES)
"""What is measured on a GPU, at the paper's size, where no study is named."""


class Study(NamedTuple):
    """Sides that take turns at one problem."""

    name: str
    problem: Problem
    sides: Dict[str, sides.Side]
    rounds: int
    has_memory: bool = True


def studies(problem, rounds, small, grown_from, sizes):
    """All studies; ``rounds`` is how often each side takes a turn where that is short, and half of it where it is long."""
    fewer = max(1, rounds // 2)
    yield Study(STEP, problem, sides.first_order(), rounds)
    yield Study(CALLS, small, sides.in_calls(), 3 * rounds, has_memory=False)
    yield Study(LAUNCHES, small, sides.launching(), 0, has_memory=False)
    yield Study(SECOND_ORDER, problem, sides.second_order(), fewer)
    if sides.nni_has_second_order():  # once for each PyTorch is enough, for nothing of NNI's is in it
        yield Study(GRADIENT, problem, sides.architecture_gradient(), fewer)
    yield Study(EPOCH, problem, sides.epochs(), fewer, has_memory=False)
    grown = [grown_from._replace(**{field: size}) for field, of_field in sizes.items() for size in of_field]
    for grown_problem in dict.fromkeys(grown):
        yield Study(GROWTH, grown_problem, sides.to_grow(), fewer)


def peak_memories(study, device, processes):
    """For each side that has them the bytes of two turns, with all that they need. Before any turn is taken in this process."""
    sides = {name: side for name, side in study.sides.items() if side.has_memory or device.type != 'cpu'}
    for side in sides.values():
        side.build(TINY, device)  # so that what this imports need not be imported in each process anew
    runs, warm_ups = ({name: partial(_two_turns, side, problem, device) for name, side in sides.items()}
                      for problem in (study.problem, TINY))
    return measure.peak_memories(runs, warm_ups, device, processes)


def _two_turns(side, problem, device):
    turn = side.build(problem, device)
    turn()
    turn()


def seconds(study, device):
    """For each side the seconds of its turns."""
    return measure.in_turns({name: side.build(study.problem, device) for name, side in study.sides.items()}, study.rounds)


def counts(study, device):
    """For each side its :class:`launches.Counted`."""
    return {name: side.build(study.problem, device)() for name, side in study.sides.items()}
