"""What the record of a run says: whether the search has collapsed and since when, how decided each edge is, and what to try."""

from __future__ import annotations

from typing import AbstractSet, Dict, List, NamedTuple

from ..core.criteria import SKIP_CONNECTIONS, Criteria, Skips, is_skip, most_skips
from . import EPOCHS, RUNNING, Run

DECIDED, LEANING, UNDECIDED, UNMOVED = 'decided', 'leaning', 'undecided', 'unmoved'
GOOD, MAYBE, COLLAPSED, WARMING_UP = 'No collapse', 'Maybe', 'Collapsed', 'No architecture step yet'
DECIDED_EPOCHS, LEANING_EPOCHS = 10, 3
"""An edge is decided if its lead would last more than ten epochs in which its probabilities move as they did lately, leaning if
it would last more than three. The size of a lead alone says little: under a strong regulariser small leads persist."""


class Decision(NamedTuple):
    """How decided an edge is."""

    probability: float
    """The weight of its derived candidate, or of its best one if the edge is dropped."""
    lead: float
    """By how much this exceeds the weight of the next candidate; the zero op does not count."""
    word: str
    """``'decided'``, ``'leaning'``, ``'undecided'``, or ``'unmoved'`` if its weights do not change although it is undecided."""


class Verdict(NamedTuple):
    """The verdict on a run after its last epoch."""

    skips: Skips
    """The cell with the largest share of skip connections."""
    dominated: int
    """For how many epochs skip connections have dominated, without interruption until the last one."""
    warm_up: int
    """The number of epochs of a warm-up, whose architecture is that of the first logits."""
    unmoved: int
    """For how many epochs the probabilities have not moved although edges are undecided."""
    has_collapsed: bool
    """Whether skip connections have dominated for long enough."""
    decisions: Dict[str, Decision]
    """By edge."""
    word: str
    """The verdict in short: :data:`GOOD`, :data:`MAYBE` (skip connections have begun to dominate, or nothing moves),
    :data:`COLLAPSED` or :data:`WARMING_UP`."""
    sentences: List[str]
    """The verdict in words, and what to try."""


def verdict(run: Run, rule: Criteria = Criteria()) -> Verdict:  # noqa: B008  it is immutable
    """The verdict on a run that has at least one epoch.

    Parameters
    ----------
    run
        The run.
    rule
        When a search has collapsed. The default is that of NNI's assessor.
    """
    named = run.settings.get('skip_connections')
    names = {str(name).lower() for name in named} if isinstance(named, list) else SKIP_CONNECTIONS
    skips = [most_skips(run.space.edges, run.space.sources, epoch.architecture, names) for epoch in run.epochs]
    indicators = [{**epoch.indicators, 'skip_share': of_epoch.share} for epoch, of_epoch in zip(run.epochs, skips)]
    dominated, unmoved = rule.dominated(indicators), rule.unmoved(indicators)
    warm_up, has_collapsed = rule.warm_up(indicators), dominated >= rule.patience
    word = (WARMING_UP if warm_up == len(run.epochs) else COLLAPSED if has_collapsed else
            MAYBE if dominated or unmoved >= rule.patience else GOOD)
    found = Verdict(skips[-1], dominated, warm_up, unmoved, has_collapsed,
                    {key: decision(run, key, rule) for key in run.space.edges}, word, [])
    found.sentences.extend(_sentences(run, rule, found, names))
    return found


def decision(run: Run, key: str, rule: Criteria = Criteria()) -> Decision:  # noqa: B008
    """How decided an edge is after the last epoch."""
    lately = [epoch.weights[key][:-1] for epoch in run.epochs[-rule.patience - 1:]]
    weights, kept = lately[-1], run.epochs[-1].architecture[key]
    best = kept[0] if kept else weights.index(max(weights))
    lead = weights[best] - max((weight for i, weight in enumerate(weights) if i != best), default=0.0)
    pace = max((abs(now - before) for one, other in zip(lately, lately[1:]) for before, now in zip(one, other)), default=None)
    if pace is None:
        word = UNDECIDED
    elif pace <= rule.min_movement and lead < 0.9 * sum(weights):
        word = UNMOVED
    else:
        word = DECIDED if lead > DECIDED_EPOCHS * pace else LEANING if lead > LEANING_EPOCHS * pace else UNDECIDED
    return Decision(weights[best], lead, word)


def _sentences(run: Run, rule: Criteria, found: Verdict, names: AbstractSet[str]) -> List[str]:
    skips, told = found.skips, []
    counted = (f'{len(skips.keys)} of {skips.edges} edges {f"of cell {skips.cell} " if skips.cell else ""}'
               f'{"is a skip connection" if len(skips.keys) == 1 else "are skip connections"}')
    since = run.epochs[-found.dominated].epoch + 1 if found.dominated else None
    if found.word == WARMING_UP:
        return [f'The search is warming up: {counted} by the first logits, which no step has changed yet.'] \
            if run.state.status == RUNNING else [
                f'No step has changed the logits in {found.warm_up} epochs, by which {counted}: check that an optimiser holds '
                'them, or search for more epochs than the warm-up has.']
    if found.has_collapsed:
        told.append(f'The search has collapsed since epoch {since}: {counted}.')
        told.append(_remedy(run, found.dominated))
    elif found.dominated:
        told.append(f'The search may be collapsing: since epoch {since}, {counted}. It counts as collapsed after '
                    f'{rule.patience} epochs.')
    elif any(is_skip(name, names) for candidates in run.space.edges.values() for name in candidates):
        told.append(f'No sign of collapse: {counted}.')
    else:
        told.append('No sign of collapse: no candidate has the name of a skip connection.')
    if found.unmoved >= rule.patience:
        told.append(f'The probabilities have not moved for {found.unmoved} epochs: check that the architecture learning rate is '
                    'not 0 and that the output of the model depends on the edges.')
    elif not found.dominated:
        derived = [decision for key, decision in found.decisions.items() if run.epochs[-1].architecture[key]]
        undecided = sum(decision.word == UNDECIDED for decision in derived)
        advice = (': search for more epochs, or with a larger arc_learning_rate'
                  if 2 * undecided > len(derived) and run.state.status != RUNNING else '')
        if undecided:
            told.append(f'{undecided} of {len(derived)} derived edges {"is" if undecided == 1 else "are"} undecided{advice}.')
    return told


def _remedy(run: Run, dominated: int) -> str:
    """What to try after a collapse."""
    remedy = ('Try another method against collapse, or fewer epochs.' if run.settings.get('methods') else
              "Try methods='recommended', or EarlyStopping().")
    if dominated == len(run.epochs):
        return remedy
    return f'{remedy} {EPOCHS} has the architecture of epoch {run.epochs[-dominated - 1].epoch + 1}, before the collapse.'
