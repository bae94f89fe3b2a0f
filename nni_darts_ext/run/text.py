"""A run as text: for the terminal, the HTML page, and the alternative texts of pictures."""

from __future__ import annotations

import math
from datetime import datetime, timedelta, timezone
from typing import Dict, List, Optional, Tuple

from . import DEAD, DONE, FAILED, LONGEST, RUNNING, Run, moment
from .cells import NO_CHOICE, Cell, edges_of
from .verdict import Decision, decision


def status_line(run: Run) -> str:
    """The status of a run, the number of its epochs, and how long it took or will take."""
    state, n = run.state, run.epochs[-1].epoch + 1 if run.epochs else 0
    got = f'{n} of {run.num_epochs} epochs' if run.num_epochs is not None else f'{n} epoch{"" if n == 1 else "s"}'
    if state.status in (DONE, FAILED):
        took = duration(sum(epoch.seconds for epoch in run.epochs))  # as clocks may be set
        return f'done: {got} in {took}' if state.status == DONE else f'failed after {got} and {took}: {state.error}'
    updated = ago(run.epochs[-1].time if run.epochs else (state.resumed or [state.started])[-1])
    if state.status == DEAD:
        return f'dead: process {state.pid} was killed or crashed after {got}; last update {updated}'
    left = '' if run.seconds_left is None else f', about {duration(run.seconds_left)} left'
    if state.status == RUNNING:
        return f'running, process {state.pid} on {state.host}: {got}{left}; last update {updated}'
    return (f'unknown: {got}; this machine cannot tell whether process {state.pid} on {state.host} is still running; last update '
            f'{updated}')


def price(run: Run) -> str:
    """What all epochs have taken together: time, peak memory and energy. They are those of the process that recorded the run."""
    usages = [epoch.usage for epoch in run.epochs]
    told = [f'{duration(sum(epoch.seconds for epoch in run.epochs))} for {len(run.epochs)} epoch{"s" * (len(run.epochs) > 1)}']
    for name, of in (('peak_memory', 'memory'), ('peak_gpu_memory', 'GPU memory')):
        if any(name in usage for usage in usages):
            told.append(f'at most {max(usage.get(name, 0) for usage in usages) / 1e9:.2f} GB of {of}')
    joules = sum(usage.get('energy', 0) for usage in usages)
    if joules:
        told.append(f'{joules / 3.6e6:.3g} kWh')
    return ', '.join(told)


def ago(time: str) -> str:
    """The time since ``time``."""
    return f'{duration((datetime.now(timezone.utc) - moment(time)).total_seconds())} ago'


def duration(seconds: float) -> str:
    """Hours, minutes and seconds."""
    return str(timedelta(seconds=round(min(max(0.0, seconds), LONGEST))))


def changed(run: Run, key: str) -> Optional[int]:
    """The epoch, counted from 1, in which the decision of a choice last changed; None if it never did."""
    at = run.since(key)
    return None if at is None or at == run.epochs[0].epoch else at + 1


def since(run: Run, key: str) -> str:
    """The age of the current decision of a choice."""
    epoch = changed(run, key)
    return 'from the start' if epoch is None else f'since epoch {epoch}'


def cell(run: Run, cell: Cell) -> List[Tuple[str, str, str, str, str, str]]:
    """A derived cell, a row for each of its edges: node, source, candidate, probability, lead, since when."""
    rows = []
    for edge in edges_of(run, cell):
        source = f'{"input" if edge.source < cell.n_inputs else "node"} {edge.source}'
        if edge.candidate is None:
            rows.append((f'node {edge.target}', source, NO_CHOICE, '', '', ''))
        elif edge.is_kept:
            rows.append((f'node {edge.target}', source, str(edge.candidate), *_decided(decision(run, edge.key)),
                         since(run, edge.key)))
    return rows


def layers(run: Run, keys: List[str]) -> List[Tuple[str, str, str, str, str]]:
    """Choices outside cells, a row for each: key, candidate, probability, lead, since when."""
    return [(key, run.decision(key), *(_decided(decision(run, key)) if run.epochs[-1].architecture[key] else ('', '')),
             since(run, key)) for key in keys]


def _decided(decision: Decision) -> Tuple[str, str]:
    """The probability, and by how much it leads, which decides."""
    return f'{decision.probability:.2f}', f'by {decision.lead:.3f}, {decision.word}'


def ranking(run: Run, n: int) -> List[Tuple[str, str, str, str]]:
    """The most probable architectures, a row for each: rank, probability, its share of the first one's, and what differs."""
    return [(str(rank), number(one.probability), f'{one.relative:.3f}', '; '.join(
        f'{key}: {run.named(key, first)} -> {run.named(key, chosen)}' for key, (first, chosen) in one.differences.items()
        if chosen) or 'as derived') for rank, one in enumerate(run.ranked(n), 1)]


def cost(run: Run) -> str:
    """What the network costs that is derived after the last epoch; an empty text if that is not known."""
    found = [f'{number:,.0f} {name.replace("_", "-")}' for name, number in run.cost.items()]
    return f'The derived network has {" and ".join(found)}{" a sample" if len(found) > 1 else ""}.' if found else ''


def metrics(run: Run) -> List[Tuple[str, str, str]]:
    """The supernet's losses and metrics after the last epoch, a row for each: name, training, validation."""
    train, valid = run.epochs[-1].train, run.epochs[-1].valid
    return [(name, number(train.get(name)), number(valid.get(name))) for name in {**train, **valid}]


def best(run: Run, name: str) -> str:
    """The best value of a metric in validation, or in training if it is not validated, and its epoch. The smaller a loss is the
    better, the larger any other metric."""
    part = 'valid' if any(name in epoch.valid for epoch in run.epochs) else 'train'
    values = [(getattr(epoch, part).get(name, math.nan), epoch.epoch + 1) for epoch in run.epochs]
    finite = [one for one in values if math.isfinite(one[0])]
    if not finite:
        return ''
    value, epoch = (min if 'loss' in name else max)(finite, key=lambda one: one[0])
    return f'{number(value)} in epoch {epoch}'


def indicators(run: Run) -> Dict[str, str]:
    """The indicators of collapse after the last epoch."""
    return {name: number(value) for name, value in run.epochs[-1].indicators.items()}


def number(value: Optional[float]) -> str:
    """A number with four significant digits."""
    return '' if value is None else f'{value:.4g}'
