"""Random architectures, with which a search is to be compared (A. Yang et al., "NAS evaluation is frustratingly hard", ICLR 2020,
arXiv 1912.12522; M. Lindauer, F. Hutter, "Best practices for scientific research on neural architecture search", JMLR 2020,
arXiv 1909.02453).
"""

from __future__ import annotations

import random

from .derivation import Derivation, derive
from .space import SearchSpace


def draw(space: SearchSpace, seed: int) -> Derivation:
    """Draw an architecture: for each edge a candidate, for each InputNode ``n_chosen`` inputs, uniformly and independently.

    The zero op is not drawn. As in a derived architecture, an edge whose output nothing reads keeps no candidate.

    Parameters
    ----------
    space
        The search space.
    seed
        The same seed draws the same architecture, on every version of Python.
    """
    generator = random.Random(seed)
    best = {key: generator.randrange(len(edge.names)) for key, edge in space.edges.items()}
    weights = {key: [float(i == best[key]) for i in range(len(edge.names) + 1)] for key, edge in space.edges.items()}
    selected = {}
    for key, node in space.inputs.items():
        n = len(node.choose_from)
        chosen = generator.sample(range(n), n if node.n_chosen is None else node.n_chosen)
        selected[key] = [i in chosen for i in range(n)]
    return derive(space, weights, selected=selected)
