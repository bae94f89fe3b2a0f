"""Small searches that are the same everywhere: float64, on a CPU, nothing random.

    python tests/recorded_search.py FOLDER

records in FOLDER, under one NNI after another, what they compute: ``searches.json`` holds each search once, and those that an NNI
before has recorded must compute the same. Checkpoints and the folder of a run are written where they are missing. What is in
``tests/data/recorded`` commit 01c1120 has written, in Python 3.11 with PyTorch 2.13 and NNI 3.0, 2.10.1 and 2.8.
"""

import json
import math
import os
import shutil
import sys
import warnings
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

import numpy
import torch
import two_processes
from resumed import Interrupted
from spaces import TWO_NODES, Cells, batches, smooth, write_weights
from ten_steps import start_logits
from torch import nn

import nni_darts_ext.nn as dnn
from nni_darts_ext import DartsMutator, DartsTrainer, hosts
from nni_darts_ext.loop.checkpoint import Checkpoints, read
from nni_darts_ext.methods import EarlyStopping, Eigenvalue, Shrinking
from nni_darts_ext.run import Run

OPTIONS = {  # how trainer and strategy are told
    'first order': lambda: {},
    'exact': lambda: dict(unrolled='exact'),
    'finite difference': lambda: dict(unrolled='finite_difference'),
    'shrink': lambda: dict(methods=[Shrinking({1: 2})]),
    'eigenvalue': lambda: dict(methods=[Eigenvalue()]),
    'early stopping': lambda: dict(methods=[EarlyStopping()]),
    'shrink and early stopping': lambda: dict(methods=[Shrinking({1: 2}), EarlyStopping()]),
    'recompute': lambda: dict(recompute=True),
    'channels last': lambda: dict(channels_last=True),
}
FORMS = ['classic', 'sample']
"""Of architectures."""
FOLDER = Path(__file__).parent / 'data' / 'recorded'
SEARCHES = 'searches.json'
CHECKPOINTS = {'trainer.ckpt': 'cut', 'trainer_with_methods.ckpt': 'shrink and early stopping'}
"""After 2 of 4 epochs of a trainer, with their options."""
EIGENVALUE = 0.03
"""The relative tolerance for eigenvalues. Those that are recorded are of a power iteration, which stopped up to 2.5 % below."""
EARLY, BACK, LATE = ('node0_edge0', 'op0'), ('node0_edge1', 'op1'), ('node0_edge0', 'op2')
"""Candidates that are cut from the beginning, of which one comes back in the second epoch, and one that is cut then."""


def two_nodes():
    return Cells(TWO_NODES, named=True)


def small():
    """A space for checkpoints."""
    return Cells([((4, 3), 1, 'sum')], named=True)


def strategies():
    """The family whose strategy is here, None if there is none."""
    return next((name for name in ('nas', 'lightning') if hosts.available()[name] is None), None)


def outcome(modules, logits, architecture, **more):
    """What a search has come to, as JSON holds it: of each parameter and statistic its sum and that of its squares."""
    weights = {f'{name}.{own}': [tensor.sum().item(), (tensor ** 2).sum().item()] for name, module in modules.items()
               for own, tensor in [*module._parameters.items(), *module._buffers.items()]
               if tensor is not None and tensor.is_floating_point()}
    return json.loads(json.dumps({'logits': {key: values.tolist() for key, values in logits.items()}, 'weights': weights,
                                  'cuts': {key: list(logits.cuts(key)) for key in logits}, **more, 'architecture': architecture}))


def parts(model):
    """The modules of a model by name, before a search changes any."""
    return {name: module for name, module in model.named_modules() if not name.endswith('_darts')}


def accuracy(output, labels):
    return {'acc': (output.argmax(dim=1) == labels).double().mean()}


# Trainers ---------------------------------------------------------------------------------------------------------------

class Changes:
    """Changes the search at the beginning of epochs."""

    def __init__(self, changes):
        self.changes, self.begun = changes, []

    def build(self, model, mutator, trainer):
        self.trainer = trainer

    def on_epoch_begin(self, epoch):
        self.begun.append(epoch)
        if epoch in self.changes:
            self.changes[epoch](self.trainer)

    def on_epoch_end(self, epoch):
        pass


