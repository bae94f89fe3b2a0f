"""Search, derive and retrain on scikit-learn's digits with one script for every NNI from 2.0 to 3.0.

Writes architecture.json for apply_fixed_architecture on any of them.
"""

import digits
import torch
from space import CellSpace
from torch import nn

from nni_darts_ext import DartsTrainer, apply_fixed_architecture


def main():
    args = digits.options(__doc__).parse_args()
    torch.manual_seed(args.seed)
    train_set, test_set = digits.load()

    supernet = CellSpace()
    trainer = DartsTrainer(
        supernet, nn.CrossEntropyLoss(),
        metrics=lambda output, labels: {'acc': (output.argmax(dim=1) == labels).float().mean().item()},
        optimizer=torch.optim.SGD(supernet.parameters(), 0.05, momentum=0.9, weight_decay=3e-4),
        num_epochs=args.search_epochs, dataset_train=train_set, dataset_valid=test_set, batch_size=args.batch_size, workers=0,
        arc_learning_rate=3e-3)
    trainer.train()
    trainer.export(args.output)
    print('Accuracy of the supernet after each epoch:',
          ', '.join('{acc:.2%}'.format(**epoch['valid']) for epoch in trainer.history))

    torch.manual_seed(args.seed)
    found = apply_fixed_architecture(CellSpace(), args.output)
    digits.train(found, train_set, args.retrain_epochs, args.batch_size)
    print('Test accuracy after {} epochs from scratch: {:.2%}'.format(args.retrain_epochs, digits.accuracy(found, test_set)))


if __name__ == '__main__':
    main()
