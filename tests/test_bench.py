"""The benchmark runs, and what it holds us against computes what it says."""

import json
import runpy
import subprocess
import sys
from collections import Counter
from pathlib import Path

import nni
import pytest
import torch

import nni_darts_ext
from nni_darts_ext.core.bilevel import estimators

pytestmark = pytest.mark.skipif(nni.__version__ not in ('2.8', '3.0'), reason='the benchmark measures with NNI 2.8 and 3.0')
BENCH = Path(__file__).parent / 'bench'
TINY = ['--channels', '8', '--cells', '3', '--nodes', '1', '--candidates', '2', '--batch-size', '2']


@pytest.fixture(autouse=True)
def _importable(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCH))


@pytest.fixture
def problem():
    import problem
    return problem.Problem(channels=2, cells=3, nodes=2, candidates=4, batch_size=2)


def test_the_program_measures_and_writes_a_page(tmp_path):
    def run(path, *arguments):
        ran = subprocess.run([sys.executable, '-W', 'ignore', str(path), *arguments], stdout=subprocess.PIPE,
                             stderr=subprocess.PIPE, universal_newlines=True, timeout=600)
        assert ran.returncode == 0, ran.stderr
        return ran.stdout
    written = tmp_path / 'here.json'
    printed = run(BENCH, '--quick', *TINY, '--device', 'cpu', '--only', 'step', 'calls', 'launches', 'epoch',
                  '--without', 'compiled', 'exact', '--rounds', '1', '--output', str(written))
    results = json.loads(written.read_text())
    step, calls, launches, epoch = results['studies']
    sides = step['sides']
    assert {"NNI's", 'ours', 'ours, channels last', 'the candidates alone'} <= set(sides)
    assert not any('compiled' in name for name in sides)
    assert all(side['seconds'][0] > 0 and side['bytes'] > 0 for side in sides.values())

    assert calls['problem']['cells'] == 3 and "NNI's" in calls['sides']
    assert all(side['seconds'] and 'bytes' not in side for side in calls['sides'].values())

    counted = {name: sum(side['launches'].values()) for name, side in launches['sides'].items()}
    assert counted["NNI's"] > counted['ours'] > counted['the candidates alone'] > 0
    assert '| ours | {} | {:.2f} | 0 |'.format(counted['ours'], counted['ours'] / counted["NNI's"]) in printed

    assert {"NNI's", 'ours'} <= set(epoch['sides'])

    grown = [{**step, 'name': 'growth', 'problem': {**results['grown_from'], 'nodes': nodes}} for nodes in (3, 5)]
    written.write_text(json.dumps({**results, 'studies': [*results['studies'], *grown]}))
    run(BENCH / 'report.py', str(tmp_path))
    page = (tmp_path / 'README.md').read_text()
    assert printed.strip() in page.replace(page[page.index('### How a step grows'):], '')
    assert '| 3 nodes | ' in page and '| 5 nodes | ' in page

    del sides['ours']['bytes']  # as of what compiles
    written.write_text(json.dumps({**results, 'studies': [step]}))
    run(BENCH / 'report.py', str(tmp_path))
    row, = [line for line in (tmp_path / 'README.md').read_text().splitlines() if line.startswith('| ours |')]
    assert row.endswith(' |  |  |  |')


def test_the_paper_as_it_writes_it_gives_what_the_finite_difference_gives(problem):
    import references
    from problem import loss
    model = problem.model().double()
    mutator = nni_darts_ext.DartsMutator(model).double()
    written = references.Mixture(problem.model()).double()
    for key, logits in written.logits.items():
        logits.data = mutator.choices[key].data.clone()
    batches = [(images.double(), labels) for images, labels in (problem.batch('cpu'), problem.batch('cpu'))]

    def loss_on(batch):
        def on_batch():
            mutator.reset()
            return loss(model(batch[0]), batch[1])
        return on_batch
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    expected = estimators.unrolled_finite_difference(*map(loss_on, batches), list(mutator.parameters()), [optimizer], model)
    found = references.as_written(written, *batches, loss, 0.1)
    for key, gradient in zip(written.logits, found):
        torch.testing.assert_close(gradient, expected[mutator.choices.keys().index(key)], atol=1e-9, rtol=1e-6)


def test_the_candidates_alone_run_the_convolutions_of_a_search_and_no_products(problem):
    import references
    from problem import loss, optimizer
    alone = references.CandidatesAlone(problem.model())
    batches = [problem.batch('cpu') for _ in range(2)]
    model = problem.model()
    data = problem.images(2)
    trainer = nni_darts_ext.DartsTrainer(model, loss, lambda output, labels: {}, optimizer(model.parameters()), 1, data,
                                         batch_size=problem.batch_size, workers=0, device='cpu')

    def operations(run):
        with torch.profiler.profile() as profile:
            run()
        return Counter(event.name for event in profile.events())
    searching, bare = operations(lambda: trainer.train_one_epoch(-1)), operations(lambda: alone.step(*batches, loss))
    for name in ('aten::convolution', 'aten::convolution_backward', 'aten::native_batch_norm'):
        assert bare[name] == searching[name] > 0, name
    assert not bare['aten::mul'] and searching['aten::mul']


def test_the_candidates_alone_have_a_gradient_for_every_weight(problem):
    import references
    from problem import loss
    alone = references.CandidatesAlone(problem.model())
    architecture, weights = alone.step(problem.batch('cpu'), problem.batch('cpu'), loss)
    assert architecture == (None,)
    assert len(weights) == len(list(problem.model().parameters()))
    assert all(gradient is not None and gradient.isfinite().all() for gradient in weights)


LAUNCHES = {'1.12': {'2.8': 2895, '3.0': 3105}, '2.8': {'2.8': 2423, '3.0': 2410}, '2.13': {'2.8': 2391, '3.0': 2378}}
"""Of one step of ours, at most, by the versions of PyTorch, of which 2.13 stands for all later ones, and NNI."""


def test_a_step_launches_no_more_than_it_did_and_waits_for_nothing(problem):
    import sides
    counted = sides.launching()['ours'].build(problem._replace(channels=4, candidates=7), torch.device('cpu'))()
    of_pytorch = LAUNCHES.get('.'.join(torch.__version__.split('.')[:2]), LAUNCHES['2.13'])
    assert sum(counted.launches.values()) <= of_pytorch[nni.__version__], counted.launches
    assert counted.waits == 0


def test_what_is_waited_for_is_counted_and_views_are_not():
    import launches

    def run():
        numbers = torch.ones(3).view(3, 1)
        assert numbers.sum() > 0 and numbers.tolist() and len(numbers.nonzero())
    counted = launches.Counted(run)
    assert counted.waits == 3
    assert +counted.launches == {'fills': 1, 'sums': 1, 'others': 1}


@pytest.mark.skipif(torch.cuda.is_available(), reason='there is a GPU')
def test_a_gpu_that_is_not_there_is_named_with_the_way_out(monkeypatch, capsys):
    monkeypatch.setattr(sys, 'argv', [str(BENCH), '--device', 'cuda'])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(BENCH / '__main__.py'))['main']()
    assert ended.value.code == 2
    assert '--device cuda: PyTorch {}'.format(torch.__version__) in capsys.readouterr().err
