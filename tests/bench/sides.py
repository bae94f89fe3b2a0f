"""NNI's search step, ours and what they are held against, each as a function that builds it and gives the function of a turn.

A turn of :data:`STEP` takes one search step, which is an architecture and a weight step, and one of :data:`EPOCH` an epoch with
all that belongs to it. Both return seconds. Of NNI 3.0's strategy and of ours it is the second step of an epoch, for in the first
one, and in every tenth, both write the probabilities to Lightning's log, one by one. :func:`launching` counts launches instead.
"""

import inspect
import logging
import time
import warnings
from functools import partial
from types import MappingProxyType
from typing import Callable, Mapping, NamedTuple

import launches
import measure
import torch
from problem import LEARNING_RATE, loss, optimizer
from references import CandidatesAlone, Mixture, as_written
from torch.utils.data import DataLoader

import nni_darts_ext
from nni_darts_ext.core.bilevel import estimators
from nni_darts_ext.core.edge import memory_format

STEP, EPOCH, SHORTER, LONGER = 'step', 'epoch', 'shorter', 'longer'
BATCHES = {STEP: 1, EPOCH: 4, SHORTER: 2, LONGER: 3}

VARIANTS = {
    'ours': {},
    'ours, channels last': {'channels_last': True},
    'ours, channels last, recomputed': {'channels_last': True, 'recompute': True},
    'ours, channels last, compiled': {'channels_last': True, 'compile': True},
}
"""Options of our trainer and strategy. One that they do not have yet, or that this PyTorch cannot do, leaves its variants out."""

SECOND_ORDER = {
    'ours, exact, channels last': {'unrolled': 'exact', 'channels_last': True},
    'ours, finite difference, channels last': {'unrolled': 'finite_difference', 'channels_last': True},
    'ours, finite difference, channels last, recomputed': {
        'unrolled': 'finite_difference', 'channels_last': True, 'recompute': True},
}

IN_CALLS = ("NNI's", 'ours', 'ours, channels last', 'the candidates alone', 'the candidates alone, channels last')
IN_EPOCHS = ('ours', 'ours, channels last', 'ours, channels last, compiled')
GROWING = ("NNI's", 'ours, channels last', 'ours, channels last, recomputed')

UNROLLED = {'exact': 'exact', 'finite difference': 'finite_difference'}
ESTIMATORS = {'exact': estimators.unrolled_exact, 'finite difference': estimators.unrolled_finite_difference}

NNI, ALONE, WRITTEN, WRITTEN_ALIKE = "NNI's", 'the candidates alone', 'as the paper writes it', 'that in the same format'
CHANNELS_LAST = ', channels last'


class Side(NamedTuple):
    """One of those that are measured in turns."""

    build: Callable
    """``build(problem, device)`` gives the function of a turn."""
    against: Mapping[str, str] = MappingProxyType({})
    """What it is held against, and the side that stands for it."""
    has_memory: bool = True
    """Whether its peak is that of the search."""


def first_order():
    """A step of NNI's, of ours in all variants, and the candidates alone."""
    sides = {NNI: Side(_nnis(STEP))}
    for name, options in _offered(VARIANTS).items():
        alone = ALONE + CHANNELS_LAST if options.get('channels_last') else ALONE
        sides[name] = Side(_ours(STEP, **options), {NNI: NNI, ALONE: alone}, has_memory=not options.get('compile'))
    sides[ALONE] = Side(_alone, {NNI: NNI})
    sides[ALONE + CHANNELS_LAST] = Side(partial(_alone, channels_last=True), {NNI: NNI})
    return sides


def in_calls():
    """Those of the first order whose calls of layers are what there is to compare."""
    return {name: side for name, side in first_order().items() if name in IN_CALLS}


def epochs():
    """NNI's and ours."""
    offered = _offered({name: VARIANTS[name] for name in IN_EPOCHS})
    return {NNI: Side(_nnis(EPOCH)), **{name: Side(_ours(EPOCH, **options), {NNI: NNI}) for name, options in offered.items()}}


def launching():
    """Both orders of NNI's and ours, and the candidates alone. A turn gives the :class:`launches.Counted` of one step."""
    sides = {NNI: Side(partial(_counted, _nnis)), 'ours': Side(partial(_counted, _ours), {NNI: NNI}),
             ALONE: Side(_alone_counted, {NNI: NNI})}
    base = NNI
    if nni_has_second_order():
        base = NNI + ', second order'
        sides[base] = Side(partial(_counted, partial(_nnis, unrolled=True)))
    for name, unrolled in UNROLLED.items():
        sides['ours, ' + name] = Side(partial(_counted, partial(_ours, unrolled=unrolled)), {NNI: base})
    return sides


def to_grow():
    """NNI's and the variants of ours that say how a step grows."""
    return {name: side for name, side in first_order().items() if name in GROWING}


def second_order():
    """A step of NNI's, of the first order where it has no second one, and of ours."""
    base, options = (NNI, {'unrolled': True}) if nni_has_second_order() else (NNI + ' first order', {})
    sides = {base: Side(_nnis(STEP, **options))}
    for name, options in _offered(SECOND_ORDER).items():
        sides[name] = Side(_ours(STEP, **options), {base: base})
    return sides


def nni_has_second_order():
    return _classic() is not None


def architecture_gradient():
    """The second order's gradient by the logits, without any step: ours, and the paper's as it is written."""
    sides = {}
    for suffix, options in (('', {}), (CHANNELS_LAST, {'channels_last': True})):
        sides[WRITTEN + suffix] = Side(partial(_as_written, **options))
        for name, estimate in ESTIMATORS.items():
            sides['ours, ' + name + suffix] = Side(partial(_estimate, estimate, **options), {
                WRITTEN: WRITTEN, WRITTEN_ALIKE: WRITTEN + suffix})
    return sides


