"""How the files of a run are read and checked."""

from __future__ import annotations

import math
import socket
from pathlib import Path
from typing import Any, Dict, Mapping, Optional

from ..errors import RunError
from . import (
    CONFIG,
    DEAD,
    DONE,
    EPOCHS,
    FAILED,
    FORMAT,
    LONGEST,
    RUNNING,
    SCHEMA,
    STATE,
    UNKNOWN,
    CostRecord,
    Epoch,
    InputRecord,
    SpaceRecord,
    State,
    moment,
    storage,
)


def config(folder: Path) -> Dict[str, Any]:
    if not (folder / CONFIG).is_file():
        raise RunError(f'{folder} is not the run of a search: ' + (f'it has no {CONFIG}.' if folder.is_dir() else 'there is no '
                       'such folder.') + ' Pass the run_dir of DartsTrainer or of the strategy.')
    config = storage.read_json(folder / CONFIG)
    if not isinstance(config, dict) or config.get('format') != FORMAT:
        raise RunError(f'{folder} is not the run of a search: its {CONFIG} belongs to something else. Pass the run_dir of '
                       'DartsTrainer or of the strategy.')
    if config.get('schema') != SCHEMA:
        raise RunError(f'The run in {folder} has schema {config.get("schema")!r}; this version of nni_darts_ext reads {SCHEMA}. '
                       'Read it with the version that wrote it, or with a newer one.')
    return config


def space_in(config: Mapping[str, Any]) -> SpaceRecord:
    space = SpaceRecord({key: tuple(names) for key, names in config['edges'].items()},
                  {key: InputRecord(tuple(node['choose_from']), node['n_chosen']) for key, node in config['inputs'].items()})
    for name in (name for names in space.edges.values() for name in names):
        if not isinstance(name, (str, int)):
            raise ValueError(f'a candidate is named {name!r}')
    for source in (source for node in space.inputs.values() for source in node.choose_from):
        if not isinstance(source, str):
            raise ValueError(f'a source is named {source!r}')
    return space


def costs_in(config: Mapping[str, Any], space: SpaceRecord) -> Dict[str, CostRecord]:
    found = {name: CostRecord(_number('a cost', of_all['fixed']), {key: [_number(f'a cost of {key!r}', one) for one in of_edge]
                                                                   for key, of_edge in of_all['candidates'].items()})
             for name, of_all in config.items()}
    for of_all in found.values():
        if {key: len(of_edge) for key, of_edge in of_all.candidates.items()} != {key: len(of) for key, of in space.edges.items()}:
            raise ValueError('costs are not those of the candidates')
    return found


def state(folder: Path, by_writer: bool) -> State:
    def is_locked() -> Optional[bool]:
        return False if by_writer and storage.LOCKS else storage.is_locked(folder / EPOCHS)
    was_locked = is_locked()
    written = storage.read_json(folder / STATE)
    try:
        if written['ended']:
            status = FAILED if written['error'] else DONE
        elif was_locked or is_locked():  # checked again, as a run may have started since the first check
            status = RUNNING
        else:
            status = DEAD if was_locked is False and written['host'] == socket.gethostname() else UNKNOWN
        for time_ in [written['started'], *written['resumed'], *([written['ended']] if written['ended'] else [])]:
            moment(time_)
        return State(status, written['started'], list(written['resumed']), int(written['pid']), str(written['host']),
                     written['ended'], written['error'])
    except (KeyError, TypeError, ValueError) as error:
        raise storage.broken(folder / STATE, error) from error


def epoch_in(record: Mapping[str, Any], space: SpaceRecord) -> Epoch:
    epoch = Epoch(**{'usage': {}, **{name: record[name] for name in Epoch._fields if name != 'usage' or name in record}})
    moment(epoch.time)
    if epoch.epoch is None:
        raise ValueError('an epoch has no number')
    check_counts(epoch.epoch)
    if not 0 <= _number('seconds', epoch.seconds) <= LONGEST:
        raise ValueError(f'seconds is {epoch.seconds!r}')
    for key, names in space.edges.items():
        if len(epoch.weights[key]) != len(names) + 1:
            raise ValueError(f'{key!r} has {len(epoch.weights[key])} weights, expected {len(names) + 1}')
        if not all(math.isfinite(_number(f'a weight of {key!r}', weight)) for weight in epoch.weights[key]):
            raise ValueError(f'the weights of {key!r} are not finite')
    for key in space.choices:
        if not isinstance(epoch.architecture[key], list):
            raise ValueError(f'{key!r} chooses {epoch.architecture[key]!r}, expected a list of indices')
        for chosen in epoch.architecture[key]:
            if type(chosen) is not int or not 0 <= chosen < space.size(key):
                raise ValueError(f'{key!r} chooses {chosen!r} of {space.size(key)} candidates')
    train, valid, indicators, usage = ({name: _number(name, value) for name, value in numbers.items()}
                                       for numbers in (epoch.train, epoch.valid, epoch.indicators, epoch.usage))
    return epoch._replace(train=train, valid=valid, indicators=indicators, usage=usage)


def check_counts(*counts: Any) -> None:
    for count in counts:
        if count is not None and (type(count) is not int or not 0 <= count <= LONGEST):
            raise ValueError(f'{count!r} is not an integer from 0 to {LONGEST}')


def _number(name: str, value: Any) -> float:
    if isinstance(value, str):
        value = storage.NOT_FINITE.get(value, value)
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        raise ValueError(f'{name} is {value!r}, expected a number')
    return float(value)
