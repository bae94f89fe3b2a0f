"""The trial outside an experiment, and the arguments that it refuses."""

import json
import sys
from types import SimpleNamespace

import nni
import pytest
import tiny
import torch
from tiny import Space

from nni_darts_ext import TrainingError, apply_fixed_architecture, cost, protocol, random_architecture, trial
from nni_darts_ext.core import files
from nni_darts_ext.errors import CheckpointError, MethodError
from nni_darts_ext.loop import checkpoint
from nni_darts_ext.run import Run

TINY = ['--space', 'tiny:Space', '--data', 'tiny:data', '--batch-size', '8', '--search-epochs', '3', '--evaluation-epochs', '2',
        '--final-epochs', '1']


@pytest.fixture
def told(monkeypatch):
    """The task of the trial and its reports to NNI."""
    told = SimpleNamespace(intermediate=[], final=[], parameters={})
    monkeypatch.setattr(nni, 'get_next_parameter', lambda: told.parameters)
    monkeypatch.setattr(nni, 'report_intermediate_result', told.intermediate.append)
    monkeypatch.setattr(nni, 'report_final_result', told.final.append)
    return told


def test_a_search_reports_its_epochs_and_indicators_and_the_architecture(told, tmp_path):
    told.parameters = {'phase': 'search', 'seed': 3, 'arc_learning_rate': 0.1, 'epochs': 2}
    trial.main(TINY)
    assert [set(epoch) for epoch in told.intermediate] == [
        {'default', 'skip_share', 'entropy', 'task'}, {'default', 'skip_share', 'entropy', 'movement', 'task'}]
    assert told.intermediate[1]['movement'] > 0.05 and told.intermediate[0]['task'] == told.parameters
    (final,) = told.final
    assert final['default'] == told.intermediate[-1]['default']
    assert set(final['architecture']) == {'a', 'b', 'c', 'inputs'} and len(final['architecture']['inputs']) == 2
    assert json.loads((tmp_path / 'architecture.json').read_text()) == final['architecture']


def test_a_search_space_may_vary_the_order(told):
    for order in (1, 2):
        told.parameters = {'phase': 'search', 'seed': 3, 'order': order, 'arc_learning_rate': 0.1}
        trial.main(TINY)
    assert told.intermediate[1]['entropy'] != told.intermediate[4]['entropy']


def test_a_seed_gives_the_same_search_again_and_another_seed_another_one(told):
    for seed in (3, 3, 4):
        told.parameters = {'phase': 'search', 'seed': seed}
        trial.main(TINY)
    first, again, other = [told.intermediate[i:i + 3] for i in (0, 3, 6)]
    assert first == again != other


def test_a_random_architecture_is_drawn_trained_as_a_found_one_is_and_reported(told, tmp_path):
    told.parameters = {'phase': 'evaluate', 'seed': 1, 'random_architecture': 3}
    trial.main(TINY)
    drawn, = told.final
    assert drawn['task'] == told.parameters and drawn['architecture'] == random_architecture(Space(), 3)
    assert json.loads((tmp_path / 'architecture.json').read_text()) == drawn['architecture']
    told.parameters = {'phase': 'evaluate', 'seed': 1, 'architecture': drawn['architecture']}
    trial.main(TINY)
    assert told.final[1] == {**{name: value for name, value in drawn.items() if name != 'architecture'}, 'task': told.parameters}
    assert [epoch['default'] for epoch in told.intermediate[:2]] == [epoch['default'] for epoch in told.intermediate[2:]]


@pytest.mark.parametrize('phase, epochs', [('evaluate', 2), ('final', 1)])
def test_an_architecture_is_trained_from_scratch(phase, epochs, told):
    told.parameters = {'phase': phase, 'seed': 0, 'architecture': {'a': 'linear', 'b': [], 'c': 'tanh', 'inputs': ['a', 'c']}}
    trial.main(TINY)
    network = apply_fixed_architecture(Space(), told.parameters['architecture'])
    assert len(told.intermediate) == epochs and set(told.intermediate[-1]) == {'default', 'task'}
    assert told.final == [{**told.intermediate[-1], **cost(network, tiny.data()[0][0][0][None])._asdict()}]


def test_a_gradient_that_is_clipped_to_0_is_not_clipped(told):
    architecture = {'a': 'linear', 'b': [], 'c': 'tanh', 'inputs': ['a', 'c']}
    told.parameters = {'phase': 'evaluate', 'seed': 0, 'architecture': architecture}
    for grad_clip in ('0', '1e9', '1e-9'):
        trial.main([*TINY, '--learning-rate', '0.5', '--loss', 'torch.nn.functional:cross_entropy', '--grad-clip', grad_clip,
                    '--metric', 'tiny:loss'])
    zero, large, small = told.final
    assert zero == large != small


