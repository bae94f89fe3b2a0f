"""A simulation of NNI's manager and dispatcher, for the tuner."""

import json
from collections import deque
from typing import Any, NamedTuple, Optional

from nni_darts_ext.nnictl.task import Task


class Trial(NamedTuple):
    """A trial that was handed out and has not ended."""

    recorded: Optional[int]
    """The parameter id with which NNI names it when it ends; None for one of before a restart."""
    parameters: Any
    """As NNI has recorded them."""
    own_id: Optional[int]
    own_parameters: Any
    """What it trains. The recorded ones, but where NNI has mixed up two trials."""


class Manager:
    """Requests a trial for each one that ended, in any order of events.

    Parameters
    ----------
    tuner
        A tuner whose ``update_search_space`` was called.
    concurrency
        The number of trials at a time.
    draw
        A ``random.Random`` for the order of events.
    outcome
        A function of a trial's parameters that returns its final result, or None if it fails.
    mixes_up
        The probability that a trial that ends has the parameters of another one, as on NNI 3.0. Default 0.
    late
        The probability that one of the two queues of NNI's dispatcher, that of results and requests and that of ends, is held
        back after a trial. Default 0: each result comes before the end of its trial.
    finished, handed_out
        Where the finished trials, as :meth:`restart` imports them, and all parameters that the tuner has handed out are appended.
    """

    def __init__(self, tuner, concurrency, draw, outcome, mixes_up=0.0, late=0.0, finished=None, handed_out=None):
        self.tuner, self.concurrency, self.draw, self.outcome = tuner, concurrency, draw, outcome
        self.mixes_up, self.late = mixes_up, late
        self.finished, self.handed_out = ([] if kept is None else kept for kept in (finished, handed_out))
        self.waiting, self.running, self.events, self.ids, self.most = deque(), [], [], 0, 0
        self.timers, tuner.later = [], lambda call: self.timers.append(call)
        self.request(concurrency)

    def restart(self, tuner, keeps_trials=False):
        """Kill the experiment and resume it with a new tuner, to which NNI passes all finished trials at once.

        NNI 2.10.1 and 3.0 keep the trials that have not ended. The tuner is told their results only, and reads in the database
        which they are.
        """
        self.tuner, self.events, self.timers = tuner, [], []
        tuner.later = lambda call: self.timers.append(call)
        tuner.import_data(json.loads(json.dumps(list(self.finished))))
        kept = [*self.running, *self.waiting] if keeps_trials else []
        tuner.selection.withhold(Task.of(trial.parameters) for trial in kept)
        self.waiting, self.running, self.ended = deque(trial._replace(recorded=None) for trial in kept), [], set()
        self.ids = self.ids if kept else 0
        self.request(self.concurrency)

    def request(self, n):
        ids = list(range(self.ids, self.ids + n))
        self.ids += n
        for parameter_id, parameters in zip(ids, self.tuner.generate_multiple_parameters(ids, st_callback=self.submit)):
            self.submit(parameter_id, parameters)

    def submit(self, parameter_id, parameters):
        parameters = json.loads(json.dumps(parameters))
        self.handed_out.append(parameters)
        self.waiting.append(Trial(parameter_id, parameters, parameter_id, parameters))

    def run(self, limit=None):
        """Until there is nothing to do, or ``limit`` trials have ended. Returns the number of trials that have ended."""
        for n in range(10 ** 9 if limit is None else limit):
            while self.waiting and len(self.running) < self.concurrency:
                self.running.append(self.waiting.popleft())
            self.most = max(self.most, len(self.running))
            if not self.running and not self.timers and not self.tuner.selection.withheld:
                return n
            if self.running:
                self.end(self.one())
                self.dispatch()
            if not self.events:  # none is held back as long as a timer takes
                timers, self.timers = self.timers, []
                for call in timers:
                    call()
            if self.tuner.selection.withheld and (not self.running or self.draw.random() < 0.1):
                in_flight = [Task.of(trial.parameters) for trial in [*self.running, *self.waiting] if trial.recorded is None]
                self.ended = self.tuner.release_ended(in_flight, self.ended)
        return limit

    def one(self):
        """One of the running trials, which no longer runs."""
        i = self.draw.randrange(len(self.running))
        self.running[i], self.running[-1] = self.running[-1], self.running[i]
        ended = self.running.pop()
        if self.running and self.draw.random() < self.mixes_up:
            j = self.draw.randrange(len(self.running))
            other = self.running[j]
            if ended.recorded is not None and other.recorded is not None:
                self.running[j] = other._replace(own_id=ended.own_id, own_parameters=ended.own_parameters)
                ended = ended._replace(own_id=other.own_id, own_parameters=other.own_parameters)
        return ended

    def end(self, trial):
        value = json.loads(json.dumps(self.outcome(trial.own_parameters)))
        if value is not None:
            self.finished.append({'parameter': trial.parameters, 'value': value})
            self.events.append(('default', self.report, (trial, value)))
        if trial.recorded is not None:
            self.events.append(('assessor', self.tuner.trial_end, (trial.recorded, value is not None)))
        self.events.append(('default', self.request, (1,)))

    def dispatch(self):
        """Process the events. Those of each queue stay in their order."""
        held = {queue for queue in ('default', 'assessor') if self.running and self.draw.random() < self.late}
        events, self.events = self.events, []
        for queue, call, arguments in events:
            if queue in held:
                self.events.append((queue, call, arguments))
            else:
                call(*arguments)

    def report(self, trial, value):
        if trial.recorded is None:
            self.tuner.import_data([{'parameter': trial.parameters, 'value': value}])
        else:
            self.tuner.receive_trial_result(trial.own_id, trial.own_parameters, value, trial_job_id=str(trial.recorded))
