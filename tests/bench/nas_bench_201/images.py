"""Images and labels, in batches that are flipped and shifted anew in each epoch."""

import numpy
import torch


class Batches:
    """Batches of images: an epoch takes each image once, in random order, flipped or not and shifted by up to two pixels.

    The random numbers depend on the seed alone, whatever else draws. Without a seed, images come in their order, as they are.
    The last, smaller batch is left out.
    """

    def __init__(self, images, labels, batch_size, seed=None):
        self.images, self.labels, self.batch_size = images, labels, batch_size
        self.draw = None if seed is None else torch.Generator().manual_seed(seed)

    def __len__(self):
        return len(self.images) // self.batch_size

    def __iter__(self):
        n = len(self.images)
        order = torch.arange(n) if self.draw is None else torch.randperm(n, generator=self.draw)
        for batch in order[:len(self) * self.batch_size].split(self.batch_size):
            images = self.images[batch]
            yield images if self.draw is None else augmented(images, self.draw), self.labels[batch]


def augmented(images, draw, pixels=2):
    """Each image flipped or not, and moved by up to so many pixels in both directions, with zeros where it was not."""
    n, _, height, width = images.shape
    flips = torch.rand(n, 1, 1, 1, generator=draw) < 0.5
    padded = torch.nn.functional.pad(torch.where(flips, images.flip(3), images), [pixels] * 4).permute(0, 2, 3, 1)
    rows, columns = (torch.randint(2 * pixels + 1, (n, 1), generator=draw) + torch.arange(size) for size in (height, width))
    return padded[torch.arange(n)[:, None, None], rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2).contiguous()


def load(path, limit=None):
    """The images, each channel with mean 0 and deviation 1, and the labels of an ``.npz`` file, two tensors."""
    with numpy.load(str(path)) as data:
        images = torch.from_numpy(data['images'][:limit]).float()
        labels = torch.from_numpy(data['labels'][:limit]).long()
    mean, deviation = (function(images, dim=(0, 2, 3), keepdim=True) for function in (torch.mean, torch.std))
    return (images - mean) / deviation, labels