def test_the_long_training_is_measured_on_the_third_data_set(told, monkeypatch):
    import tiny
    training, validation = tiny.data()
    test = torch.utils.data.TensorDataset(validation.tensors[0], torch.full((32,), 9))  # with labels that no model can predict
    monkeypatch.setattr(tiny, 'data', lambda: (training, validation, test))
    told.parameters = {'phase': 'final', 'seed': 0, 'architecture': {'a': 'linear', 'b': [], 'c': 'tanh', 'inputs': ['a', 'c']}}
    trial.main(TINY)
    assert told.final[0]['default'] == 0.0 and told.intermediate[0]['default'] > 0


RECORDS = ['--data', 'tiny:records', '--forward-batch', 'tiny:forward', '--collate-fn', 'tiny:collate', '--metric', 'tiny:share']
ARCHITECTURE = {'a': 'linear', 'b': [], 'c': 'tanh', 'inputs': ['a', 'c']}


@pytest.mark.parametrize('phase', ['search', 'evaluate', 'final'])
def test_batches_of_any_form_do_as_pairs_do(phase, told, monkeypatch):
    import tiny
    training, _ = tiny.data()
    monkeypatch.setattr(tiny, 'data', lambda: (training, torch.utils.data.Subset(training, range(10))))
    for options in ([], RECORDS):
        told.parameters = {'phase': phase, 'seed': 0, **({} if phase == 'search' else {'architecture': ARCHITECTURE})}
        trial.main([*TINY, *options])
    n = len(told.intermediate) // 2
    assert n and told.intermediate[:n] == told.intermediate[n:] and told.final[0] == told.final[1]
    if phase != 'search':  # ten samples, in batches of eight and two
        assert told.final[0]['default'] * 10 == pytest.approx(round(told.final[0]['default'] * 10), abs=1e-5)


@pytest.mark.parametrize('phase', ['search', 'evaluate'])
@pytest.mark.parametrize('options, message', [
    (['--metric', 'tiny:hits'], r"metric 'metric' is a tensor of shape \(8,\).*Expected a number"),
    (['--forward-batch', 'tiny:forward_without_output'], 'None as output in validation.*--metric has nothing to measure')])
def test_a_result_must_be_one_number(phase, options, message, told):
    told.parameters = {'phase': phase, 'seed': 0, **({} if phase == 'search' else {'architecture': ARCHITECTURE})}
    with pytest.raises(TrainingError, match=message):
        trial.main([*TINY, *RECORDS, *options])


@pytest.mark.parametrize('options', [['--forward-batch', 'tiny:forward'], [*RECORDS, '--loss', 'tiny:share']])
def test_forward_batch_takes_the_place_of_the_loss_and_needs_a_metric(options):
    with pytest.raises(TrainingError, match='--forward-batch .*so leave --loss out. It needs --metric'):
        trial.main([*TINY, *options])


@pytest.mark.parametrize('phase', ['search', 'evaluate'])
def test_what_is_validated_on_may_be_a_stream(phase, told, monkeypatch):
    import tiny

    class Stream(torch.utils.data.IterableDataset):
        def __iter__(self):
            return iter(torch.utils.data.Subset(validation, range(10)))
    training, validation = tiny.data()
    for held_out in (torch.utils.data.Subset(validation, range(10)), Stream()):
        told.parameters = {'phase': phase, 'seed': 0, **({} if phase == 'search' else {'architecture': ARCHITECTURE})}
        monkeypatch.setattr(tiny, 'data', lambda held_out=held_out: (training, held_out))
        trial.main(TINY)
    assert told.final[0] == told.final[1]


@pytest.mark.parametrize('phase', ['search', 'evaluate'])
def test_the_parts_of_the_data_are_data_sets(phase, told, monkeypatch):
    import tiny
    told.parameters = {'phase': phase, 'seed': 0, **({} if phase == 'search' else {'architecture': ARCHITECTURE})}
    training, validation = tiny.data()
    for data in ((training, torch.utils.data.DataLoader(validation)), ((training, training), validation)):
        monkeypatch.setattr(tiny, 'data', lambda data=data: data)
        with pytest.raises(TrainingError, match='Return data sets: the trial creates the loaders'):
            trial.main(TINY)


def searched(told, tmp_path, monkeypatch, methods=None, options=()):
    """The methods of a search, as its run names them, and what the search reported at its end."""
    folder = tmp_path / f'trial-{len(told.final)}'
    folder.mkdir()
    monkeypatch.setenv('NNI_OUTPUT_DIR', str(folder))
    varied = {} if methods is None else {'methods': methods}
    told.parameters = {'phase': 'search', 'seed': 0, 'arc_learning_rate': 0.1, **varied}
    trial.main([*TINY, *options])
    return Run.read(folder / 'run').settings['methods'], told.final[-1]


