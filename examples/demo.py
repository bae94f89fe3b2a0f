"""Search, derive, retrain and compare with random cells, on scikit-learn's digits made harder, with NNI 3.0's NasExperiment.

Writes architecture.json, a sample for NNI's model_context and freeze, and the run of the search with its pictures and an HTML
page.
"""

import json
import logging
import multiprocessing
import statistics
import tempfile
import time
from functools import partial
from pathlib import Path

import digits
import nni
import torch
from nni.nas.evaluator.pytorch import Classification, DataLoader
from nni.nas.experiment import NasExperiment
from nni.nas.space import model_context
from small_cell import SmallSpace
from torch.utils.data import TensorDataset

from nni_darts_ext import DARTS, Run, cli, plot, random_architecture

METHODS = 'recommended'
"""What the search does beyond plain DARTS."""
SHOWN = ('accuracies', 'cell-normal', 'weights-normal')
"""The pictures in the README."""


def data():
    """The digits of 16 x 16 pixels: two copies of each image to train with, four to test with."""
    train_set, test_set = digits.load()
    return digits.distorted(train_set, copies=2, seed=0), digits.distorted(test_set, copies=4, seed=1)


def search(dataset, epochs, batch_size, seed, run_dir, work_dir):
    """Run one search; returns the architecture as a sample of NNI."""
    torch.manual_seed(seed)
    halves = zip(*(tensor.chunk(2) for tensor in dataset.tensors))
    for_weights, for_logits = [DataLoader(TensorDataset(*half), batch_size, shuffle=True, drop_last=True) for half in halves]
    evaluator = Classification(
        num_classes=10, optimizer=partial(torch.optim.SGD, momentum=0.9), learning_rate=0.05, weight_decay=3e-4,
        max_epochs=epochs, train_dataloaders=for_weights, val_dataloaders=for_logits,
        logger=False, enable_checkpointing=False, enable_model_summary=False, num_sanity_val_steps=0)
    strategy = DARTS(arc_learning_rate=1e-2, gradient_clip_val=5.0, warmup_epochs=2, run_dir=run_dir, methods=METHODS)
    experiment = NasExperiment(SmallSpace(), evaluator, strategy)
    experiment.config.experiment_working_directory = work_dir
    try:
        experiment.run()
        return experiment.export_top_models(formatter='dict')[0]
    finally:
        experiment.stop()


def show(architecture):
    for label in sorted(label for label in architecture if label.endswith('_inputs')):
        node = label[:-len('_inputs')]
        edges = ['{} from {}'.format(architecture['{}_{}'.format(node, source)], source) for source in architecture[label]]
        print('  {:10} {}'.format(node, ' + '.join(edges)))


def retrain(architecture, seed, epochs, batch_size):
    """The test accuracy of a cell that is trained from scratch."""
    torch.manual_seed(seed)
    train_set, test_set = data()
    with model_context(architecture):
        model = SmallSpace()
    digits.train(model, train_set, epochs, batch_size)
    return digits.accuracy(model, test_set)


def summary(accuracies):
    spread = ', standard deviation {:.1%}'.format(statistics.stdev(accuracies)) if len(accuracies) > 1 else ''
    return 'median {:.1%}{} ({})'.format(
        statistics.median(accuracies), spread, ' '.join('{:.1%}'.format(one) for one in accuracies))


def options():
    parser = digits.options(__doc__)
    parser.add_argument('--run-dir', metavar='DIR', help="where to write the search's run "
                        '(default: digits in a new folder, demo-<time>, next to OUTPUT)')
    parser.add_argument('--trainings', type=int, default=3, help='how often to train the found cell (default: %(default)s)')
    parser.add_argument('--random-cells', type=int, default=8, help='how many to train, once each (default: %(default)s)')
    parser.add_argument('--pictures', metavar='DIR', help='where to write another copy of the pictures in the README')
    return parser


def main():
    args = options().parse_args()
    run_dir = Path(args.run_dir or Path(args.output).parent / time.strftime('demo-%Y%m%d-%H%M%S') / 'digits')
    nni.silence_stdout()  # NNI and Lightning print much about their defaults
    logging.getLogger('nni').addHandler(logging.NullHandler())
    logging.getLogger('pytorch_lightning').setLevel(logging.ERROR)

    train_set, _ = data()
    with tempfile.TemporaryDirectory() as work_dir:
        architecture = search(train_set, args.search_epochs, args.batch_size, args.seed, run_dir, work_dir)
    with open(args.output, 'w') as file:
        json.dump(architecture, file, indent=2, sort_keys=True)
    print('\nThe architecture found (node 0 is the cell\'s input), in {}:'.format(args.output))
    show(architecture)

    print('\nTest accuracy after {} epochs from scratch:'.format(args.retrain_epochs), flush=True)
    n, n_random = args.trainings, args.random_cells
    cells = [architecture] * n + [random_architecture(SmallSpace(), n_random * args.seed + i, 'sample')
                                for i in range(n_random)]
    with multiprocessing.get_context('spawn').Pool(2) as pool:
        accuracies = pool.starmap(retrain, [(cell, args.seed + i, args.retrain_epochs, args.batch_size)
                                            for i, cell in enumerate(cells)], chunksize=1)
    found, others = sorted(accuracies[:n]), sorted(accuracies[n:])
    print('  found cell, with {} seeds:'.format(n), summary(found))
    print('  {} random cells:'.format(n_random), summary(others))
    print('The median of the found cell is above {} of the {} random cells.'.format(
        sum(statistics.median(found) > other for other in others), n_random))

    print('\nThe run of the search is in {}. Its pictures and page:'.format(run_dir), flush=True)
    if cli.main(['plot', str(run_dir)]) == 0:  # without matplotlib or networkx it prints an error and the demo continues
        picture = plot.results({'found cell': found, 'random cells': others}, 'test accuracy of each training')
        print(*plot.save([picture], run_dir / 'pictures'))
        if args.pictures:
            pictures = [picture, *plot.pictures(Run.read(run_dir))]
            plot.save([picture for picture in pictures if picture.name in SHOWN], Path(args.pictures))
    cli.main(['report', str(run_dir)])


if __name__ == '__main__':
    main()
