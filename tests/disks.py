"""Disks that cannot be written, for the tests."""

import resource
from contextlib import contextmanager


@contextmanager
def full(up_to=512):
    """No file can grow beyond so many bytes, as on a disk that is full: the system writes a part, and then refuses."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (up_to, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