class Images(dnn.ModelSpace):
    """Two edges on images."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.a, self.b = (dnn.LayerChoice({'conv': nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8)),
                                           'pool': nn.MaxPool2d(3, 1, 1), 'skip': nn.Identity()}, key=key) for key in 'ab')
        self.pick = dnn.InputChoice(choose_from=['a', 'b'], n_chosen=1, key='pick')
        self.classifier = nn.Linear(8, 2)

    def forward(self, x):
        x = torch.relu(self.stem(x))
        return self.classifier(self.pick([self.a(x), self.b(torch.sin(x))]).mean(dim=(2, 3)))


def images(n):
    return [tuple((smooth((4, 3, 6, 6), 2 * i + j), torch.tensor([0, 1, 1, 0])) for j in range(2)) for i in range(n)]


def trainer(options, space=two_nodes, data=None, epochs=2, changes=None, cut=(), **more):
    torch.manual_seed(0)  # which a checkpoint compares
    model = write_weights(space())
    modules = parts(model)
    mutator = DartsMutator(model).double()
    start_logits(mutator.choices)
    for candidate in cut:
        mutator.cut(*candidate)
    optimizer = torch.optim.SGD(model.parameters(), 0.05, momentum=0.9, weight_decay=3e-4)
    data = data or batches(4)
    search = DartsTrainer(model, nn.functional.cross_entropy, accuracy, optimizer, epochs, tuple(zip(*data)),
                          dataset_valid=data[0], mutator=mutator, device='cpu', arc_learning_rate=0.05,
                          callbacks=[Changes(changes or {})], **{**OPTIONS[options](), **more})
    search.modules = modules
    return search


def trained(*args, **options):
    return ended(trainer(*args, **options))


def ended(search):
    search.train()
    architectures = {form: search.mutator.export(form) for form in FORMS}
    assert search.export() == architectures['classic' if hosts.available()['classic'] is None else 'sample']
    return outcome(search.modules, search.mutator.choices, architectures, history=search.history,
                   stopped=search.stopped is not None)


def with_cuts(changes=None, **options):
    in_all = {1: lambda search: (search.mutator.cut(*LATE), search.mutator.restore(*BACK)), **(changes or {})}
    return trainer('first order', changes=in_all, cut=[EARLY, BACK], **options)


def growing():
    """A loss, and with it the eigenvalue, that grows with each epoch."""
    def scale(search):
        loss = search.loss
        search.loss = lambda output, labels: 1.5 * loss(output, labels)
    return trained('early stopping', data=batches(1), epochs=12, changes=dict.fromkeys(range(1, 12), scale))


TRAINERS = {
    **{name: lambda name=name: trained(name) for name in ('first order', 'exact', 'finite difference', 'shrink', 'eigenvalue',
                                                          'recompute')},
    'cut': lambda: ended(with_cuts()),
    'ends early': growing,
    'two cells': lambda: trained('first order', space=lambda: Cells(TWO_NODES, cells=2, named=True)),
    'images': lambda: trained('first order', space=Images, data=images(3)),
    'images, channels last': lambda: trained('channels last', space=Images, data=images(3)),
}


def of_rank(options):
    """The part of this process in the search of all."""
    data = [tuple(two_processes.share_of(batch) for batch in step) for step in batches(4)]
    return trained(options, space=lambda: Cells(two_processes.NODES, named=True), data=data)


def in_two_processes(options):
    first, second = two_processes.results(of_rank, options)
    assert first == second
    return first


PROCESSES = {name: lambda name=name: in_two_processes(name) for name in ('first order', 'exact', 'finite difference')}


# Checkpoints and runs ---------------------------------------------------------------------------------------------------

def resumable(options, **more):
    """A search of 4 epochs with these options, for checkpoints."""
    more = dict(space=small, epochs=4, **more)
    return with_cuts(**more) if options == 'cut' else trainer(options, **more)


def resumed(options, checkpoint=None, folder=None):
    """The same to its end, from a checkpoint if one is given."""
    if checkpoint is not None:
        Checkpoints(folder).save(2, read(checkpoint))
    search = resumable(options, checkpoint_dir=folder)
    found = ended(search)
    assert search.callbacks[0].begun == [0, 1, 2, 3][0 if checkpoint is None else 2:]
    return found


RESUMED = {file: lambda options=options: resumed(options) for file, options in CHECKPOINTS.items()}


def write_checkpoint(options, file):
    def fail(search):
        raise Interrupted
    folder = file.with_suffix('.tmp')
    try:
        resumable(options, checkpoint_dir=folder, changes={2: fail}).train()
    except Interrupted:
        os.replace(folder / 'epoch-2.ckpt', file)
        shutil.rmtree(folder)


def write_run(folder):
    search = trainer('shrink and early stopping', epochs=4, run_dir=folder)
    search.train()
    for name in ('checkpoints', 'tensorboard'):
        shutil.rmtree(folder / name, ignore_errors=True)
    state = json.loads((folder / 'state.json').read_text())
    (folder / 'state.json').write_text(json.dumps({**state, 'host': 'host', 'pid': 1}) + '\n')


# Strategies --------------------------------------------------------------------------------------------------------------

@contextmanager
def preferring_strategies():
    """Choices are of the family that strategies search, where NNI offers several."""
    with mock.patch.dict(os.environ, {hosts.PREFERENCE: 'retiarii'} if strategies() == 'lightning' else {}):
        yield


@preferring_strategies()
def searched(options, data=None, epochs=2, cut=(), changes=None, checkpoint=None, keep=(), space=two_nodes, arguments=None,
             momentum=0.9, logs=False, devices=1):
    """An experiment with the strategy that is here.

    Parameters
    ----------
    space
        Makes the model.
    changes
        By epoch a function of the strategy.
    checkpoint
        Lightning's, from which the search is resumed.
    keep
        Callbacks of Lightning's.
    arguments
        More of them for the strategy.
    momentum
        Of the optimiser of the weights.
    logs
        Whether the training step logs the accuracy.
    devices
        The number of processes, each of which calls this with its own data.
    """
    from pytorch_lightning import Callback

    from nni_darts_ext import DARTS
    is_nas = strategies() == 'nas'
    if is_nas:
        from nni.nas.evaluator import pytorch as evaluators
    else:
        from nni.retiarii.evaluator import pytorch as evaluators

    class Module(evaluators.LightningModule):
        def __init__(self):
            super().__init__()
            self.losses = []

        def forward(self, x):
            return self.model(x)

        def on_train_epoch_start(self):
            if self.trainer.current_epoch in (changes or {}):
                changes[self.trainer.current_epoch](strategy)

        def training_step(self, batch, batch_idx):
            loss = nn.functional.cross_entropy(self(batch[0]), batch[1])
            self.losses.append(loss.item())
            if logs:
                self.log('train_acc', accuracy(self(batch[0]), batch[1])['acc'])
            return loss

        def validation_step(self, batch, batch_idx):
            pass

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), 0.05, momentum=momentum, weight_decay=3e-4)

    class Start(Callback):
        def setup(self, trainer, *args, **kwargs):  # before Lightning reads a checkpoint
            start_logits(strategy.choices)

    model = write_weights(space())
    modules = parts(model)
    strategy = DARTS(arc_learning_rate=0.05, **{'gradient_clip_val': 5.0} if is_nas else {}, **OPTIONS[options](),
                     **(arguments or {}))
    for candidate in cut:
        strategy.cut(*candidate)
    of_trainer, of_fit = {}, {}
    if devices > 1:
        from strategy_ranks import OWN_BATCHES
        of_trainer.update(strategy='ddp', devices=devices, **OWN_BATCHES)
    if checkpoint is not None and is_nas:
        of_fit = {'fit_kwargs': {'ckpt_path': str(checkpoint)}}
    elif checkpoint is not None:
        of_trainer['resume_from_checkpoint'] = str(checkpoint)
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')  # of all that has changed around NNI since
        loaders = [evaluators.DataLoader(list(part), batch_size=None) for part in zip(*(data or batches(4)))]
        module = Module()
        evaluator = evaluators.Lightning(module, evaluators.Trainer(
            max_epochs=epochs, enable_progress_bar=False, enable_model_summary=False, logger=False, accelerator='cpu',
            num_sanity_val_steps=0, enable_checkpointing=bool(keep), callbacks=[Start(), *keep], **of_trainer),
            *loaders, **of_fit)
        architecture = (_in_nas if is_nas else _in_retiarii)(model, evaluator, strategy)
    return outcome(modules, strategy.choices, {'sample': architecture}, losses=module.losses)


def _in_nas(model, evaluator, strategy):
    from nni.nas.experiment import NasExperiment
    experiment = NasExperiment(model, evaluator, strategy)
    try:
        experiment.run()
        return experiment.export_top_models(formatter='dict')[0]
    finally:
        experiment.stop()


def _in_retiarii(model, evaluator, strategy):
    from nni.retiarii.experiment.pytorch import RetiariiExeConfig, RetiariiExperiment
    experiment = RetiariiExperiment(model, evaluator, [], strategy)
    config = RetiariiExeConfig('local')
    config.execution_engine = 'oneshot'
    experiment.run(config)
    return experiment.export_top_models()[0]


def watched():
    """The eigenvalues of a strategy are in its run."""
    found = searched('shrink and early stopping', arguments={'run_dir': 'run'})
    indicators = [epoch.indicators for epoch in Run.read('run').epochs]
    shutil.rmtree('run')
    return {**found, 'indicators': indicators}


def strategy_resumed(checkpoint=None, keep=()):
    return searched('shrink and early stopping', space=small, epochs=4, checkpoint=checkpoint, keep=keep)


STRATEGIES = {
    **{name: lambda name=name: searched(name) for name in ('first order', 'exact', 'finite difference', 'shrink')},
    'cut': lambda: searched('first order', cut=[EARLY, BACK], changes={
        1: lambda strategy: (strategy.cut(*LATE), strategy.restore(*BACK))}),
    'watched': watched,
    'resumed': strategy_resumed,
}


class Weighty(dnn.ModelSpace):
    """Edges of candidates that NNI's profiler knows, one with weights and one without."""

    def __init__(self):
        super().__init__()
        self.edges = nn.Sequential(*(dnn.LayerChoice({'heavy': nn.Linear(3, 3), 'light': nn.Identity()}, key=key)
                                     for key in 'ab'))
        self.classifier = nn.Linear(3, 2)

    def forward(self, x):
        return self.classifier(self.edges(x))


