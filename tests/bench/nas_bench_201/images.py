"""Images and labels, in batches that are flipped and shifted anew in each epoch."""

import numpy
import torch


class Batches:
    """Batches of images: an epoch takes each image once, in random order, flipped or not and shifted by up to two pixels.

    ``augmented=False`` gives them in their order, as they are. The last, smaller batch is left out.
    """

    def __init__(self, images, labels, batch_size, augmented=True):
        self.images, self.labels, self.batch_size, self.augmented = images, labels, batch_size, augmented

    def __len__(self):
        return len(self.images) // self.batch_size

    def __iter__(self):
        order = torch.randperm(len(self.images)) if self.augmented else torch.arange(len(self.images))
        for batch in order[:len(self) * self.batch_size].split(self.batch_size):
            images = self.images[batch]
            yield (shifted(flipped(images)) if self.augmented else images), self.labels[batch]


def flipped(images):
    return torch.where(torch.rand(len(images), 1, 1, 1) < 0.5, images.flip(3), images)


def shifted(images, pixels=2):
    """Each image moved by up to so many pixels in both directions, with zeros where it was not."""
    n, channels, height, width = images.shape
    padded = torch.nn.functional.pad(images, [pixels] * 4)
    rows = torch.randint(2 * pixels + 1, (n, 1)) + torch.arange(height)
    columns = torch.randint(2 * pixels + 1, (n, 1)) + torch.arange(width)
    return padded.permute(0, 2, 3, 1)[torch.arange(n)[:, None, None], rows[:, :, None], columns[:, None, :]].permute(
        0, 3, 1, 2).contiguous()


def load(path, limit=None):
    """The images, each channel with mean 0 and deviation 1, and the labels of an ``.npz`` file, two tensors."""
    with numpy.load(path) as data:
        images = torch.from_numpy(data['images'][:limit]).float()
        labels = torch.from_numpy(data['labels'][:limit]).long()
    mean, deviation = images.mean(dim=(0, 2, 3), keepdim=True), images.std(dim=(0, 2, 3), keepdim=True)
    return (images - mean) / deviation, labels
