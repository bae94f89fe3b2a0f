"""Common parts of the examples: scikit-learn's digits (1797 images of 8 x 8), a plain training loop, and the options."""

import argparse

import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


def options(description):
    """The parser of the examples' command line."""
    parser = argparse.ArgumentParser(description=description.splitlines()[0])
    parser.add_argument('--search-epochs', type=int, default=12)
    parser.add_argument('--retrain-epochs', type=int, default=15)
    parser.add_argument('--batch-size', type=int, default=64)
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--output', default='architecture.json')
    return parser


def load(seed=0):
    """The training set (80 percent) and the test set."""
    images, labels = load_digits(return_X_y=True)
    images = images.reshape(-1, 1, 8, 8).astype('float32') / 16
    parts = train_test_split(images, labels, test_size=0.2, stratify=labels, random_state=seed)
    train_images, test_images, train_labels, test_labels = [torch.as_tensor(part) for part in parts]
    return TensorDataset(train_images, train_labels), TensorDataset(test_images, test_labels)


def train(model, dataset, epochs, batch_size=64, lr=0.1):
    """Train from scratch: SGD with momentum and a cosine schedule."""
    loader = DataLoader(dataset, batch_size, shuffle=True, drop_last=True)
    optimizer = torch.optim.SGD(model.parameters(), lr, momentum=0.9, weight_decay=3e-4)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs * len(loader))
    model.train()
    for _ in range(epochs):
        for images, labels in loader:
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(images), labels).backward()
            nn.utils.clip_grad_norm_(model.parameters(), 5.0)
            optimizer.step()
            scheduler.step()


def accuracy(model, dataset):
    """The share of correct answers."""
    images, labels = dataset.tensors
    model.eval()
    with torch.no_grad():
        return (model(images).argmax(dim=1) == labels).float().mean().item()
