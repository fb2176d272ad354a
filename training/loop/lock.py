"""A lock on a run's folder, so that no two trainings write into one."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from fcntl import LOCK_EX, LOCK_NB, flock
from pathlib import Path

from training.loop.checkpoint import CheckpointError


@contextlib.contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Make a run's folder, and hold it for a `with` block; the lock ends with its process, however that ends.

    Raises:
        CheckpointError: Another training holds it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):  # storage without locks, such as some of networks
            _lock(descriptor, folder)
        yield
    finally:
        os.close(descriptor)


def _lock(descriptor: int, folder: Path) -> None:
    try:
        flock(descriptor, LOCK_EX | LOCK_NB)
    except BlockingIOError:
        raise CheckpointError(
            f"another training is at work in {folder}; wait until it ends, or name another folder by --runs"
        ) from None
