"""Search, derive and retrain on scikit-learn's digits with classic NNI (2.0 - 2.8) and its own DartsTrainer.

Writes architecture.json for NNI's apply_fixed_architecture.
"""

import digits
import torch
from nni.algorithms.nas.pytorch.darts import DartsTrainer
from nni.nas.pytorch.fixed import apply_fixed_architecture
from space import CellSpace
from torch import nn

from nni_darts_ext import DartsMutator


def main():
    args = digits.options(__doc__).parse_args()
    torch.manual_seed(args.seed)
    train_set, test_set = digits.load()

    supernet = CellSpace()
    trainer = DartsTrainer(
        supernet,
        mutator=DartsMutator(supernet),  # the only difference from a script for NNI's own mutator
        loss=nn.CrossEntropyLoss(),
        metrics=lambda output, labels: {'acc': (output.argmax(dim=1) == labels).float().mean().item()},
        optimizer=torch.optim.SGD(supernet.parameters(), 0.05, momentum=0.9, weight_decay=3e-4),
        num_epochs=args.search_epochs, dataset_train=train_set, dataset_valid=test_set, batch_size=args.batch_size,
        workers=0, device=torch.device('cpu'), log_frequency=10, arc_learning_rate=3e-3)
    trainer.train()
    trainer.export(args.output)

    torch.manual_seed(args.seed)
    found = CellSpace()
    apply_fixed_architecture(found, args.output)
    digits.train(found, train_set, args.retrain_epochs, args.batch_size)
    print('Test accuracy after {} epochs from scratch: {:.2%}'.format(args.retrain_epochs, digits.accuracy(found, test_set)))


if __name__ == '__main__':
    main()
