"""The page of an experiment: the best architecture, where the found ones stand among random ones, the ranking, the searches."""

from __future__ import annotations

import json
import os
from collections import Counter
from itertools import islice
from pathlib import Path
from typing import Iterable, Iterator, List, Optional, Sequence, Tuple
from xml.etree.ElementTree import Element

from .. import plot
from ..errors import RunError
from ..nnictl.results import FAILED, Results, Trial, named, rows_of
from ..nnictl.selection import Ranked
from ..nnictl.task import SEARCH
from ..run import DONE, Run, text
from ..run.verdict import verdict
from .html import Content, details, document, e, picture, section, table
from .html import verdict as box
from .of_run import is_derived

ROWS = 1000
"""The largest number of rows of a table."""
_SHOW = "NNI's web page lists all trials; nni-darts-ext show prints the run of a search."
LABEL = 'mean result of the short trainings of an architecture'


def render(name: str, results: Results, file: Path, run_page: str) -> str:
    """The page of an experiment.

    Parameters
    ----------
    name
        The experiment's id.
    results
        What it has found so far.
    file
        The file of the page, from which links start.
    run_page
        The name of the page of a search in the folder of its run, which is linked if it exists.

    Raises
    ------
    PackageMissing
        matplotlib or networkx is not installed.
    """
    statuses = Counter(trial.status.lower() for trial in results.trials)
    failed = [trial for trial in results.trials if trial.status == FAILED]
    searches = [trial for trial in results.trials if trial.task.phase == SEARCH]
    body = [e('p', f'{len(results.found)} architectures found, {len(results.random)} random ones; trials: '
                   + ', '.join(f'{n} {status}' for status, n in statuses.items())),
            _verdict(results),
            e('div', section('The best architecture', *_best(results)),
              section('Found among random architectures' if results.random else 'Results', *_standing(results)),
              kind='grid lead'),
            section('Ranking', *_ranking('The architectures that were found', results.found)),
            section('Searches', *_table('', ('trial', 'search', 'status', 'verdict', 'run'),
                                        (_search(trial, file, run_page) for trial in searches), len(searches), _SHOW)),
            section('Failed trials', *(_table('', ('trial', 'phase', 'of', 'folder with its logs'), map(_failed, failed),
                                              len(failed), _SHOW) if failed else [e('p', 'None.')]))]
    if results.random:
        body.append(section('Tables', details('Random architectures', *_ranking('', results.random))))
    return document(f'Experiment {name}', body)


def _verdict(results: Results) -> Element:
    compared = results.comparison
    if compared is None:
        return box('open', 'Not compared', ['There are no random architectures. Set random_architectures of DartsTuner to know '
                                            'whether the searches are better than chance.'])
    first = str(compared).splitlines()[:1]
    if compared.interval is None or compared.difference is None:
        return box('open', 'Too few results', first)
    low, high = compared.interval
    if compared.is_better:
        return box('good', 'Better than random', first)
    return box('maybe', 'Perhaps not better than random', first) if low <= 0 <= high else box('bad', 'Worse than random', first)


def _ranking(caption: str, ranked: Sequence[Ranked]) -> Iterator[Element]:
    heads, *rows = rows_of(ranked)
    return _table(caption, heads, rows, len(rows), 'nni-darts-ext best --json prints all.')


def _table(caption: str, heads: Sequence[str], rows: Iterable[Sequence[Content]], n: int, others: str) -> Iterator[Element]:
    """A table of the first rows of ``n``, and where the others are."""
    yield table(caption, heads, list(islice(rows, ROWS)))
    if n > ROWS:
        yield e('p', f'The first {ROWS:,} of {n:,}. {others}')


def _best(results: Results) -> Iterator[Element]:
    best = results.found[0]
    heads, row = rows_of([best])
    yield table('', ('', ''), list(zip(heads[1:], row[1:])))
    found_by = {task.key() for task in best.found_by}
    runs = (_read(trial) for trial in results.trials if trial.task.phase == SEARCH and trial.task.key() in found_by)
    run = next((run for run in runs if run is not None and run.epochs and run.state.status == DONE), None)
    if run is not None:
        yield from (picture(drawn) for drawn in plot.pictures(run) if is_derived(drawn))
    pre = e('pre', json.dumps(best.architecture, indent=2, sort_keys=True))
    yield details('For apply_fixed_architecture', pre) if run else pre


def _standing(results: Results) -> Iterator[Element]:
    found, random = ([one.mean for one in ranked if one.mean is not None] for ranked in (results.found, results.random))
    rows = {'found': found, **({'random': random} if random else {})}
    sentences = str(results.comparison).splitlines()[1:] if results.comparison else []
    yield picture(plot.results(rows, LABEL, results.found[0].mean), *sentences)
    sized = {name: [(one.costs['parameters'], one.mean) for one in ranked if one.mean is not None and 'parameters' in one.costs]
             for name, ranked in (('found', results.found), ('random', results.random))}
    if any(sized.values()):
        yield picture(plot.against({name: points for name, points in sized.items() if points}, 'parameters', 'mean result'))


def _search(trial: Trial, file: Path, run_page: str) -> Tuple[Content, ...]:
    run = _read(trial)
    told: List[Content] = ['', 'no run on this machine']
    if run is not None:
        told = [verdict(run).word if run.epochs else '', str(run.folder)]
        if (run.folder / run_page).exists():
            told[1] = e('a', text.status_line(run), href=Path(os.path.relpath(run.folder / run_page, file.parent)).as_posix())
    return (trial.name, named(trial.task), trial.status.lower(), *told)


def _failed(trial: Trial) -> Tuple[Content, ...]:
    return trial.name, trial.task.phase, named(trial.task), str(trial.folder or 'not on this machine')


def _read(trial: Trial) -> Optional[Run]:
    try:
        return Run.read(trial.run) if trial.run else None
    except RunError:  # there is none, or it is broken
        return None
