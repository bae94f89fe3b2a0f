"""Common parts of the examples: scikit-learn's digits (1797 images of 8 x 8), a plain training loop, and the options."""

import argparse
import math
import os

import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

if 'OMP_NUM_THREADS' not in os.environ:  # on small networks PyTorch's threads mostly wait for each other, and beside other work
    torch.set_num_threads(1)             # far longer than they compute


def options(description):
    """The parser of the examples' command line."""
    parser = argparse.ArgumentParser(description=description.splitlines()[0], epilog='It computes with one thread, or with as '
                                     'many as OMP_NUM_THREADS says.')
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


def distorted(dataset, copies, seed=0, noise=0.3):
    """Copies of each image on 16 x 16 pixels, next to each other: smaller, turned by up to 30 degrees, shifted, and noisy."""
    images, labels = [tensor.repeat_interleave(copies, dim=0) for tensor in dataset.tensors]
    generator = torch.Generator().manual_seed(seed)

    def uniform(low, high):
        return low + (high - low) * torch.rand(len(images), generator=generator)
    angle, zoom, right, down = uniform(-math.pi / 6, math.pi / 6), uniform(1.2, 1.5), uniform(-0.25, 0.25), uniform(-0.25, 0.25)
    cos, sin = zoom * angle.cos(), zoom * angle.sin()
    to_source = torch.stack([cos, -sin, zoom * right, sin, cos, zoom * down], dim=1).reshape(-1, 2, 3)
    grid = nn.functional.affine_grid(to_source, [len(images), 1, 16, 16], align_corners=False)
    images = nn.functional.grid_sample(images, grid, align_corners=False)
    return TensorDataset(images + noise * torch.randn(images.shape, generator=generator), labels)


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