SEARCH = {'phase': 'search', 'seed': 3, 'arc_learning_rate': 0.1}
EVALUATE = {'phase': 'evaluate', 'seed': 3, 'architecture': ARCHITECTURE}
FINAL = {'phase': 'final', 'seed': 3, 'architecture': ARCHITECTURE}
STORED = [*TINY, '--metric', 'tiny:accuracy', '--final-epochs', '3', '--evaluation-epochs', '3']


def interrupted(options, epoch):
    """Interrupt a trial in the validation after this epoch."""
    def fails(output, labels):
        validations.append(not torch.is_grad_enabled())
        if sum(validations) > 4 * epoch:  # of 32 samples in batches of 8
            raise KeyboardInterrupt
        return accuracy(output, labels)
    validations, accuracy = [], tiny.accuracy
    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(tiny, 'accuracy', fails)
        trial.main(options)


def without_movement(reports):
    """Without what the first epoch of a resumed search cannot tell."""
    return [{name: value for name, value in report.items() if name not in ('movement', 'run')} for report in reports]


@pytest.mark.parametrize('task', [SEARCH, EVALUATE, FINAL])
def test_a_trial_that_is_repeated_resumes_from_its_storage(task, told, tmp_path):
    told.parameters = task
    options = [*STORED, '--storage', str(tmp_path / 'storage')]
    interrupted(options, 2)
    assert len(told.intermediate) == 2
    interrupted(options, 0)  # before the end of the next epoch, again
    trial.main(options)
    assert len(told.intermediate) == 3 and len(told.final) == 1
    trial.main(options)  # as if it had been killed just before its result arrived
    trial.main(STORED)
    assert without_movement(told.intermediate[:3]) == without_movement(told.intermediate[3:])  # bit for bit
    stored, again, whole = without_movement(told.final)
    assert stored == again == whole


def test_each_task_has_a_folder_of_its_own_in_the_storage_and_a_search_reports_its_run(told, tmp_path):
    for told.parameters in (SEARCH, {**SEARCH, 'seed': 4}, {**SEARCH, 'arc_learning_rate': 0.2}, EVALUATE, FINAL):
        trial.main([*TINY, '--storage', 'storage'])
    folders = sorted(folder.name for folder in (tmp_path / 'storage' / nni.get_experiment_id()).iterdir())
    assert [name[:-13] for name in folders] == ['evaluate-3', 'final-3', 'search-3', 'search-3', 'search-4']
    runs = [Run.read(result['run']) for result in told.final if 'run' in result]
    assert len(runs) == 3 and all(run.state.status == 'done' for run in runs)
    assert told.intermediate[0]['run'] == str(runs[0].folder)


@pytest.mark.parametrize('task, options, error, message', [
    (SEARCH, ['--learning-rate', '0.5'], CheckpointError, 'lr of group 0 of the optimizer was 0.025'),
    (EVALUATE, ['--learning-rate', '0.5'], CheckpointError, 'another training: learning_rate was 0.025 and is 0.5'),
    (EVALUATE, ['--data', 'tiny:digits'], CheckpointError, "the training data was .* data was 'tiny:data' and is 'tiny:digits'"),
    (EVALUATE, ['--loss', 'torch.nn.functional:nll_loss'], CheckpointError, "loss was .*cross_entropy' and is .*nll_loss"),
    (EVALUATE, ['--evaluation-epochs', '9'], CheckpointError, 'the number of epochs was 3 and is 9'),
    (EVALUATE, ['--space', 'tiny:Wide'], CheckpointError, "classifier.weight was a torch.float32 of shape")])
def test_what_is_in_the_storage_must_be_of_the_same_trial(task, options, error, message, told, tmp_path):
    told.parameters = task
    interrupted([*STORED, '--storage', 'storage'], 1)
    with pytest.raises(error, match=message):
        trial.main([*STORED, '--storage', 'storage', *options])


@pytest.mark.parametrize('task', [SEARCH, EVALUATE])
def test_a_checkpoint_that_cannot_be_written_costs_no_result_that_is_there(task, told, monkeypatch):
    write, epochs = checkpoint.write, []

    def full(file, state):
        epochs.append(state['epochs'])
        if epochs[-1] == fails_in:
            raise OSError(28, 'No space left on device')
        write(file, state)
    monkeypatch.setattr(files, 'DISK_PATIENCE', 0)
    monkeypatch.setattr(checkpoint, 'write', full)
    told.parameters, fails_in = task, 3
    trial.main([*STORED, '--storage', 'storage'])
    assert len(told.final) == 1 and epochs[-1] == 3
    fails_in = 2
    with pytest.raises(CheckpointError, match='No space left'):
        trial.main([*STORED, '--storage', 'another'])
    assert len(told.final) == 1


