"""Every family takes the ten steps that NNI's own classic DartsMutator takes."""

import pytest
import ten_steps
import torch


@pytest.fixture
def recorded():
    return ten_steps.recorded()


def test_mutator(recorded):
    from nni_darts_ext import DartsMutator
    model, data = ten_steps.model_and_data()
    ten_steps.assert_same(ten_steps.run(model, DartsMutator(model).double(), data), recorded, 1e-9)


@pytest.mark.family('nas')
def test_strategy(recorded):
    module, strategy = search(ten_steps.model_and_data()[1])
    # The module is asked for the loss on a validation batch, then on a training batch, ten times.
    ten_steps.assert_same({'validation_loss': module.losses[0::2], 'training_loss': module.losses[1::2],
                 'logits': {key: logits.tolist() for key, logits in strategy.choices.items()}}, recorded, 1e-6)


@pytest.mark.family('nas')
@pytest.mark.parametrize('unrolled', [True, 'exact', 'finite_difference'])
def test_strategy_unrolled(recorded, unrolled):
    _, strategy = search(ten_steps.model_and_data()[1][:4], unrolled=unrolled)
    logits = {key: logits.tolist() for key, logits in strategy.choices.items()}
    ten_steps.assert_same({'logits': logits}, {'logits': ten_steps.unrolled_by_the_core(unrolled)}, 1e-9)


def search(data, **options):
    import nas_experiment

    from nni_darts_ext import DARTS

    class Started(DARTS):
        def mutate_model(self, model):
            model = super().mutate_model(model)
            self.choices.double()
            ten_steps.start_logits(self.choices)
            return model

    module = nas_experiment.Module(lambda weights: torch.optim.SGD(
        weights, ten_steps.LR, momentum=0.9, weight_decay=3e-4))
    strategy = Started(arc_learning_rate=ten_steps.ARC_LR, gradient_clip_val=ten_steps.CLIP, **options)
    nas_experiment.search(ten_steps.model_and_data()[0], strategy, module, data)
    return module, strategy
