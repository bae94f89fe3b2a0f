"""The recorded answers of NNI's own DartsMutator, of 200 search spaces, on whatever NNI is installed and on none."""

import pytest
import torch

from nni_darts_ext.core.derivation import derive
from nni_darts_ext.core.export import to_classic
from nni_darts_ext.core.logits import Logits
from nni_darts_ext.core.space import Edge, InputNode, SearchSpace


def test_core(record):
    space = SearchSpace(
        [Edge(edge['key'], tuple(edge['names'] or map(str, range(edge['n'])))) for edge in record['layer_choices']]
        + [InputNode(node['key'], tuple(node['choose_from']), node['n_chosen']) for node in record['input_choices']])
    choices = Logits()
    for edge in record['layer_choices']:
        choices.add(edge['key'], edge['n']).data.copy_(torch.tensor(edge['logits']))
    for key in space.edges:
        assert choices.relax(key).weights.tolist() == pytest.approx(record['sample_search'][key], abs=1e-6)
    derivation = derive(space, {key: choices.probabilities(key).tolist() for key in space.edges})
    assert derivation.decisions == record['sample_final']
    assert to_classic(space, derivation) == record['export']


@pytest.mark.family('classic', 'retiarii', 'nas')
def test_mutator(record):
    from spaces import Recorded, write_logits

    from nni_darts_ext import DartsMutator
    mutator = DartsMutator(Recorded(record))
    write_logits(mutator.choices, record)

    search = {key: weights.tolist() for key, weights in mutator.sample_search().items()}
    assert search == {key: pytest.approx(weights, abs=1e-6) for key, weights in record['sample_search'].items()}
    final = {key: decision.tolist() for key, decision in mutator.sample_final().items()}
    assert final == record['sample_final']
    assert mutator.export() == record['export']
    mutator.reset()
    assert mutator.status() == {key: pytest.approx([float(w) for w in weights], abs=1e-6)
                                for key, weights in record['sample_search'].items()}


@pytest.mark.family('nas')
def test_strategy(record):
    from spaces import Recorded, write_logits

    from nni_darts_ext import DARTS
    strategy, model = DARTS(), Recorded(record)
    strategy.mutate_model(model)
    write_logits(strategy.choices, record)

    supernet, = [module for module in model.modules() if hasattr(module, 'export_probs')]
    sample = supernet.export({})
    final = record['sample_final']
    for node in record['input_choices']:
        assert sample[node['key']] == [i for i, chosen in enumerate(final[node['key']]) if chosen]
    for edge in record['layer_choices']:
        if any(final[edge['key']]):
            names = edge['names'] or list(range(edge['n']))
            assert sample[edge['key']] == names[final[edge['key']].index(True)]
    assert model.contains(sample)