def penalized():
    from nni.nas.profiler.pytorch.flops import NumParamsProfiler
    profiler = NumParamsProfiler(Weighty().double(), torch.zeros(1, 3, dtype=torch.float64))
    return searched('first order', space=Weighty, arguments={'penalty': {'profiler': profiler, 'baseline': 50.0, 'scale': 2.0}})


ONLY_NAS = {'penalty': penalized}


def of_strategy():
    """The name of Lightning's checkpoint that is for this NNI."""
    import nni
    return f'strategy-nni{nni.__version__}.ckpt'


def checkpoints_in(folder):
    """Lightning's callback that writes one after each epoch."""
    from pytorch_lightning.callbacks import ModelCheckpoint
    with mock.patch.object(numpy, 'Inf', numpy.inf, create=True):  # which NumPy 2 has no more and the oldest Lightning reads
        return ModelCheckpoint(str(folder), '{epoch}', save_top_k=-1)


def write_lightnings(file):
    folder = file.with_suffix('.tmp')
    strategy_resumed(keep=[checkpoints_in(folder)])
    content = torch.load(str(folder / 'epoch=1.ckpt'))
    torch.save({**content, 'callbacks': {}}, str(file))  # which name the folder
    shutil.rmtree(folder)


# The record --------------------------------------------------------------------------------------------------------------