def _offered(variants):
    arguments = inspect.signature(nni_darts_ext.DartsTrainer.__init__).parameters
    return {name: options for name, options in variants.items()
            if set(options) <= set(arguments) and ('compile' not in options or hasattr(torch, 'compile'))}


# Trainers and strategies -------------------------------------------------------------------------------------------------------

def _classic():
    """NNI's own trainer and mutator, None where it has none."""
    try:
        from nni.algorithms.nas.pytorch.darts import DartsMutator, DartsTrainer
    except ImportError:
        return None
    return DartsTrainer, DartsMutator


def _nnis(what, **options):
    if _classic():
        return partial(_trainer, what, *_classic(), **options)
    from nni.nas.strategy import DARTS
    return partial(_strategy, what, DARTS, **options)


def _ours(what, **options):
    if _classic():
        return partial(_trainer, what, nni_darts_ext.DartsTrainer, nni_darts_ext.DartsMutator, **options)
    return partial(_strategy, what, nni_darts_ext.DARTS, **options)


def _counted(make, problem, device):
    with launches.as_on_a_gpu(device):
        longer, shorter = (make(what)(problem, device) for what in (LONGER, SHORTER))

    def turn():
        """An epoch less one that is a step shorter, both the second, for in the first optimisers have no state yet."""
        with launches.as_on_a_gpu(device):
            longer()
            shorter()
            return launches.Counted(longer) - launches.Counted(shorter)
    return turn


def _trainer(what, trainer_class, mutator_class, problem, device, **options):
    model = problem.model()
    n_batches = BATCHES[what]
    trainer = trainer_class(
        model, loss=loss, metrics=lambda output, labels: {}, num_epochs=1, dataset_train=problem.images(2 * n_batches),
        dataset_valid=problem.images(n_batches), mutator=mutator_class(model), batch_size=problem.batch_size, workers=0,
        device=device, optimizer=optimizer(model.parameters()), **options)
    return partial(measure.timed, trainer.train if what == EPOCH else partial(trainer.train_one_epoch, -1), device)


def _strategy(what, strategy_class, problem, device, **options):
    from nni.nas.evaluator.pytorch import Lightning, LightningModule, Trainer
    from nni.nas.execution import SequentialExecutionEngine
    from nni.nas.space import RawFormatModelSpace
    warnings.simplefilter('ignore')
    logging.getLogger('pytorch_lightning').setLevel(logging.ERROR)
    logging.getLogger('lightning').setLevel(logging.ERROR)

    class Module(LightningModule):
        def training_step(self, batch, batch_idx):
            images, labels = batch
            return loss(self.model(images), labels)

        def validation_step(self, batch, batch_idx):
            pass

        def configure_optimizers(self):
            return optimizer(self.parameters())

        def on_train_batch_start(self, *batch):
            measure.synchronize(device)
            self.began = time.perf_counter()

        def on_train_batch_end(self, *batch):
            measure.synchronize(device)
            self.took = time.perf_counter() - self.began

    n_batches = 2 if what == STEP else BATCHES[what]  # the first one's time does not count
    loaders = [DataLoader(problem.images(n_batches), problem.batch_size) for _ in range(2)]
    where = {'accelerator': 'gpu', 'devices': [device.index or 0]} if device.type == 'cuda' else {'accelerator': 'cpu'}
    trainer = Trainer(max_epochs=0, enable_progress_bar=False, enable_model_summary=False, enable_checkpointing=False,
                      logger=False, num_sanity_val_steps=0, **where)
    module = Module()
    space = RawFormatModelSpace(problem.model(), Lightning(module, trainer, *loaders))
    supernet = strategy_class(**options).initialize(space, SequentialExecutionEngine())

    def turn():
        trainer.fit_loop.max_epochs += 1
        took = measure.timed(partial(supernet.evaluator.evaluate, supernet.model_space), device)
        return module.took if what == STEP else took
    return turn


# What they are held against ----------------------------------------------------------------------------------------------------

def _alone(problem, device, channels_last=False):
    model = CandidatesAlone(_laid_out(problem, device, channels_last))
    batches = [problem.batch(device, channels_last) for _ in range(2)]
    return partial(measure.timed, partial(model.step, *batches, loss), device)


def _alone_counted(problem, device):
    return partial(launches.Counted, _alone(problem, device))


def _as_written(problem, device, channels_last=False):
    model = Mixture(_laid_out(problem, device, channels_last)).to(device)
    batches = [problem.batch(device, channels_last) for _ in range(2)]
    return partial(measure.timed, partial(as_written, model, *batches, loss, LEARNING_RATE), device)


def _estimate(estimate, problem, device, channels_last=False):
    model = _laid_out(problem, device, channels_last)
    mutator = nni_darts_ext.DartsMutator(model).to(device)
    training, validation = (partial(_loss_on, model, mutator, *problem.batch(device, channels_last)) for _ in range(2))
    arguments = training, validation, list(mutator.parameters()), [torch.optim.SGD(model.parameters(), LEARNING_RATE)], model
    return partial(measure.timed, partial(estimate, *arguments), device)


def _loss_on(model, mutator, images, labels):
    mutator.reset()
    return loss(model(images), labels)


def _laid_out(problem, device, channels_last):
    model = problem.model().to(device)
    if channels_last:
        memory_format.lay_out(model)
    return model
