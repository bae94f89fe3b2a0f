"""The search loop of DARTS (Liu et al., algorithm 1): an architecture step on a validation batch, then a weight
step on a training batch."""

from __future__ import annotations

import itertools
import json
import logging
import math
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Mapping, Optional, Sequence, Tuple, Union

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import Dataset

from ..core import files
from ..core.bilevel.curvature import dominant_eigenvalue, needing_second_derivatives
from ..core.bilevel.estimators import choose, first_order
from ..core.bilevel.gradients import check_holdings, check_steps, clip, frozen, norm_of, set_gradients, stepping
from ..core.bilevel.side_effects import on_copied_buffers
from ..core.edge import compilation, memory_format, recomputation
from ..core.edge.compilation import Compile
from ..core.logits import Logits
from ..core.space import candidates_in
from ..errors import TrainingError
from . import batches, processes
from .batches import ForwardBatch, Loss, MetricsFunction
from .data import Data, Loading, begin_epoch, length, to_device
from .followers import of_search
from .following import Follower, after_epoch, followed
from .guard import Guard
from .meters import Metrics, RunningAverages
from .mutator import MutatorInterface
from .progress import bar
from .resuming import Resumable
from .shrinking import stages

_logger = logging.getLogger(__name__)


class SearchTrainer(Resumable):
    """Searches an architecture and the weights of its supernet together.

    Where ``torch.distributed`` has a process group (``torchrun`` and ``init_process_group()``), its ranks search together, see
    :mod:`nni_darts_ext.loop.processes`: each calls the same methods with the same arguments and the bare model.

    Parameters
    ----------
    model
        The search space.
    loss
        Any callable of the model's output and the labels, giving a scalar tensor; None with ``forward_batch``.
    metrics
        A callable of the same two, giving a dict of numbers or of tensors with one element. Tensors, like the loss, are
        read at the end of the epoch and for the log alone: no batch waits for the one before. None for no metrics.
    optimizer
        The optimiser of the model's weights.
    num_epochs
        How many epochs to search.
    dataset_train
        What to search on: a data set or a list of samples, which is split, or a pair for weights and logits, that is a tuple or
        list of exactly two, each a data set or an iterable of batches (a loader or a list of batches, say). Data sets are
        shuffled in each epoch, but for an ``IterableDataset``, which keeps its order. An epoch ends with the shorter of the two.
        Several ranks share data sets; what an ``IterableDataset`` or a loader gives a rank is that rank's.
    dataset_valid
        What to validate the supernet on after each epoch: a data set or an iterable of batches, which must end. Default: the part
        of the logits; where that is a stream of unknown length, as many of its batches as the epoch has had steps.
    mutator
        A mutator of the model. Default: a ``DartsMutator``. One of somebody else's, NNI's own say, does not go with
        ``recompute``, ``compile``, ``shrink``, ``early_stopping`` and ``run_dir``.
    batch_size, workers
        For the loaders made here, of each rank. Default 64 and 4 (source: NNI).
    device
        Default: a GPU if there is one, of several ranks each its own.
    log_frequency
        How many steps lie between two lines in the log, which rank 0 writes with its own means. Default: none within an epoch.
    callbacks
        Callbacks of classic NNI (``nni.nas.pytorch.callbacks``), or others with the same methods.
    arc_learning_rate
        Learning rate of the logits. Default 3e-4 (source: the paper), with Adam, betas (0.5, 0.999), weight decay 1e-3.
    unrolled
        The second order, see :mod:`nni_darts_ext.core.bilevel.estimators`: True or ``'exact'`` for the exact gradient through one
        virtual step, ``'finite_difference'`` for the paper's approximation of it. Default False, first order (source: NNI).
    dataset
        Another name of ``dataset_train``, which Retiarii's scripts use.
    grad_clip
        The norm that the gradient of the weights is clipped to; 0 or None for no clipping. Default 5 (source: NNI).
    learning_rate
        Sets the learning rate of ``optimizer``. Default: left alone.
    split
        The share of the data set that trains weights; the rest trains logits. Default 0.5 (source: NNI and the paper).
    channels_last
        Whether model and images of four dimensions lie in memory with the channels last: the same numbers to rounding, and
        faster for convolutions and poolings on most devices. Default False.
    recompute
        Whether what an edge computes on the way is computed again in the backward pass instead of kept for it: far less memory,
        more time, the same numbers; running statistics move once. Default False.
    compile
        Whether ``torch.compile`` makes one program of each kind of edge, or the name of its mode (``'reduce-overhead'``, say). It
        takes minutes at first. Where it cannot, a warning says why and the search goes on without. Not with the exact second
        order, ``eigenvalue`` and ``early_stopping``, which need second derivatives. Default False.
    checkpoint_dir
        A folder for checkpoints: the state after each epoch, of which the last two stay. Where it has some, :meth:`train` goes on
        from the last one that is whole, and the search ends as one that ran through would have: on a CPU bit for bit, and at most
        one epoch is done twice. That takes the same model, data, settings and seed; ``num_epochs`` may grow. What has
        ``state_dict`` and ``load_state_dict`` among ``loss``, ``metrics`` and ``callbacks``, or among their attributes (a
        scheduler), goes on, too; a scheduler that was made for another number of epochs is refused. Data sets and persistent
        workers of loaders that have random states of their own do not. Default: no checkpoints.
    run_dir
        A folder for the run: settings, metrics and weights of each epoch, the architecture, and checkpoints
        (``checkpoint_dir``, unless another is given), which ``nni-darts-ext show``,
        ``plot`` and ``report`` read, also while the search runs; TensorBoard's scalars where that is installed. See
        :mod:`nni_darts_ext.run`. One that holds a run is gone on with when the search goes on, and refused when it starts anew.
        Default: none.
    progress
        Whether a bar in the terminal shows how far an epoch is. Default None: where standard error is one.
    shrink
        From which epoch on, counted from 0, an edge keeps how many candidates: with ``{10: 5, 20: 3}`` the weakest go after ten
        epochs and after twenty, as in P-DARTS. See :class:`nni_darts_ext.loop.shrinking.Shrinking`. Default: all stay.
    eigenvalue
        Whether the dominant eigenvalue of the validation loss' Hessian in the logits is computed after each epoch, on the epoch's
        first validation batch. It is in ``history`` and in the run's folder. See :mod:`nni_darts_ext.core.bilevel.curvature`.
        Default False.
    early_stopping
        Whether the search ends when that eigenvalue grows too fast, with the logits of before. See
        :class:`nni_darts_ext.loop.early_stopping.EarlyStopping`. Default False.
    forward_batch
        A function ``forward_batch(model, batch) -> (output, loss)``, for batches that are no pair of inputs and labels, models
        that take several inputs and models that return their loss. It is called wherever a batch, on the device, goes through
        the model. ``metrics`` gets ``(output, batch)`` then, unless the output is None; in validation (``not model.training``)
        the loss may be None. Default None: a batch is a pair ``(inputs, labels)``, the output ``model(inputs)`` and the loss
        ``loss(output, labels)``.
    collate_fn
        For the loaders made here, how a list of samples becomes a batch. Default: PyTorch's ``default_collate``.

    Attributes
    ----------
    history : list of dict
        For each epoch ``{'epoch': int, 'train': {...}, 'valid': {...}}`` with the means of loss and metrics, over all ranks; with
        ``eigenvalue`` or ``early_stopping`` also ``'collapse': {'eigenvalue': float}``.
    stopped : str or None
        Why the search ended before its last epoch.

    Raises
    ------
    TrainingError
        No data, or too little for one batch of either part; data that is neither samples nor batches; a batch that is no pair,
        without ``forward_batch``; a loss that is no scalar; metrics that are no numbers; a split or ``unrolled`` out of range;
        ``recompute`` with an argument that needs second derivatives before PyTorch 2.1, ``compile`` with one at all; ``shrink``
        is no schedule, or by :meth:`train` one that goes beyond the last epoch. A mutator of somebody else's with an argument
        that needs ours; an optimiser whose steps need a closure (LBFGS). Several processes without a process group, or on GPUs
        that are not those of their ranks; a model in ``DistributedDataParallel``.
    CheckpointError
        ``checkpoint_dir`` can be none, or a callback has a state that no checkpoint holds; by :meth:`train`: none of the
        checkpoints there can be read and is one of this search.
    """

    def __init__(self, model: nn.Module, loss: Optional[Loss], metrics: Optional[MetricsFunction],
                 optimizer: torch.optim.Optimizer, num_epochs: int, dataset_train: Optional[Data] = None,
                 dataset_valid: Optional[Dataset] = None, mutator: Optional[Any] = None, batch_size: int = 64,
                 workers: int = 4, device: Union[torch.device, str, None] = None, log_frequency: Optional[int] = None,
                 callbacks: Optional[Sequence[Any]] = None, arc_learning_rate: float = 3e-4,
                 unrolled: Union[bool, str] = False, *, dataset: Optional[Data] = None, grad_clip: Optional[float] = 5.0,
                 learning_rate: Optional[float] = None, split: float = 0.5, channels_last: bool = False,
                 recompute: bool = False, compile: Compile = False, checkpoint_dir: Optional[files.Path] = None,
                 shrink: Optional[Mapping[int, int]] = None, run_dir: Optional[files.Path] = None,
                 progress: Optional[bool] = None, eigenvalue: bool = False, early_stopping: bool = False,
                 forward_batch: Optional[ForwardBatch] = None, collate_fn: Optional[Callable[[Any], Any]] = None) -> None:
        processes.refuse_strangers()
        if isinstance(model, DistributedDataParallel):
            raise TrainingError('The model is in a DistributedDataParallel, which expects one backward pass in a step where a '
                                'search has two or more. Give the bare model: the trainer averages the gradients of the ranks '
                                'itself.')
        self.unrolled, self._unrolled_gradients = unrolled, choose(unrolled)
        needs = needing_second_derivatives(unrolled, eigenvalue, early_stopping)
        recomputation.check(recompute, needs)
        compilation.check(compile, needs)
        if not 0 < split < 1:
            raise TrainingError(f'split={split} is no share of the data. Expected a number between 0 and 1, without them.')
        data = dataset if dataset_train is None else dataset_train
        if data is None:
            raise TrainingError('There is no data to search on. Give dataset_train (or dataset).')
        check_steps([optimizer])
        self.device = processes.device() if device is None else torch.device(device)
        processes.check_device(self.device)
        self.model = model.to(self.device)
        self.channels_last = channels_last
        if channels_last:
            memory_format.lay_out(model)
        self.mutator = self.make_mutator(model) if mutator is None else mutator
        check_mutator(self.mutator, {'recompute': recompute, 'compile': compile, 'shrink': shrink is not None, 'run_dir': run_dir,
                                     'early_stopping': early_stopping})
        self.mutator.to(self.device)
        if recompute or compile:
            self.mutator.execute(recompute, compile)
        batches.check(loss, forward_batch)
        if self.device.type == 'cpu' and (channels_last or compile):
            ours = isinstance(self.mutator, MutatorInterface)
            memory_format.warn_of_overruns(model, candidates_in(self.mutator.model, self.mutator.space) if ours else {},
                                    'channels_last' if channels_last else 'compile')
        self.loss = loss.to(self.device) if isinstance(loss, nn.Module) else loss
        self.metrics, self.forward_batch = metrics, forward_batch
        self.optimizer = optimizer
        self.num_epochs = num_epochs
        self.batch_size, self.workers = batch_size, workers
        self.log_frequency = log_frequency
        self.grad_clip = grad_clip
        self.history: List[Dict[str, Any]] = []
        if learning_rate is not None:
            for group in optimizer.param_groups:
                group['lr'] = learning_rate
        loading = Loading(batch_size, workers, self.device, collate_fn, takes_pairs=forward_batch is None)
        self.train_loader, self.valid_loader = loading.halves(data, split)
        self.test_loader = self.valid_loader if dataset_valid is None else loading.validation(dataset_valid)
        self.ctrl_optim = torch.optim.Adam(self.mutator.parameters(), arc_learning_rate, betas=(0.5, 0.999), weight_decay=1e-3)
        self.callbacks = list(callbacks or [])
        for callback in self.callbacks:
            callback.build(self.model, self.mutator, self)
        settings = {'split': split, 'batch_size': batch_size, 'unrolled': unrolled, 'grad_clip': grad_clip,
                    'arc_learning_rate': arc_learning_rate, 'channels_last': channels_last,
                    'shrink': None if shrink is None else stages(shrink), 'early_stopping': early_stopping}
        self.watches_curvature = eigenvalue or early_stopping
        self.followers: List[Follower] = of_search(shrink, early_stopping, run_dir, {
            **settings, 'optimizer': type(optimizer).__name__, 'learning_rate': optimizer.param_groups[0]['lr']})
        self.stopped: Optional[str] = None
        self._steps = 0  # of the last epoch
        self.progress = progress
        if checkpoint_dir is None and run_dir is not None:
            checkpoint_dir = Path(run_dir) / 'checkpoints'
        self._guard = Guard(self.device, self._moving,
                            self.mutator.choices if isinstance(self.mutator, MutatorInterface) else Logits())
        self._open(checkpoint_dir, settings)

    def make_mutator(self, model: nn.Module) -> Any:
        """The ``DartsMutator`` of the host that the model is built for."""
        raise NotImplementedError

    # The loop ------------------------------------------------------------------------------------------------------------

    def fit(self) -> None:
        """Search for ``num_epochs`` epochs."""
        self.train()

    def train(self, validate: bool = True) -> None:
        """Search for ``num_epochs`` epochs, validating the supernet after each of them unless told otherwise."""
        for module in () if self.history else (self._network, self.mutator):
            processes.share(module)
        with followed(self.followers):
            self._train(validate)

    def _train(self, validate: bool) -> None:
        check_holdings([self.ctrl_optim], [self.optimizer], self.mutator.parameters(), self.model)
        for follower in self.followers:
            follower.begin(self.mutator, self.num_epochs)
        done = self._resume()
        self.history = self.history[:done]  # without what an error has left of an epoch
        for epoch in range(done, self.num_epochs):
            if self.stopped is not None:
                break
            self._is_between_epochs = False
            for follower in self.followers:
                follower.before_epoch(epoch)
            for callback in self.callbacks:
                callback.on_epoch_begin(epoch)
            self.history.append({'epoch': epoch})
            self.train_one_epoch(epoch)
            if self.watches_curvature:
                self.history[-1]['collapse'] = {'eigenvalue': self._eigenvalue()}
            if validate:
                self.validate_one_epoch(epoch)
            self.stopped = after_epoch(self.followers, epoch, self.history[-1])
            for callback in self.callbacks:
                callback.on_epoch_end(epoch)
            for follower in self.followers:
                follower.record(epoch, self.history[-1])
            self._save(epoch + 1)

    def validate(self) -> Metrics:
        """The loss and metrics of the supernet as it is."""
        return self.validate_one_epoch(-1)

    def train_one_epoch(self, epoch: int) -> Metrics:
        """One pass over the shorter of the two parts."""
        self.model.train()
        self.mutator.train()
        means, step = RunningAverages(), -1
        loaders = self.train_loader, self.valid_loader
        for loader in loaders:
            begin_epoch(loader, epoch)
        n = length(*loaders)
        pairs = bar(processes.zip_until_shortest(zip(*loaders), n), n, f'Epoch {epoch + 1}/{self.num_epochs}', means,
                    self.progress if processes.is_first() else False)
        for step, (training, validation) in enumerate(pairs):
            self._guard.begin_step(epoch, step)
            training, validation = self._placed(training), self._placed(validation)
            if step == 0 and self.watches_curvature:
                self._watched = validation
            self._architecture_step(validation, training)
            means.add(self._weight_step(training))
            if self.log_frequency and step % self.log_frequency == 0 and processes.is_first():
                _logger.info('Epoch %d/%d step %d: %s', epoch + 1, self.num_epochs, step + 1, means)
        self._guard.read()
        if step < 0:
            raise TrainingError(f'Epoch {epoch} had no step, for one of the parts of the data gave no batch. Give more data, and '
                                'no iterator that gives its batches only once.')
        self._steps = step + 1
        processes.share(self._network)  # for the sake of running statistics: one network is validated
        return self._record(epoch, 'train', means)

    def validate_one_epoch(self, epoch: int) -> Metrics:
        """One pass over the validation data, without a step."""
        self.model.eval()
        self.mutator.eval()
        means, n = RunningAverages(), 0
        of_loss = self.loss.modules() if isinstance(self.loss, nn.Module) else ()
        with torch.no_grad(), on_copied_buffers(of_loss):  # the model is in evaluation mode, and a loss may know of none
            for batch in self._held_out():
                means.add(self._judged(batch, *self._forward(batch)))
                n += 1
        if not any(processes.gathered(n)):
            raise TrainingError('The data to validate on gave no batch. Give dataset_valid, or more data in it, and no iterator '
                                'that gives its batches only once.')
        return self._record(epoch, 'valid', means)

    def _held_out(self) -> Iterator[Any]:
        """The batches of one validation. The part of the logits may be a stream without an end."""
        is_stream = self.test_loader is self.valid_loader and length(self.test_loader) is None
        n = (self._steps or length(self.train_loader)) if is_stream else None
        if is_stream and n is None:
            raise TrainingError('The data of the logits is a stream, of which a validation takes as many batches as an epoch '
                                'had, and there was no epoch yet. Give dataset_valid.')
        return map(self._placed, itertools.islice(self.test_loader, n))

    def _placed(self, batch: Any) -> Any:
        batch = to_device(batch, self.device)
        return memory_format.channels_last(batch) if self.channels_last else batch

    @property
    def _network(self) -> nn.Module:
        """All that a loss runs."""
        return nn.ModuleList([self.model, self.loss]) if isinstance(self.loss, nn.Module) else self.model

    def _architecture_step(self, validation: Any, training: Any) -> None:
        logits = [parameter for group in self.ctrl_optim.param_groups for parameter in group['params']]

        def loss_on(batch: Any, name: str) -> Callable[[], Tensor]:
            return lambda: self._guard.see(f'{name} loss', self._forward(batch)[1])
        validation_loss, training_loss = loss_on(validation, 'validation'), loss_on(training, 'training')
        if isinstance(self.mutator, MutatorInterface):
            self.mutator.choices.forget(self.ctrl_optim)
        if self._unrolled_gradients is None:
            gradients = first_order(validation_loss, logits, self._network, processes.average)
        else:
            gradients = self._unrolled_gradients(training_loss, validation_loss, logits, [self.optimizer], self._network,
                                                 processes.average)
        norm = norm_of([gradient for gradient in gradients if gradient is not None])
        self._guard.see('norm of the gradient of the logits', norm, shared=True)
        set_gradients(logits, gradients)
        self.ctrl_optim.step()

    def _eigenvalue(self) -> float:
        """On the first validation batch of the epoch, as the architecture steps see it."""
        return dominant_eigenvalue(lambda: self._forward(self._watched)[1], list(self.mutator.parameters()), self._network,
                                   processes.average)

    def _weight_step(self, batch: Any) -> Mapping[str, Any]:
        self.optimizer.zero_grad(set_to_none=True)  # for zeros would move the weights of candidates that are cut
        with frozen(self.mutator.parameters()):
            output, loss = self._forward(batch)
            weights = list(self._weights())
            if self._guard.see('training loss', loss).requires_grad:
                loss.backward()
            elif weights:
                self._guard.miss('training loss')
            processes.average_gradients(weights)
        with stepping(weights):
            norm = clip(weights, self.grad_clip or math.inf)
            self._guard.see('norm of the gradient of the weights', norm, shared=True)
            self.optimizer.step()
        return self._judged(batch, output, loss)

    def _weights(self) -> Iterator[nn.Parameter]:
        """All that the weight step computes gradients for, in the model or, for the loss, in the optimiser alone."""
        stepped = (parameter for group in self.optimizer.param_groups for parameter in group['params'])
        return (parameter for parameter in dict.fromkeys([*self.model.parameters(), *stepped]) if parameter.requires_grad)

    def _forward(self, batch: Any) -> Tuple[Any, Any]:
        torch.clear_autocast_cache()  # of casts of weights that have moved since, or that were made without a graph
        self.mutator.reset()
        return batches.forward(self.model, batch, self.loss, self.forward_batch)

    def _judged(self, batch: Any, output: Any, loss: Optional[Tensor]) -> Mapping[str, Any]:
        return batches.judged(self.metrics, output, batch, loss, self.forward_batch)

    def _record(self, epoch: int, part: str, means: RunningAverages) -> Metrics:
        torch.clear_autocast_cache()  # for those who run the model next
        means = RunningAverages.joined(processes.gathered(means.read()))
        if epoch >= 0:
            if not self.history or self.history[-1]['epoch'] != epoch:  # who calls for single epochs
                self.history.append({'epoch': epoch})
            self.history[-1][part] = means.values()
        if processes.is_first():
            _logger.info('Epoch %d/%d %s: %s', epoch + 1, self.num_epochs, part, means)
        return means.values()

    def enable_visualization(self) -> None:
        """What classic NNI's trainer has for its own viewer of searches.

        Raises
        ------
        TrainingError
            Always: says what there is in its place.
        """
        raise TrainingError('enable_visualization() writes what a viewer of classic NNI reads. Use run_dir=..., before the '
                            'search, and "nni-darts-ext plot" or "nni-darts-ext report" with that folder, or TensorBoard.')

    # The result ----------------------------------------------------------------------------------------------------------

    def export(self, file: Optional[str] = None) -> Dict[str, Any]:
        """The architecture as it stands, in the form that the model's family takes; written to a JSON file if one is named, by
        rank 0."""
        mutator = self.mutator
        architecture = mutator.export(mutator.form) if isinstance(mutator, MutatorInterface) else mutator.export()
        if file is not None and processes.is_first():
            with open(file, 'w', encoding='utf-8') as opened:
                json.dump(architecture, opened, indent=2, sort_keys=True, default=_listed)
        return architecture


