"""NNI's one-shot Lightning module for DARTS, with corrected steps."""

from __future__ import annotations

from typing import Any, Dict, List

from nni.mutable import Categorical
from nni.nas.oneshot.pytorch.differentiable import DartsLightningModule
from torch import Tensor, nn

from ..oneshot.bilevel_module import BilevelSteps
from ..oneshot.oneshot_search import ZERO_OP
from .penalty import penalize
from .supernet import Supernet


class DartsModule(BilevelSteps, DartsLightningModule):
    """NNI's one-shot Lightning module for DARTS, with corrected steps.

    The architecture step does not change the gradients of the weights, nor the weight step those of the logits. The penalty has
    a gradient. The architecture parameters have the same order in every process.
    """

    @property
    def search(self) -> Supernet:  # type: ignore[override]
        return next(module for module in self.supernet_modules() if isinstance(module, Supernet))

    def arch_parameters(self) -> List[nn.Parameter]:
        parameters = [parameter for module in self.supernet_modules() if hasattr(module, 'arch_parameters')
                      for parameter in module.arch_parameters()]
        return list(dict.fromkeys(parameters))

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        outputs = self.take_steps(batch, batch_idx, with_architecture=self.trainer.current_epoch >= self.warmup_epochs)
        self.advance_lr_schedulers(batch_idx)
        if batch_idx % self.log_prob_every_n_step == 0:
            self.log_probs(self.export_probs())
        return outputs

    def inner(self) -> Any:
        return self.training_module

    def advance_weights(self, loss: Tensor, batch_idx: int) -> None:
        self.advance_optimization(loss, batch_idx, self.gradient_clip_val)

    def penalized(self, loss: Tensor) -> Tensor:
        if self.penalty is None:
            return loss
        loss, details = penalize(self.penalty, loss, self._distributions())
        self.log_dict({f'penalty/{name}': value for name, value in details.items()})
        return loss

    def _distributions(self) -> Dict[str, Dict[Any, Tensor]]:
        """For each label the probabilities of its values, differentiable. The zero op is left out, as it costs nothing.

        NNI uses plain numbers instead, for which the penalty has no gradient.
        """
        found: Dict[str, Dict[Any, Tensor]] = {}
        for module in self.supernet_modules():
            if isinstance(module, Supernet):
                for label, of_edge in module.named_probabilities().items():
                    found[label] = {name: p for name, p in of_edge.items() if name != ZERO_OP}
                continue
            alphas = getattr(module, '_arch_alpha', None)
            if isinstance(alphas, nn.ParameterDict):
                for label, spec in module.simplify().items():
                    if isinstance(spec, Categorical) and label in alphas:
                        found[label] = dict(zip(spec.values, module._softmax(alphas[label]).unbind()))
        return found
