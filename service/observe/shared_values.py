"""The values of the metrics of several replicas, in mapped files of a folder that they share."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from fcntl import LOCK_EX, LOCK_NB, flock
from pathlib import Path
from tempfile import mkdtemp
from typing import Any, Final

from prometheus_client import values
from prometheus_client.mmap_dict import MmapedDict
from prometheus_client.multiprocess import mark_process_dead

_NEW: Final = "pushforward-new-"
_HELD: Final = "pushforward-metrics-"
"""Beginnings of the names of folders, before and after they are held."""
_FIRST_BYTES: Final = 2**16
"""The size of a new file, as prometheus_client has it."""
_BYTES_OF_A_VALUE: Final = 32
"""Bytes of a value beside its name, at most."""


@contextmanager
def shared_folder() -> Iterator[Path]:
    """Make a folder for the values, hold it, and remove those that services which were killed have left.

    It is in memory unless TMPDIR is set: the values are mapped into the replicas, whose event loops would
    wait for a slow disk. The lock is that of all forks, and ends with the last of them.
    """
    memory = Path("/dev/shm")
    place = memory if "TMPDIR" not in os.environ and os.access(memory, os.W_OK) else None
    new = Path(mkdtemp(prefix=_NEW, dir=place))
    lock = os.open(new, os.O_RDONLY)
    try:
        with suppress(OSError):  # storage without locks, such as some of networks
            flock(lock, LOCK_EX | LOCK_NB)
        # only now it has the name by which it is found, so that no other start removes it before it is held
        folder = new.rename(new.with_name(new.name.replace(_NEW, _HELD)))
        for other in folder.parent.glob(f"{_HELD}*"):
            _remove_abandoned(other)
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    finally:
        os.close(lock)


def _remove_abandoned(folder: Path) -> None:
    """Remove a folder of values that nobody holds, unless it holds anything else."""
    with suppress(OSError):  # it is held, another user's, or gone
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        try:
            flock(descriptor, LOCK_EX | LOCK_NB)
            for file in os.listdir(descriptor):
                if file.endswith((".db", ".db.new")):
                    os.unlink(file, dir_fd=descriptor)
            folder.rmdir()
        finally:
            os.close(descriptor)


def share_values(folder: Path, replica: int) -> None:
    """Keep the values of metrics that are made from now on in files of the folder. Call it once."""
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(folder)  # where prometheus_client looks for it
    values.MmapedDict = _AllocatedDict  # type: ignore[attr-defined]
    values.ValueClass = values.MultiProcessValue(lambda: replica)  # type: ignore[no-untyped-call]


def drop_gauges(folder: Path, replica: int) -> None:
    """Remove the gauges, but not the counters, of a dead replica from the merged values."""
    mark_process_dead(replica, str(folder))  # type: ignore[no-untyped-call]


class _AllocatedDict(MmapedDict):
    """A dict of doubles in a mapped file whose bytes the disk has given already.

    prometheus_client makes such files sparse; on a full disk the first write to a page ends the process by
    SIGBUS. Here a want of space is an OSError, and the values that are there stay.
    """

    _capacity: int
    _used: int

    def __init__(self, filename: str, read_mode: bool = False) -> None:
        self._path = filename
        if not read_mode and not os.path.exists(filename):
            _allocate(f"{filename}.new", _FIRST_BYTES)
            os.replace(f"{filename}.new", filename)  # an empty one would fail the scrapes of other replicas
        super().__init__(filename, read_mode)  # type: ignore[no-untyped-call]

    def _init_value(self, key: str) -> Any:
        most, capacity = self._used + len(key.encode()) + _BYTES_OF_A_VALUE, self._capacity
        while most > capacity:
            capacity *= 2
        if capacity > self._capacity:
            _allocate(self._path, capacity)
        return super()._init_value(key)  # type: ignore[no-untyped-call]


def _allocate(path: str, size: int) -> None:
    """Extend a file by zeros to a size, so that the disk has room for all that is written to it later."""
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "ab") as file:
        file.write(bytes(size - file.tell()))
