"""The exceptions that users meet.

Each message names the thing, what was found, what was expected and the way out.
"""


class DartsExtError(Exception):
    """Base class of every error that this package raises on purpose."""


class HostNotSupported(DartsExtError, ImportError):
    """The installed NNI (or its absence) does not offer what was asked for.

    An ``ImportError`` too, so that ``from nni_darts_ext import DARTS`` fails the way imports fail.
    """


class SearchSpaceError(DartsExtError, ValueError):
    """The model is no search space that DARTS can search."""


class ArchitectureError(DartsExtError, ValueError):
    """A file or mapping that is no architecture, or none of this model."""


class LogitsError(DartsExtError, ValueError):
    """Logits that have no answer: not a number, infinite, or nothing left after cutting."""


class EvaluatorError(DartsExtError, TypeError):
    """The evaluator cannot train a one-shot search."""


class TrainingError(DartsExtError, ValueError):
    """A search that cannot run with the data or settings that it was given."""


class ArgumentError(DartsExtError, TypeError):
    """A keyword that a trainer or strategy does not have."""


class MethodError(TrainingError):
    """A method of a search that cannot be combined with another one, or that needs what the search does not have."""


class CheckpointError(DartsExtError, ValueError):
    """A checkpoint that cannot be written, read, or gone on from."""


class ClassArgsError(DartsExtError, ValueError):
    """An argument of the tuner or assessor in an experiment's configuration that it cannot use."""


class ExperimentError(DartsExtError, ValueError):
    """An experiment that cannot be found or read, or has nothing to show yet."""


class RunError(DartsExtError, ValueError):
    """The folder of a search's run that cannot be read or written."""


class PackageMissing(DartsExtError, ImportError):
    """A package that only a part of this one needs, and that is not installed."""
