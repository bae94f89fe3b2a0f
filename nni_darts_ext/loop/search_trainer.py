"""The search loop of DARTS (Liu et al., algorithm 1)."""

from __future__ import annotations

import itertools
import json
import logging
import math
from pathlib import Path
from typing import Any, Callable, Dict, Iterable, Iterator, List, Mapping, Optional, Sequence, Tuple, Union

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import Dataset

from ..core import files
from ..core.bilevel.gradients import check_holdings, check_steps, clip
from ..core.bilevel.side_effects import on_copied_buffers
from ..core.edge import memory_format
from ..core.edge.compilation import Compile
from ..core.logits import Logits
from ..core.space import candidates_in
from ..errors import TrainingError
from ..methods import Method, Methods
from . import batches, processes
from .arguments import known_keywords
from .batches import ForwardBatch, Loss, MetricsFunction
from .data import Data, Loading, begin_epoch, length, to_device
from .evaluating import Evaluating
from .guard import Guard
from .meters import Metrics, RunningAverages
from .mutator import MutatorInterface, check_execution, check_mutator
from .progress import bar
from .steps import Steps, of_search

_logger = logging.getLogger(__name__)


class SearchTrainer(Evaluating):
    """The loop of :class:`nni_darts_ext.DartsTrainer`, which documents the arguments, whichever NNI the model is built for."""

    @known_keywords
    def __init__(self, model: nn.Module, loss: Optional[Loss], metrics: Optional[MetricsFunction],
                 optimizer: torch.optim.Optimizer, num_epochs: int, dataset_train: Optional[Data] = None,
                 dataset_valid: Optional[Dataset] = None, mutator: Optional[Any] = None, batch_size: int = 64,
                 workers: int = 4, device: Union[torch.device, str, None] = None, log_frequency: Optional[int] = None,
                 callbacks: Optional[Sequence[Any]] = None, arc_learning_rate: float = 3e-4,
                 unrolled: Union[bool, str] = False, *, methods: Union[str, Iterable[Method]] = (), zero_op_wins: bool = False,
                 choose_from: Optional[Mapping[str, Sequence[str]]] = None, arc_betas: Tuple[float, float] = (0.5, 0.999),
                 arc_weight_decay: float = 1e-3, channels_last: bool = False, recompute: bool = False, compile: Compile = False,
                 run_dir: Optional[files.Path] = None, progress: Optional[bool] = None, dataset: Optional[Data] = None,
                 grad_clip: Optional[float] = 5.0, learning_rate: Optional[float] = None, split: float = 0.5,
                 checkpoint_dir: Optional[files.Path] = None, forward_batch: Optional[ForwardBatch] = None,
                 collate_fn: Optional[Callable[[Any], Any]] = None) -> None:
        processes.refuse_strangers()
        if isinstance(model, DistributedDataParallel):
            raise TrainingError('The model is a DistributedDataParallel, which expects one backward pass per step, but a search '
                                'has two or more. Pass the model itself: the trainer averages the gradients of all ranks.')
        self.unrolled = unrolled
        given = Methods(methods, 'DartsTrainer')
        check_execution(recompute, compile, unrolled, given)
        if not 0 < split < 1:
            raise TrainingError(f'split={split} is out of range. Expected a number greater than 0 and less than 1.')
        data = dataset if dataset_train is None else dataset_train
        if data is None:
            raise TrainingError('There is no data to search on. Pass dataset_train (or dataset).')
        check_steps([optimizer])
        self.device = processes.device() if device is None else torch.device(device)
        processes.check_device(self.device)
        self.model = model.to(self.device)
        self.channels_last = channels_last
        if channels_last:
            memory_format.lay_out(model)
        if mutator is not None and (zero_op_wins or choose_from):
            raise TrainingError('zero_op_wins and choose_from have no effect on a mutator that is passed. Pass them to '
                                'DartsMutator instead.')
        self.mutator = self.make_mutator(model, zero_op_wins, choose_from) if mutator is None else mutator
        is_ours = isinstance(self.mutator, MutatorInterface)
        check_mutator(self.mutator, {'recompute': recompute, 'compile': compile, 'run_dir': run_dir, **{
            repr(method): method.needs_edges for method in given}})
        self.mutator.to(self.device)
        if recompute or compile:
            self.mutator.execute(recompute, compile)
        batches.check(loss, forward_batch)
        if self.device.type == 'cpu' and (channels_last or compile):
            memory_format.warn_of_overruns(model, candidates_in(self.mutator.model, self.mutator.space) if is_ours else {},
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
        settings = {'split': split, 'batch_size': batch_size, 'unrolled': unrolled, 'grad_clip': grad_clip,
                    'arc_learning_rate': arc_learning_rate, 'channels_last': channels_last}
        of_mutator = self.mutator.own_methods if is_ours else ()
        methods = of_search([*of_mutator, *given], is_ours, run_dir, {
            **settings, 'methods': [repr(method) for method in (*of_mutator, *given)], 'optimizer': type(optimizer).__name__,
            'learning_rate': optimizer.param_groups[0]['lr']})
        self._guard = Guard(self.device, self._updated, self.mutator.choices if is_ours else Logits())
        self.steps = Steps(self, self.mutator, methods, unrolled, self._guard)
        if is_ours:
            self.mutator.use(methods)
        self.ctrl_optim = torch.optim.Adam(self._searched(), arc_learning_rate, betas=arc_betas, weight_decay=arc_weight_decay)
        self.callbacks = list(callbacks or [])
        for callback in self.callbacks:
            callback.build(self.model, self.mutator, self)
        self._steps_of_epoch = 0
        self.progress = progress
        in_run = None if run_dir is None else Path(run_dir) / 'checkpoints'
        self._open(checkpoint_dir or in_run, settings)

    def make_mutator(self, model: nn.Module, zero_op_wins: bool, choose_from: Optional[Mapping[str, Sequence[str]]]) -> Any:
        """The ``DartsMutator`` of the host that the model is built for."""
        raise NotImplementedError

    # The loop ------------------------------------------------------------------------------------------------------------

    def fit(self) -> None:
        """Search for ``num_epochs`` epochs."""
        self.train()

    def train(self, validate: bool = True) -> None:
        """Search for ``num_epochs`` epochs, and validate the supernet after each if ``validate``."""
        for module in () if self.history else (self.network(), self.mutator):
            processes.share(module)
        with self.steps.methods.notified_of_end():
            self._train(validate)

    def _train(self, validate: bool) -> None:
        check_holdings([self.ctrl_optim], [self.optimizer], self._searched(), self.model)
        if isinstance(self.mutator, MutatorInterface):
            self.mutator.use(self.steps.methods)  # another trainer may have used its own since
        self.steps.begin(self.num_epochs)
        done = self._resume()
        if not done:
            self.steps.start_anew()
        self.history = self.history[:done]  # without an epoch that ended with an error
        for epoch in range(done, self.num_epochs):
            if self.stopped is not None:
                break
            self._is_between_epochs = False
            self.steps.before_epoch(epoch)
            for callback in self.callbacks:
                callback.on_epoch_begin(epoch)
            self.history.append({'epoch': epoch})
            self.train_one_epoch(epoch)
            if validate:
                self.validate_one_epoch(epoch)
            indicators = self.steps.after_epoch(self.history[-1])
            if indicators:
                self.history[-1]['collapse'] = indicators
            for callback in self.callbacks:
                callback.on_epoch_end(epoch)
            self.steps.record(self.history[-1])
            self._save(epoch + 1)

    @property
    def stopped(self) -> Optional[str]:
        """Why the search ended before its last epoch."""
        return self.steps.stopped

    def validate(self) -> Metrics:
        """The loss and metrics of the supernet on the validation data, not recorded in ``history``."""
        return self.validate_one_epoch(-1)

    def train_one_epoch(self, epoch: int) -> Metrics:
        """Search for one epoch, which ends with the shorter of the two parts of the data."""
        self.set_training()
        self.steps.look(epoch, is_alone=self._is_between_epochs)
        means, step = RunningAverages(), -1
        loaders = self.train_loader, self.valid_loader
        for loader in loaders:
            begin_epoch(loader, epoch)
        n = length(*loaders)
        pairs = bar(processes.zip_until_shortest(zip(*loaders), n), n, f'Epoch {epoch + 1}/{self.num_epochs}', means,
                    self.progress if processes.is_first() else False, self.num_epochs - epoch)
        for step, (training, validation) in enumerate(pairs):
            training = self._placed(training)
            output, loss = self.steps.take(step, training, self._placed(validation))
            means.add(batches.judged(self.metrics, output, training, loss, self.forward_batch))
            if self.log_frequency and step % self.log_frequency == 0 and processes.is_first():
                _logger.info('Epoch %d/%d step %d: %s', epoch + 1, self.num_epochs, step + 1, means)
        self._guard.read()
        if step < 0:
            raise TrainingError(f'Epoch {epoch} had no step, because one of the parts of the data gave no batch. Pass more data, '
                                'and no iterator that gives its batches only once.')
        self._steps_of_epoch = step + 1
        processes.share(self.network())  # running statistics differ between processes
        return self._record(epoch, 'train', means)

    def validate_one_epoch(self, epoch: int) -> Metrics:
        """One pass over the validation data. Nothing is updated."""
        self.model.eval()
        self.mutator.eval()
        self.steps.begin_validation()
        means, n = RunningAverages(), 0
        of_loss = self.loss.modules() if isinstance(self.loss, nn.Module) else ()
        with torch.no_grad(), on_copied_buffers(of_loss):  # the buffers of a loss may change even in evaluation mode
            for batch in self._held_out():
                output, loss = self._forward(batch)
                means.add(batches.judged(self.metrics, output, batch, loss, self.forward_batch))
                n += 1
        if not any(processes.gathered(n)):
            raise TrainingError('The validation data gave no batch. Pass dataset_valid, or more data in it, and no iterator that '
                                'gives its batches only once.')
        return self._record(epoch, 'valid', means)

    def _held_out(self) -> Iterator[Any]:
        """The batches of one validation. From a stream of unknown length they are as many as the epoch had steps."""
        is_stream = self.test_loader is self.valid_loader and length(self.test_loader) is None
        n = (self._steps_of_epoch or length(self.train_loader)) if is_stream else None
        if is_stream and n is None:
            raise TrainingError('The data for the logits is a stream of unknown length. A validation takes as many batches from '
                                'it as an epoch had steps, but there was no epoch yet. Pass dataset_valid.')
        return map(self._placed, itertools.islice(self.test_loader, n))

    def _placed(self, batch: Any) -> Any:
        batch = to_device(batch, self.device)
        return memory_format.channels_last(batch) if self.channels_last else batch

    # The host of the steps -------------------------------------------------------------------------------------------------

    def network(self) -> nn.Module:
        return nn.ModuleList([self.model, self.loss]) if isinstance(self.loss, nn.Module) else self.model

    def _searched(self) -> List[nn.Parameter]:
        """The logits and the parameters of methods."""
        return list(dict.fromkeys([*self.mutator.parameters(), *self.steps.methods.parameters()]))

    def architecture_optimizer(self) -> torch.optim.Optimizer:
        return self.ctrl_optim

    def weight_optimizers(self) -> Sequence[torch.optim.Optimizer]:
        return [self.optimizer]

    def set_training(self) -> None:
        self.model.train()
        self.mutator.train()

    def run_batch(self, batch: Any, phase: str) -> Tuple[Any, Tensor]:
        output, loss = self._forward(batch)
        return (output, loss), loss

    def before_weight_pass(self) -> None:
        self.optimizer.zero_grad(set_to_none=True)  # with zeros, momentum and weight decay would change weights that are cut

    def step_weights(self, loss: Tensor, weights: Sequence[nn.Parameter]) -> None:
        if loss.requires_grad:
            loss.backward()
        elif weights:
            self._guard.miss('training loss')
        processes.average_gradients(weights)
        norm = clip(weights, self.grad_clip or math.inf)
        self.steps.see('norm of the gradient of the weights', norm, shared=True)
        self.optimizer.step()

    def _forward(self, batch: Any) -> Tuple[Any, Any]:
        self.mutator.reset()
        return batches.forward(self.model, batch, self.loss, self.forward_batch)

    def _record(self, epoch: int, part: str, means: RunningAverages) -> Metrics:
        torch.clear_autocast_cache()  # its casts are wrong if the weights change before the next pass
        means = RunningAverages.joined(processes.gathered(means.read()))
        if epoch >= 0:
            if not self.history or self.history[-1]['epoch'] != epoch:  # the user has called train_one_epoch directly
                self.history.append({'epoch': epoch})
            self.history[-1][part] = means.values()
        if epoch >= 0 and processes.is_first():
            _logger.info('Epoch %d/%d %s: %s', epoch + 1, self.num_epochs, part, means)
        return means.values()

    # The result ----------------------------------------------------------------------------------------------------------

    def export(self, file: Optional[str] = None) -> Dict[str, Any]:
        """The current architecture, in the form that the model's family of NNI takes. If ``file`` is given, rank 0 also writes it
        there as JSON."""
        mutator = self.mutator
        architecture = mutator.export(mutator.form) if isinstance(mutator, MutatorInterface) else mutator.export()
        if file is not None and processes.is_first():
            as_json = json.dumps(architecture, indent=2, sort_keys=True, default=Tensor.tolist)  # NNI's mutators export tensors
            files.write(file, as_json.encode('utf-8'))
        return architecture
