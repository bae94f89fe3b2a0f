"""DARTS' trainer on whatever NNI is installed."""

from __future__ import annotations

from typing import Any, Mapping, Optional, Sequence

from torch import nn

from . import hosts
from .errors import TrainingError
from .loop.arguments import SHARED
from .loop.search_trainer import SearchTrainer


class DartsTrainer(SearchTrainer, *hosts.every('Trainer')):  # type: ignore[misc]
    __doc__ = f"""NNI's classic ``DartsTrainer`` and Retiarii's in one, on every NNI, without their faults.

    It searches an architecture and the weights of its supernet together. It is a trainer of NNI's where NNI has one: classic
    callbacks take it, and ``RetiariiExperiment(model, trainer).run()`` and ``export_top_models()``.

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
        A mutator of the model. Default: a ``DartsMutator``. One of other origin, such as NNI's own, does not go with
        ``recompute``, ``compile``, ``run_dir`` and methods that read its edges.
    batch_size, workers
        For the loaders made here, of each rank. Default 64 and 4 (source: NNI).
    device
        Default: a GPU if there is one, of several ranks each its own.
    log_frequency
        How many steps lie between two lines in the log, which rank 0 writes with its own means. Default: none within an epoch.
    callbacks
        Callbacks of classic NNI (``nni.nas.pytorch.callbacks``), or others with the same methods.
    {SHARED.format(progress='where standard error is a terminal')}
    dataset
        Another name of ``dataset_train``, which Retiarii's scripts use.
    grad_clip
        The norm that the gradient of the weights is clipped to; 0 or None for no clipping. Default 5 (source: NNI).
    learning_rate
        Sets the learning rate of ``optimizer``. Default: left alone.
    split
        The share of the data set that trains weights; the rest trains logits. Default 0.5 (source: NNI and the paper).
    checkpoint_dir
        A folder for checkpoints: the state after each epoch, of which the last two stay. Where it has some, :meth:`train` resumes
        from the last one that is whole, and the search ends as one that ran through would have: on a CPU bit for bit, and at most
        one epoch is done twice. That takes the same model, data, settings and seed; ``num_epochs`` may grow. What has
        ``state_dict`` and ``load_state_dict`` among ``loss``, ``metrics`` and ``callbacks``, or among their attributes (a
        scheduler), is also saved; a scheduler that was made for another number of epochs is refused. Data sets and persistent
        workers of loaders that have random states of their own are not saved. Default: ``run_dir``'s, or no checkpoints.
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
        For each epoch ``{{'epoch': int, 'train': {{...}}, 'valid': {{...}}}}`` with the means of loss and metrics, over all
        ranks; and ``'collapse': {{...}}`` with the indicators that methods have computed, such as ``'eigenvalue'``.
    stopped : str or None
        Why the search ended before its last epoch.

    Raises
    ------
    ArgumentError
        A keyword is unknown.
    TrainingError
        No data, or too little for one batch of either part; data that is neither samples nor batches; a batch that is no pair,
        without ``forward_batch``; a loss that is no scalar; metrics that are no numbers; a split or ``unrolled`` out of range;
        ``recompute`` with something that needs second derivatives before PyTorch 2.1, ``compile`` with it at all. A mutator of
        other origin with an argument that needs ours; an optimiser whose steps need a closure (LBFGS). Several processes
        without a process group, or on GPUs that are not those of their ranks; a model in ``DistributedDataParallel``.
    MethodError
        A TrainingError, too: methods that cannot be combined, or that the search cannot have.
    CheckpointError
        ``checkpoint_dir`` cannot be made, or a callback has a state that a checkpoint cannot hold; by :meth:`train`: none of the
        checkpoints there can be read and is one of this search.
    """

    def make_mutator(self, model: nn.Module, zero_op_wins: bool, choose_from: Optional[Mapping[str, Sequence[str]]]) -> Any:
        return hosts.of_model(model).DartsMutator(model, zero_op_wins, choose_from)

    def enable_visualization(self) -> None:
        """What classic NNI's trainer has for its own viewer of searches.

        Raises
        ------
        TrainingError
            Always: says what there is in its place.
        """
        raise TrainingError('enable_visualization() writes what a viewer of classic NNI reads. Use run_dir=..., before the '
                            'search, and "nni-darts-ext plot" or "nni-darts-ext report" with that folder, or TensorBoard.')
