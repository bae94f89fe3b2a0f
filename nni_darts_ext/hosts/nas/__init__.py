"""NNI 3.0, ``nni.nas.nn.pytorch``: choices have labels inside a ModelSpace, strategies mutate it through hooks."""

# NNI's package of strategies must be imported first: it disables its own one-shot strategies if they were imported before it.
import nni.nas.strategy  # noqa: F401  # isort: skip

from .choices import DartsMutator, LayerChoice, ModelSpace, input_choice, layer_choice, read_space
from .strategy import DARTS

__all__ = ['DARTS', 'DartsMutator', 'LayerChoice', 'ModelSpace', 'input_choice', 'layer_choice', 'read_space']
