"""A search of any host, recorded."""

import json

import torch
from spaces import TWO_NODES, Cells, batches, write_weights

import nni_darts_ext.nn as dnn
from nni_darts_ext import DartsMutator, apply_fixed_architecture
from nni_darts_ext.core.collapse import CollapseWatch
from nni_darts_ext.run import InputRecord, Run
from nni_darts_ext.run.recorder import Recorder
from nni_darts_ext.run.verdict import verdict


def moved(mutator, by):
    with torch.no_grad():
        for key in mutator.choices:
            mutator.choices[key][1] += by


def test_what_is_recorded_is_what_the_search_says(tmp_path):
    model = write_weights(Cells(TWO_NODES, named=True))
    mutator = DartsMutator(model).double()
    watch = CollapseWatch(mutator)
    watch.read()
    with Recorder(tmp_path / 'run', mutator, 2, {'lr': 0.1}) as recorder:
        for epoch in range(2):
            moved(mutator, 0.5)
            recorder.epoch(epoch, {'loss': torch.tensor(1.5)}, {'loss': 2}, eigenvalue=None if epoch else 0.25)
            read = watch.read()
    run = Run.read(tmp_path / 'run')
    assert run.space.edges == {edge.key: edge.names for edge in mutator.space.edges.values()}
    assert run.space.inputs == {node.key: InputRecord(node.choose_from, node.n_chosen) for node in mutator.space.inputs.values()}
    last = run.epochs[-1]
    assert last.weights == {key: mutator.choices.probabilities(key).tolist() for key in mutator.choices}
    assert last.indicators == read._asdict() and run.epochs[0].indicators['eigenvalue'] == 0.25
    assert last.indicators['movement'] == max(abs(one - other) for key in last.weights for one, other in zip(
        last.weights[key], run.epochs[0].weights[key])) != 0 != run.epochs[0].indicators['movement']
    assert verdict(run).skips.share == last.indicators['skip_share'] == 0
    assert (last.train, last.valid) == ({'loss': 1.5}, {'loss': 2.0}) and last.seconds > 0
    assert run.versions['torch'] == torch.__version__ and {'nni', 'python', 'nni_darts_ext'} <= set(run.versions)


def test_the_architecture_of_any_epoch_can_be_applied(tmp_path):
    model = Cells(TWO_NODES, named=True)
    mutator = DartsMutator(model)
    with Recorder(tmp_path / 'run', mutator) as recorder:
        recorder.epoch(0, {})
    line = Run.read(tmp_path / 'run').epochs[0].architecture
    file = tmp_path / 'run' / 'architecture.json'
    assert json.loads(file.read_text()) == json.loads(json.dumps(mutator.export()))
    shapes = [[tuple(p.shape) for p in apply_fixed_architecture(Cells(TWO_NODES, named=True), architecture).parameters()]
              for architecture in (line, str(file), mutator.export())]
    assert shapes[0] == shapes[1] == shapes[2]


class Unnamed(dnn.ModelSpace):
    def __init__(self):
        super().__init__()
        self.a = dnn.LayerChoice([torch.nn.Linear(3, 3), torch.nn.Tanh()], key='a')
        self.b = dnn.LayerChoice([torch.nn.Linear(3, 3), torch.nn.Tanh()], key='b')
        self.inputs = dnn.InputChoice(n_candidates=2, n_chosen=1, key='inputs')

    def forward(self, x):
        return self.inputs([self.a(x), self.b(x)])


def test_sources_that_the_first_pass_shows_are_recorded(tmp_path):
    model = Unnamed()
    mutator = DartsMutator(model)
    with Recorder(tmp_path / 'run', mutator) as recorder:
        assert Run.read(tmp_path / 'run').space.inputs['inputs'].choose_from == ('', '')
        mutator.reset()
        model(batches(1)[0][0][0].float()).sum().backward()
        recorder.epoch(0, {})
    assert Run.read(tmp_path / 'run').space.inputs['inputs'].choose_from == ('a', 'b')
