"""Search, derive, retrain and compare on scikit-learn's digits, with NNI 3.0's NasExperiment.

Writes architecture.json, a sample for NNI's model_context and freeze, and the run of the search with its pictures and an HTML
page.
"""

import json
import logging
import random
import tempfile
import time
from functools import partial
from pathlib import Path

import digits
import nni
import torch
from nni.mutable import Categorical
from nni.nas.evaluator.pytorch import Classification, DataLoader
from nni.nas.experiment import NasExperiment
from nni.nas.space import model_context
from space import CellSpace
from torch.utils.data import random_split

from nni_darts_ext import DARTS, Run, cli, plot

SHOWN = ('cell-normal', 'weights-normal')
"""The pictures in the README."""


def search(dataset, epochs, batch_size, seed, run_dir, work_dir):
    """Run one search; returns the architecture as a sample of NNI."""
    torch.manual_seed(seed)
    half = len(dataset) // 2
    for_weights, for_logits = random_split(dataset, [half, len(dataset) - half])
    evaluator = Classification(
        num_classes=10, optimizer=partial(torch.optim.SGD, momentum=0.9), learning_rate=0.05, weight_decay=3e-4,
        max_epochs=epochs,
        train_dataloaders=DataLoader(for_weights, batch_size, shuffle=True, drop_last=True),
        val_dataloaders=DataLoader(for_logits, batch_size, shuffle=True, drop_last=True),
        logger=False, enable_checkpointing=False, enable_model_summary=False, num_sanity_val_steps=0)
    strategy = DARTS(arc_learning_rate=1e-2, gradient_clip_val=5.0, warmup_epochs=2, run_dir=run_dir)
    experiment = NasExperiment(CellSpace(), evaluator, strategy)
    experiment.config.experiment_working_directory = work_dir
    try:
        experiment.run()
        return experiment.export_top_models(formatter='dict')[0]
    finally:
        experiment.stop()


def random_architecture(seed):
    """A uniformly random sample of the same space."""
    draw = random.Random(seed)
    return {label: draw.choice(choice.values) if isinstance(choice, Categorical)
            else sorted(draw.sample(choice.values, choice.n_chosen))
            for label, choice in CellSpace().simplify().items()}


def show(architecture):
    for label in sorted(label for label in architecture if label.endswith('_inputs')):
        node = label[:-len('_inputs')]
        edges = ['{} from {}'.format(architecture['{}_{}'.format(node, source)], source) for source in architecture[label]]
        print('  {:10} {}'.format(node, ' + '.join(edges)))


def retrain(architecture, train_set, test_set, epochs, batch_size, seed):
    torch.manual_seed(seed)
    with model_context(architecture):
        model = CellSpace()
    digits.train(model, train_set, epochs, batch_size)
    return digits.accuracy(model, test_set)


def options():
    parser = digits.options(__doc__)
    parser.add_argument('--run-dir', metavar='DIR', help="where to write the search's run "
                        '(default: digits in a new folder, demo-<time>, next to OUTPUT)')
    parser.add_argument('--pictures', metavar='DIR', help='where to write another copy of the pictures in the README')
    return parser


def main():
    args = options().parse_args()
    run_dir = args.run_dir or Path(args.output).parent / time.strftime('demo-%Y%m%d-%H%M%S') / 'digits'
    nni.silence_stdout()  # NNI and Lightning print much about their defaults
    logging.getLogger('nni').addHandler(logging.NullHandler())
    logging.getLogger('pytorch_lightning').setLevel(logging.ERROR)

    train_set, test_set = digits.load()
    with tempfile.TemporaryDirectory() as work_dir:
        architecture = search(train_set, args.search_epochs, args.batch_size, args.seed, run_dir, work_dir)
    with open(args.output, 'w') as file:
        json.dump(architecture, file, indent=2, sort_keys=True)
    print('\nThe architecture found (nodes 0 and 1 are the cell\'s inputs), in {}:'.format(args.output))
    show(architecture)

    print('\nThe run of the search is in {}. Its pictures and page:'.format(run_dir), flush=True)
    cli.main(['plot', str(run_dir)])  # without matplotlib or networkx it prints an error and the demo continues
    cli.main(['report', str(run_dir)])
    if args.pictures:
        drawn = plot.pictures(Run.read(run_dir))
        plot.save([picture for picture in drawn if picture.name in SHOWN], Path(args.pictures))

    budget = (train_set, test_set, args.retrain_epochs, args.batch_size, args.seed)
    print('\nTest accuracy after {} epochs from scratch:'.format(args.retrain_epochs))
    print('  found   {:.2%}'.format(retrain(architecture, *budget)), flush=True)
    print('  random  {:.2%}'.format(retrain(random_architecture(args.seed), *budget)))


if __name__ == '__main__':
    main()
