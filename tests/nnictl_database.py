"""Databases in the format of NNI, written without an experiment."""

import json
import sqlite3


def experiment(folder, trials, optimize_mode='maximize', failed=(), running=(), **arguments):
    """Trials are (id, recorded task, value), encoded twice where NNI does so."""
    (folder / 'db').mkdir(parents=True)
    database = sqlite3.connect(str(folder / 'db' / 'nni.sqlite'))
    database.executescript('''
        create table TrialJobEvent (timestamp integer, trialJobId text, event text, data text, logPath text, sequenceId integer);
        create table MetricData (timestamp integer, trialJobId text, parameterId text, type text, sequence integer, data text);
        create table ExperimentProfile (params text, id text, execDuration integer, startTime integer, endTime integer,
                                        logDir text, nextSequenceId integer, revision integer);''')
    database.execute('insert into ExperimentProfile values (?, "x", 0, 0, 0, "", 0, 1)',
                     [json.dumps({'tuner': {'classArgs': {'optimize_mode': optimize_mode, **arguments}}})])
    for i, (trial, task, value) in enumerate(trials):
        recorded = {'parameter_id': i, 'parameters': task.parameters()}
        database.execute('insert into TrialJobEvent values (?, ?, "WAITING", ?, "", ?)', [i, trial, json.dumps(recorded), i])
        database.execute('insert into TrialJobEvent values (?, ?, ?, null, "", ?)',
                         [i, trial, 'FAILED' if trial in failed else 'RUNNING' if trial in running else 'SUCCEEDED', i])
        if isinstance(value, dict) and 'run' in value:  # as in each report of a search that has a storage
            database.execute('insert into MetricData values (?, ?, ?, "PERIODICAL", 0, ?)',
                             [i, trial, str(i), json.dumps(json.dumps({name: value[name] for name in ('default', 'run')}))])
        if value is not None:
            database.execute('insert into MetricData values (?, ?, ?, "FINAL", 0, ?)',
                             [i, trial, str(i), json.dumps(json.dumps(value))])
    database.commit()
    database.close()
    return str(folder)