@pytest.mark.parametrize('task', [SEARCH, EVALUATE])
def test_a_damaged_checkpoint_falls_back_to_the_one_before(task, told, tmp_path):
    told.parameters = task
    options = [*STORED, '--storage', 'storage']
    interrupted(options, 2)
    last, = (tmp_path / 'storage').rglob('epoch-2.ckpt')
    last.write_bytes(last.read_bytes()[:-30])
    trial.main(options)
    trial.main(STORED)
    assert len(told.intermediate) == 2 + 2 + 3 and len(told.final) == 2
    stored, whole = without_movement(told.final)
    assert stored == whole


SHRINKING = 'Shrinking:schedule={1: 2, 2: 1}'


def test_a_search_has_the_methods_of_the_command_line(told, tmp_path, monkeypatch):
    plain, _ = searched(told, tmp_path, monkeypatch)
    options = ['--method', SHRINKING, '--method', 'tiny.Tempered:temperature=0.5']
    methods, _ = searched(told, tmp_path, monkeypatch, options=options)
    assert plain == [] and methods == ['Shrinking({1: 2, 2: 1})', 'Tempered(temperature=0.5)']
    assert told.intermediate[2]['entropy'] != told.intermediate[-1]['entropy']
    assert searched(told, tmp_path, monkeypatch, options=options)[0] == methods  # built anew for each search


@pytest.mark.parametrize('value, methods', [
    ('', []), ([], []), (SHRINKING, ['Shrinking({1: 2, 2: 1})']),
    (['Eigenvalue', 'tiny.Tempered'], ['Eigenvalue()', 'Tempered(temperature=1.0)'])])
def test_methods_of_a_search_space_replace_those_of_the_command_line(value, methods, told, tmp_path, monkeypatch):
    found, result = searched(told, tmp_path, monkeypatch, value, ['--method', 'EarlyStopping'])
    assert found == methods and result['task']['methods'] == value


def test_methods_are_imported_from_the_working_directory(told, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, 'path', sys.path[:])
    (tmp_path / 'method_of_mine.py').write_text('from nni_darts_ext.methods import Softmax\n'
                                                'class Mine(Softmax):\n    def __init__(self, name): self.name = name')
    assert searched(told, tmp_path, monkeypatch, options=['--method', 'method_of_mine.Mine:name=cosine'])[0] == [
        "Mine(name='cosine')"]


@pytest.mark.parametrize('value, message', [
    ('Shrinkin', r'Did you mean Shrinking\?'), (['EarlyStopping', 'EarlyStopping:a=1'], "no argument 'a'"),
    (3, 'methods=3 is neither'), (['tiny.Tempered', 'Softmax'], 'cannot be combined'),
    ('Shrinking:schedule={1: 1', 'cannot be parsed')])
def test_a_trial_whose_methods_cannot_be_built_or_combined_fails_before_it_searches(value, message, told):
    told.parameters = {'phase': 'search', 'seed': 0, 'methods': value}
    with pytest.raises(MethodError, match=message):
        trial.main(TINY)
    assert told.intermediate == []


def test_a_training_from_scratch_has_no_methods(told):
    for options in ([], ['--method', 'Shrinking:schedule={1: 2}']):
        told.parameters = {'phase': 'evaluate', 'seed': 0, 'architecture': ARCHITECTURE}
        trial.main([*TINY, *options])
    assert told.final[0] == told.final[1]


def test_what_a_search_space_varies_must_be_an_option(told):
    told.parameters = {'phase': 'search', 'seed': 0, 'channels': 16}
    with pytest.raises(TrainingError, match=r"varies \['channels'\].*arc_learning_rate"):
        trial.main(TINY)


@pytest.mark.parametrize('option, value, message', [
    ('--space', 'tiny', "'tiny' does not name a function"), ('--space', 'nowhere:Space', 'nowhere'),
    ('--data', 'tiny:nothing', 'nothing')])
def test_what_cannot_be_imported_is_named(option, value, message, capsys):
    with pytest.raises(SystemExit):
        trial.main([*TINY, option, value])
    assert message in capsys.readouterr().err


def test_outside_an_experiment_it_is_a_search_with_seed_0(tmp_path):
    trial.main(TINY)
    assert (tmp_path / 'architecture.json').exists()


def test_three_calls_make_a_trial_script(told):
    told.parameters = {'phase': 'search', 'seed': 5}
    begun = protocol.start(skip_connections=['tanh'])
    assert (begun.phase, begun.seed, begun.architecture, begun.hyperparameters) == ('search', 5, None, {})
    from nni_darts_ext import DartsMutator
    mutator = DartsMutator(Space())
    mutator.choices['a'].data[1] = 5.0
    assert begun.epoch(0.5, mutator)['skip_share'] >= 0.5
    begun.epoch(0.6)
    begun.result(0.7, mutator)
    assert told.intermediate[1] == {'default': 0.6, 'task': told.parameters} and told.final[0]['architecture'] == mutator.export()
