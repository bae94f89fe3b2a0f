"""The exceptions of this package.

Each message says what was found, what was expected, and how to fix it.
"""


class DartsExtError(Exception):
    """Base class of every error that this package raises on purpose."""


class HostNotSupported(DartsExtError, ImportError):
    """NNI is missing, or the installed version does not offer the requested feature.

    Also an ``ImportError``, so that ``from nni_darts_ext import DARTS`` fails as any other import does.
    """


class SearchSpaceError(DartsExtError, ValueError):
    """The model is not a search space that DARTS can search."""


class ArchitectureError(DartsExtError, ValueError):
    """A file or mapping is not an architecture, or not one of this model."""


class LogitsError(DartsExtError, ValueError):
    """Logits that do not determine an architecture: NaN, infinite, or none left after shrinking."""


class EvaluatorError(DartsExtError, TypeError):
    """The evaluator cannot train a one-shot search."""


class TrainingError(DartsExtError, ValueError):
    """The search cannot run with these data or settings."""


class ArgumentError(DartsExtError, TypeError):
    """A keyword that a trainer or strategy does not have."""


class MethodError(TrainingError):
    """A method of a search that cannot be combined with another one, or that needs what the search does not have."""


class CheckpointError(DartsExtError, ValueError):
    """A checkpoint cannot be written or read, or the search cannot resume from it."""


class ClassArgsError(DartsExtError, ValueError):
    """Invalid ``classArgs`` of the tuner or assessor in the configuration of an experiment."""


class ExperimentError(DartsExtError, ValueError):
    """An experiment cannot be found or read, or has no result yet."""


class RunError(DartsExtError, ValueError):
    """The folder of a run cannot be read or written."""


class PackageMissing(DartsExtError, ImportError):
    """An optional package that this feature needs is not installed."""
