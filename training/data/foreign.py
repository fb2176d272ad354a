"""Formats of pictures and arrays that are not read: what each is, and what to do."""

from __future__ import annotations

import gzip
import tarfile
import zipfile
import zlib
from pathlib import Path

from service.media.fitting import ENDINGS

_GZIP = b"\x1f\x8b"
_BYTES = 8
"""The code of unsigned bytes in the header of IDX."""
_MOST_AXES = 4
_SAVE = "save its array, and give that: np.save('items.npy', "
_STARTS = {
    b"\x89HDF\r\n\x1a\n": f"it is a file of HDF5; {_SAVE}h5py.File(...)['NAME'][:])",
    b"MATLAB": f"it is a file of MATLAB; {_SAVE}scipy.io.loadmat(...)['NAME'])",
    b"\x80": (
        "it holds pickled objects of Python, which may run any code and are never read; where you trust it, "
        f"{_SAVE}...)"
    ),
}


def foreign_file(path: Path) -> str | None:
    """Return what a file is that is neither a table nor an array, with what to do; None if it may be one."""
    if path.is_dir():
        return None
    if path.name.lower().endswith(ENDINGS):
        return f"it is one picture; give the folder of pictures, {path.absolute().parent}"
    try:
        if zipfile.is_zipfile(path):
            return _zip(path)
        if tarfile.is_tarfile(path):
            return "it is an archive; unpack it, and give the folder"
        start = _start(path)
    except (OSError, EOFError, zlib.error):
        return None
    if axes := _idx(start):
        shape = ", ".join(map(str, (-1, *axes[1:])))
        return (
            f"it is in the format IDX of MNIST, {axes}; {_SAVE}np.frombuffer(gzip.open(...).read(), "
            f"np.uint8, offset={4 + 4 * len(axes)}).reshape({shape}))"
        )
    return next((what for beginning, what in _STARTS.items() if start.startswith(beginning)), None)


def _start(path: Path) -> bytes:
    """Return the first bytes of a file, unpacked if it is one of gzip."""
    with path.open("rb") as file:
        start = file.read(64)
    if not start.startswith(_GZIP):
        return start
    with gzip.open(path) as file:
        return file.read(64)


def _zip(path: Path) -> str | None:
    with zipfile.ZipFile(path) as archive:
        names = [name.lower() for name in archive.namelist()]
    if any(name.endswith("data.pkl") for name in names):
        return f"it is a file of torch, whose pickled objects are never read; {_SAVE}torch.load(...).numpy())"
    if any(name.endswith(ENDINGS) for name in names):
        return "it is an archive of pictures; unpack it, and give the folder"
    return None


def _idx(start: bytes) -> list[int] | None:
    """Return the sizes in a header of IDX, of unsigned bytes; None if it is none."""
    if len(start) < 8 or start[:3] != bytes((0, 0, _BYTES)) or not 1 <= start[3] <= _MOST_AXES:
        return None
    ends = range(8, 8 + 4 * start[3], 4)
    return [int.from_bytes(start[end - 4 : end], "big") for end in ends]
