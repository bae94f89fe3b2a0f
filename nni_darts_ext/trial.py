"""One trial of ``DartsTuner``: ``python -m nni_darts_ext.trial --space module:function --data module:function``.

NNI tells the trial whether to search or to train an architecture. Processes that ``torchrun`` has started search and train
together. Defaults are those of the paper (Liu et al., appendix A): SGD with momentum 0.9, weight decay 3e-4 and a learning rate
of 0.025 with cosine annealing, gradients clipped to the norm 5.
"""

from __future__ import annotations

import argparse
import importlib
import logging
import os
import random
import sys
from typing import Any, Callable, List, Optional, Sequence

import torch
from torch import Tensor, nn
from torch.utils.data import IterableDataset, Subset

from . import DartsTrainer, apply_fixed_architecture, cost, protocol
from .errors import CheckpointError, RunError, TrainingError
from .loop import batches, processes
from .loop.data import Loading, check_samples, to_device
from .loop.training import Training, mean_metric
from .methods import all_named

_logger = logging.getLogger('nni_darts_ext.trial')  # __name__ would be '__main__'


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser('python -m nni_darts_ext.trial', description='One trial of DartsTuner: a search, or the '
                                   'training of an architecture from scratch.',
                                   formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    made.add_argument('--space', required=True, type=imported, metavar='MODULE:FUNCTION',
                      help='returns the search space; called without arguments')
    made.add_argument('--data', required=True, type=imported, metavar='MODULE:FUNCTION',
                      help='returns two or three data sets: for training (a search splits it in halves), for validation and, '
                      'optionally, for the result of the long training')
    made.add_argument('--evaluation-space', type=imported, metavar='MODULE:FUNCTION',
                      help='returns a larger space with the same keys, in which to train (default: that of --space)')
    made.add_argument('--loss', type=imported, metavar='MODULE:FUNCTION',
                      help='takes output and labels (default: cross entropy)')
    made.add_argument('--metric', type=imported, metavar='MODULE:FUNCTION',
                      help='takes output and labels (with --forward-batch: output and batch); its mean is reported to NNI '
                      '(default: accuracy)')
    made.add_argument('--forward-batch', type=imported, metavar='MODULE:FUNCTION',
                      help='takes model and batch and returns output and loss, in place of --loss, for batches that are not a '
                      'pair of inputs and labels; needs --metric (default: a batch is such a pair)')
    made.add_argument('--collate-fn', type=imported, metavar='MODULE:FUNCTION',
                      help='makes a batch of a list of samples (default: that of PyTorch)')
    made.add_argument('--search-epochs', type=int, default=50)
    made.add_argument('--evaluation-epochs', type=int, default=100)
    made.add_argument('--final-epochs', type=int, default=600)
    made.add_argument('--batch-size', type=int, default=64, help='of all processes together')
    made.add_argument('--learning-rate', type=float, default=0.025)
    made.add_argument('--momentum', type=float, default=0.9)
    made.add_argument('--weight-decay', type=float, default=3e-4)
    made.add_argument('--grad-clip', type=float, default=5.0)
    made.add_argument('--arc-learning-rate', type=float, default=3e-4)
    made.add_argument('--order', type=int, choices=[1, 2], default=1, help='order of the architecture gradient')
    made.add_argument('--method', dest='methods', action='append', default=[], metavar='NAME[:ARGUMENT=VALUE,...]',
                      help='an addition to plain DARTS: recommended (against a collapse), a class of nni_darts_ext.methods, such '
                      'as EarlyStopping or "Shrinking:schedule={10: 5, 20: 3}", or one of your own, such as '
                      'my_module.MyMethod:weight=0.5; may be given several times')
    made.add_argument('--skip-connection', action='append', metavar='NAME',
                      help='a candidate that counts as a skip connection in the collapse indicators; may be given several times '
                      '(default: skip_connect and the like)')
    made.add_argument('--workers', type=int, default=0, help='processes that load data')
    made.add_argument('--device', help='(default: a GPU if there is one; of several processes, one for each)')
    made.add_argument('--threads', type=_positive, metavar='N',
                      help='threads of PyTorch for computing on the CPU (default: OMP_NUM_THREADS, or 1 if that is not set, as '
                      'trials that run beside each other would slow each other down)')
    made.add_argument('--storage', metavar='FOLDER',
                      help='a folder that outlives the trial, for the run of a search and the checkpoints of a training: a trial '
                      'that is repeated, also on another machine, resumes from them')
    return made


VARIED = {'epochs': 'search_epochs', **{name: name for name in (
    'arc_learning_rate', 'batch_size', 'grad_clip', 'learning_rate', 'methods', 'momentum', 'order', 'weight_decay')}}
"""The hyperparameters that an experiment's search space may vary, and the options that they set. A value of ``methods`` is one
string as for ``--method``, such as ``recommended``, ``''`` for no method, or a list of such strings."""

RECIPE = ('batch_size', 'learning_rate', 'momentum', 'weight_decay', 'grad_clip', 'data', 'loss', 'forward_batch', 'collate_fn')
"""The options that must be the same for a training to resume."""


def main(argv: Optional[Sequence[str]] = None) -> None:
    """Run the trial.

    Raises
    ------
    TrainingError
        The search space varies something that is not in :data:`VARIED`; ``--data`` does not return data sets;
        ``--forward-batch`` is given with ``--loss`` or without ``--metric``; a method cannot be built, or combined with another;
        several processes cannot share a batch equally.
    CheckpointError, RunError
        The folder in ``--storage`` belongs to another search or training.
    """
    sys.path.insert(0, os.getcwd())  # NNI runs a trial in the folder of the user's code
    args = parser().parse_args(argv)
    if args.threads is not None or 'OMP_NUM_THREADS' not in os.environ:
        torch.set_num_threads(args.threads or 1)
    if args.forward_batch is None:
        args.loss, args.metric = args.loss or nn.functional.cross_entropy, args.metric or accuracy
    elif args.loss is not None or args.metric is None:
        raise TrainingError('--forward-batch returns the loss, so leave --loss out. It needs --metric, a function of the output '
                            'and the batch, whose mean is reported to NNI.')
    with processes.group(args.device):
        _run(args)


def _run(args: argparse.Namespace) -> None:
    trial = protocol.start(args.skip_connection, args.storage)
    logging.basicConfig(level=logging.INFO)  # no effect in an experiment, where NNI has set up logging to a file
    if not processes.is_first():
        logging.getLogger('nni_darts_ext').setLevel(logging.WARNING)
    unknown = sorted(set(trial.hyperparameters) - set(VARIED))
    if unknown:
        raise TrainingError(f'The search space varies {unknown}, which a trial does not support. Expected some of '
                            f'{sorted(VARIED)}.')
    for name, value in trial.hyperparameters.items():
        setattr(args, VARIED[name], value)
    _logger.info('%s with seed %d and %d threads: %s', trial.phase, trial.seed, torch.get_num_threads(),
                 trial.architecture or trial.hyperparameters)
    is_of_rank = args.device is None or (processes.size() > 1 and args.device == 'cuda')
    device = processes.device() if is_of_rank else torch.device(args.device)
    loading = Loading(processes.part_of_batch(args.batch_size), args.workers, device, args.collate_fn,
                      args.forward_batch is None, trial.seed)
    _seed(trial.seed)
    (search if trial.phase == protocol.SEARCH else train)(trial, args, loading)


def search(trial: protocol.Trial, args: argparse.Namespace, loading: Loading) -> None:
    """Search. Report the validation metric of the supernet after each epoch, and the architecture at the end."""
    methods = all_named(args.methods)
    training, validation = _data(args)[:2]
    model = args.space()
    optimizer = torch.optim.SGD(model.parameters(), args.learning_rate, args.momentum, weight_decay=args.weight_decay)
    trainer = DartsTrainer(
        model, args.loss, lambda output, target: {'metric': args.metric(output, target)}, optimizer, args.search_epochs,
        loading.halves(training, 0.5), validation, batch_size=loading.batch_size, workers=args.workers, device=loading.device,
        callbacks=[_Reporter(trial)], arc_learning_rate=args.arc_learning_rate, unrolled=args.order == 2,
        grad_clip=args.grad_clip, run_dir=trial.run_dir, forward_batch=args.forward_batch, collate_fn=args.collate_fn,
        methods=methods)
    _seed_rank(trial.seed)
    try:
        trainer.train()
    except (CheckpointError, RunError) as error:
        is_complete = len(trainer.history) == args.search_epochs and 'valid' in trainer.history[-1]
        if not is_complete or (processes.size() > 1 and isinstance(error, RunError)):  # only rank 0 records, the others wait
            raise
        _logger.error('%s The search is complete.', error)  # which must not be lost
    trial.result(_validated(trainer), trainer.mutator)


def _validated(trainer: DartsTrainer) -> float:
    """The validation metric of the last epoch."""
    return _measured(trainer.history[-1]['valid'].get('metric'))


def _measured(value: Optional[float]) -> float:
    if value is None:
        raise TrainingError('--forward-batch gave None as output in validation (not model.training), so --metric has nothing to '
                            'measure. Return the output that --metric takes.')
    return value


class _Reporter:
    """A callback of the trainer: steps the learning rate and reports to NNI after each epoch."""

    def __init__(self, trial: protocol.Trial) -> None:
        self._trial = trial

    def build(self, model: nn.Module, mutator: Any, trainer: Any) -> None:
        self._mutator, self._trainer = mutator, trainer
        self._scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(trainer.optimizer, trainer.num_epochs)

    def on_epoch_begin(self, epoch: int) -> None:
        pass

    def on_epoch_end(self, epoch: int) -> None:
        self._scheduler.step()
        _logger.info('%s', self._trial.epoch(_validated(self._trainer), self._mutator))


def train(trial: protocol.Trial, args: argparse.Namespace, loading: Loading) -> None:
    """Train an architecture from scratch. Report its validation metric after each epoch."""
    is_final = trial.phase == protocol.FINAL
    epochs = args.final_epochs if is_final else args.evaluation_epochs
    dataset, *held_out = _data(args)
    model = (args.evaluation_space or args.space)()
    model = apply_fixed_architecture(model, trial.architecture_for(model)).to(loading.device)
    optimizer = torch.optim.SGD(model.parameters(), args.learning_rate, args.momentum, weight_decay=args.weight_decay)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs)
    training = Training(model, optimizer, scheduler, epochs, args.loss, dataset, loading, forward_batch=args.forward_batch,
                        grad_clip=args.grad_clip, checkpoint_dir=trial.checkpoint_dir,
                        settings={name: _plain(getattr(args, name)) for name in RECIPE})

    def measured(data: Any) -> float:
        return _measured(mean_metric(model, args.metric, data, loading, args.forward_batch))
    _seed_rank(trial.seed)
    for _ in training.epochs():
        _logger.info('%s', trial.epoch(measured(held_out[0])))
    result, costs = measured(held_out[-1 if is_final else 0]), {}
    try:
        inputs = to_device(next(iter(training.loader)), loading.device)
        costs = cost(_OnBatches(model, args.forward_batch), inputs)._asdict()
    except Exception as error:  # a user's network may raise anything, which must not lose the result
        _logger.warning('The network cannot be counted: %s: %s', type(error).__name__, error)
    trial.result(result, **costs)


