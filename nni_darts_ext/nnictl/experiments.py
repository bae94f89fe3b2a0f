"""Find the folders of nnictl's experiments, and end an experiment that has no more tasks."""

from __future__ import annotations

import json
import urllib.request
from pathlib import Path
from typing import Any, Dict

from ..errors import ExperimentError

TIMEOUT = 20
"""Seconds to wait for an answer of the manager, as in nnictl."""

_open = urllib.request.build_opener(urllib.request.ProxyHandler({})).open
"""Opens URLs without the environment's proxy, as the manager runs on this machine."""


def listed() -> Dict[str, Any]:
    """The entries of nnictl's list of experiments, by id."""
    try:
        return dict(json.loads((_home() / '.experiment').read_text(encoding='utf-8')))
    except (OSError, ValueError):
        return {}


def folder_of(experiment: str) -> Path:
    """The folder of an experiment, given its id or its folder. Raises :class:`ExperimentError` if there is no such experiment."""
    if (Path(experiment) / 'db').is_dir():
        return Path(experiment)
    place = listed().get(experiment, {}).get('logDir')
    for parent in ([Path(place)] if isinstance(place, str) else []) + [_home()]:
        if (parent / experiment / 'db').is_dir():
            return parent / experiment
    known = list(listed())
    latest = ', '.join(known[-5:]) + (f' and {len(known) - 5} older ones' if len(known) > 5 else '') or 'none'
    raise ExperimentError(f'There is no experiment {experiment!r}: it is not a folder with a db in it, and {_home()} lists '
                          f'{latest}. Pass the id that nnictl create printed, or the experiment\'s folder.')


def end(experiment: str, n_trials: int) -> None:
    """Set the maximum number of trials of a running experiment, so that it is done when its current trials are.

    As ``nnictl update trialnum``, which does not work in every version of NNI. Raises ``OSError`` if the manager does not answer.
    """
    known = listed()[experiment]
    prefix = f'/{known["prefixUrl"]}' if known.get('prefixUrl') else ''
    url = f'http://127.0.0.1:{known["port"]}{prefix}/api/v1/nni/experiment'
    with _open(url, timeout=TIMEOUT) as answer:
        profile = json.loads(answer.read().decode('utf-8'))
    parameters = profile['params']
    parameters['maxTrialNum' if 'maxTrialNum' in parameters else 'maxTrialNumber'] = n_trials  # older and newer schema
    request = urllib.request.Request(f'{url}?update_type=MAX_TRIAL_NUM', json.dumps(profile).encode('utf-8'),
                                     {'Content-Type': 'application/json'}, method='PUT')
    _open(request, timeout=TIMEOUT).close()


def _home() -> Path:
    return Path.home() / 'nni-experiments'