def check_mutator(mutator: Any, arguments: Mapping[str, Any]) -> None:
    """Raise :class:`TrainingError` where a mutator of somebody else's cannot be searched with, or not with some arguments."""
    name = f'{type(mutator).__module__}.{type(mutator).__qualname__}'
    if not isinstance(mutator, nn.Module) or not hasattr(mutator, 'reset'):
        raise TrainingError(f'The mutator is a {name}. Expected an nn.Module with reset() and export(), whose parameters are the '
                            'logits: leave mutator out, or give a DartsMutator.')
    if next(mutator.parameters(), None) is None:
        raise TrainingError(f'The mutator, a {name}, has no parameters, and so there are no logits to learn. Leave mutator out, '
                            'or give a DartsMutator.')
    ours = [argument for argument, value in arguments.items() if value]
    if ours and not isinstance(mutator, MutatorInterface):
        raise TrainingError(f'{", ".join(ours)}: not with a {name}, of whose edges nobody here knows. Use the DartsMutator of '
                            'nni_darts_ext (leave mutator out), or leave these arguments out.')


def _listed(value: Any) -> Any:
    """What mutators of others export as tensors."""
    if isinstance(value, Tensor):
        return value.tolist()
    raise TypeError(f'An architecture with a {type(value).__name__} cannot be written as JSON.')