def _plain(option: Any) -> Any:
    """An option for a checkpoint, which names a function instead of holding it."""
    name = getattr(option, '__qualname__', type(option).__qualname__)
    return f'{getattr(option, "__module__", None)}:{name}' if callable(option) else option


class _OnBatches(nn.Module):
    """A network as it runs on a whole batch, of any form."""

    def __init__(self, model: nn.Module, forward_batch: Any) -> None:
        super().__init__()
        self.model, self._forward_batch = model, forward_batch

    def forward(self, batch: Any) -> Any:
        return batches.forward(self.model, batch, None, self._forward_batch)


def _data(args: argparse.Namespace) -> List[Any]:
    datasets = list(args.data())
    if len(datasets) not in (2, 3):
        raise TrainingError(f'--data gave {len(datasets)} data sets. Expected two or three: for training, for validation and, '
                            'optionally, for the result of the long training.')
    for i, dataset in enumerate(datasets):
        if i == 0 or not isinstance(dataset, IterableDataset):
            check_samples(dataset, f'Part {i} of --data', 'Return data sets: the trial creates the loaders, with --batch-size '
                          'and --collate-fn, and a search splits the first data set.')
    return [Subset(dataset, range(len(dataset))) if isinstance(dataset, (list, tuple)) else dataset  # type: ignore[arg-type]
            for dataset in datasets]


def accuracy(output: Tensor, labels: Tensor) -> float:
    """The share of samples whose largest output is that of their label."""
    return (output.argmax(dim=1) == labels).float().mean().item()


def _positive(text: str) -> int:
    if not text.isdigit() or not int(text):
        raise argparse.ArgumentTypeError(f'{text!r} is not a positive number.')
    return int(text)


def imported(name: str) -> Callable[..., Any]:
    """Import the function that ``module:function`` names.

    Raises
    ------
    argparse.ArgumentTypeError
        It cannot be imported.
    """
    module, colon, function = name.partition(':')
    if not (module and colon and function):
        raise argparse.ArgumentTypeError(f'{name!r} does not name a function. Expected module:function.')
    try:
        return getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError) as error:
        raise argparse.ArgumentTypeError(f'{name!r} cannot be imported from {os.getcwd()}: {error}') from error


def _seed_rank(seed: int) -> None:
    """Give each rank its own dropout masks and augmentations, once data and model, which must be the same, are built."""
    if not processes.is_first():
        _seed(seed + processes.rank())


def _seed(seed: int) -> None:
    import numpy as np
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


if __name__ == '__main__':
    main()
