"""The trainer for DARTS, on every version of NNI."""

from __future__ import annotations

from typing import Any, Mapping, Optional, Sequence

from torch import nn

from . import hosts
from .errors import TrainingError
from .loop.arguments import SHARED
from .loop.search_trainer import SearchTrainer


class DartsTrainer(SearchTrainer, *hosts.every('Trainer')):  # type: ignore[misc]
    __doc__ = f"""NNI's classic ``DartsTrainer`` and Retiarii's in one, on every version of NNI, without their faults.

    It searches an architecture and trains the weights of its supernet together. It is a subclass of the trainer of the installed
    NNI, if that has one, and works with classic callbacks and with ``RetiariiExperiment(model, trainer)``.

    If ``torch.distributed`` has a process group (``torchrun`` and ``init_process_group()``), its ranks search together, see
    :mod:`nni_darts_ext.loop.processes`. Every rank must call the same methods with the same arguments, and pass the model itself,
    not a ``DistributedDataParallel``.

    Parameters
    ----------
    model
        The search space.
    loss
        A callable that takes the model's output and the labels and returns a scalar tensor. None with ``forward_batch``.
    metrics
        A callable that takes the same two and returns a dict of numbers or of tensors with one element. Tensors, like the loss,
        are read only for the log and at the end of the epoch, so that batches need not wait for each other. None for no metrics.
    optimizer
        The optimiser of the model's weights.
    num_epochs
        The number of epochs of the search.
    dataset_train
        The data to search on. A data set or a list of samples is split. A tuple or list of exactly two is a pair of data for the
        weights and data for the logits, each a data set or an iterable of batches, such as a loader or a list of batches. Data
        sets are shuffled in each epoch, except for an ``IterableDataset``, which keeps its order. An epoch ends with the shorter
        part. Several ranks share data sets; each uses all batches of its own ``IterableDataset`` or loader.
    dataset_valid
        The data to validate the supernet on after each epoch: a data set or a finite iterable of batches. Default: the data for
        the logits; if that is a stream of unknown length, as many of its batches as the epoch had steps.
    mutator
        A mutator of the model. Default: a ``DartsMutator``. Other mutators, such as NNI's own, do not work with ``recompute``,
        ``compile``, ``run_dir`` and methods that read edges.
    batch_size, workers
        The options of the loaders that the trainer creates, on each rank. Default 64 and 4 (source: NNI).
    device
        Default: a GPU if there is one; with several ranks, the GPU of each rank.
    log_frequency
        The number of steps between two lines in the log, which contain the means of rank 0. Default: one line per epoch.
    callbacks
        Callbacks of classic NNI (``nni.nas.pytorch.callbacks``), or others with the same methods.
    {SHARED.format(progress='if standard error is a terminal')}
    dataset
        Another name of ``dataset_train``, used by Retiarii.
    grad_clip
        The norm that the gradient of the weights is clipped to; 0 or None for no clipping. Default 5 (source: NNI).
    learning_rate
        If given, replaces the learning rate of ``optimizer``.
    split
        The share of the data set that trains weights; the rest trains logits. Default 0.5 (source: NNI and the paper).
    checkpoint_dir
        A folder for checkpoints of the state after each epoch; the last two are kept. If it contains checkpoints, :meth:`train`
        resumes from the last one that can be read, and repeats at most one epoch. The result is that of a search without
        interruption, on a CPU bit for bit. Model, data, settings and seed must be the same; ``num_epochs`` may be larger.
        Objects with ``state_dict`` and ``load_state_dict`` among ``loss``, ``metrics``, ``callbacks`` and their attributes, such
        as a scheduler, are also saved. A scheduler must have been built for the same number of epochs. Random states of data
        sets and of persistent workers are not saved. Default: in ``run_dir``, if that is given, else no checkpoints.
    forward_batch
        A function ``forward_batch(model, batch) -> (output, loss)``, for batches that are not a pair of inputs and labels, models
        that take several inputs and models that return their loss. It is called for each batch, which is already on the device.
        ``metrics`` then takes ``(output, batch)``, and is not called if the output is None. In validation
        (``not model.training``) the loss may be None. Default None: a batch is a pair ``(inputs, labels)``, the output is
        ``model(inputs)`` and the loss ``loss(output, labels)``.
    collate_fn
        Makes a batch of a list of samples, in the loaders that the trainer creates. Default: PyTorch's ``default_collate``.

    Attributes
    ----------
    history : list of dict
        For each epoch ``{{'epoch': int, 'train': {{...}}, 'valid': {{...}}}}`` with the means of loss and metrics over all
        ranks, and ``'collapse': {{...}}`` with the indicators that methods have computed, such as ``'eigenvalue'``.
    stopped : str or None
        Why the search ended before its last epoch; None if it did not.

    Raises
    ------
    ArgumentError
        A keyword is unknown.
    TrainingError
        There is no data, or not enough for one batch of each part, or data that is neither samples nor batches; without
        ``forward_batch``, a batch is not a pair; a loss is not a scalar, or a metric not a number; ``split`` or ``unrolled`` is
        out of range; ``compile``, or ``recompute`` before PyTorch 2.1, is combined with something that needs second derivatives;
        a mutator of another class is combined with an argument that needs a ``DartsMutator``; the optimiser needs a closure
        (LBFGS); several processes have no process group, or do not search on their current GPU; the model is a
        ``DistributedDataParallel``.
    MethodError
        A subclass of TrainingError: methods cannot be combined, or do not work in this search.
    CheckpointError
        ``checkpoint_dir`` cannot be created, or a callback has a state that cannot be saved. Raised by :meth:`train`: no
        checkpoint in ``checkpoint_dir`` can be read, or they belong to another search.
    """

    def make_mutator(self, model: nn.Module, zero_op_wins: bool, choose_from: Optional[Mapping[str, Sequence[str]]]) -> Any:
        return hosts.of_model(model).DartsMutator(model, zero_op_wins, choose_from)

    def enable_visualization(self) -> None:
        """Not supported, unlike in classic NNI: always raises a :class:`TrainingError` that names the alternatives."""
        raise TrainingError('enable_visualization() is for a viewer of classic NNI and is not supported. Pass run_dir=... to the '
                            'trainer, and open that folder with "nni-darts-ext plot", "nni-darts-ext report" or TensorBoard.')