def cases():
    """All that this NNI can search."""
    groups = {'trainer': TRAINERS, 'two processes': PROCESSES, 'resumed': RESUMED}
    if strategies() is not None:
        groups['strategy'] = {**STRATEGIES, **(ONLY_NAS if strategies() == 'nas' else {})}
    return {f'{group}, {name}': function for group, functions in groups.items() for name, function in functions.items()}


def differences(found, expected, tolerance=1e-12, where=''):
    """Where plain values differ, numbers by more than the tolerance."""
    if isinstance(found, dict) and isinstance(expected, dict):
        keys = [*found, *(key for key in expected if key not in found)]
        return [one for key in keys for one in differences(found.get(key), expected.get(key), tolerance, f'{where}/{key}')]
    if isinstance(found, list) and isinstance(expected, list) and len(found) == len(expected):
        return [one for i, pair in enumerate(zip(found, expected)) for one in differences(*pair, tolerance, f'{where}/{i}')]
    if isinstance(found, float) and isinstance(expected, (int, float)):
        bound = EIGENVALUE * abs(expected) if where.endswith('/eigenvalue') else tolerance
        is_same = math.isfinite(found) and abs(found - expected) <= bound
    else:
        is_same = type(found) is type(expected) and found == expected
    return [] if is_same else [f'{where}: {found!r}, recorded {expected!r}']


def main(folder):
    folder = Path(folder).absolute()
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / SEARCHES
    record = json.loads(file.read_text()) if file.exists() else {}
    for name, search in cases().items():
        found = search()
        different = differences(found, record.setdefault(name, found))
        if different:
            sys.exit('\n'.join([f'{name}: another NNI has recorded other values', *different]))
    lines = [f'{json.dumps(name)}: {json.dumps(case, sort_keys=True)}' for name, case in sorted(record.items())]
    file.write_text('{\n' + ',\n'.join(lines) + '\n}\n')
    writers = {name: lambda path, options=options: write_checkpoint(options, path) for name, options in CHECKPOINTS.items()}
    writers['run'] = write_run
    if strategies() is not None:
        writers[of_strategy()] = write_lightnings
    for name, write in writers.items():
        if not (folder / name).exists():
            write(folder / name)


if __name__ == '__main__':
    import recorded_search  # so that other processes find its functions under this name
    recorded_search.main(sys.argv[1])
