"""Arrays of an .npz larger than memory: mapped where they lie, or unpacked once into a mapped file."""

from __future__ import annotations

import shutil
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any, Final, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
from numpy.lib import format as npy_format

from training.data import cache
from training.data.dataset import SPLITS, DataError

_FORMAT: Final = 1
_BLOCK_BYTES: Final = 2**20
_LOCAL_HEADER: Final = 30
"""The bytes of a member's header in the archive before its name, whose length and its extra's end it."""


class _Header(NamedTuple):
    """The header of an .npy file."""

    shape: tuple[int, ...]
    is_fortran: bool
    dtype: np.dtype[Any]


def mapped_arrays(path: Path, kept: Path) -> Mapping[str, npt.NDArray[Any]]:
    """Return the arrays of an .npz by name, read when they are used.

    What is stored without compression is mapped where it lies, other arrays are unpacked into `kept` once.
    The four splits are unpacked end to end into one array, of which they are slices.

    Raises:
        DataError: The arrays cannot be unpacked, or the splits differ in the shape or type of their items.
        OSError, ValueError, zipfile.BadZipFile, zlib.error: The archive is damaged, or holds Python objects.
    """
    with zipfile.ZipFile(path) as archive:
        members = {member.filename.removesuffix(".npy"): member for member in archive.infolist()}
        if set(members) != set(SPLITS):
            return {
                name: _stored(path, member)
                if member.compress_type == zipfile.ZIP_STORED
                else _unpacked(path, archive, [member], kept)
                for name, member in members.items()
            }
        ordered = [members[split] for split in SPLITS]
        whole = _unpacked(path, archive, ordered, kept)
        ends = np.cumsum([_header_of(archive, member).shape[0] for member in ordered]).tolist()
        starts = [0, *ends[:-1]]
        return {split: whole[start:end] for split, start, end in zip(SPLITS, starts, ends, strict=True)}


def bytes_of_arrays(path: Path) -> int:
    """Return the bytes that the arrays of an .npz take in memory."""
    with zipfile.ZipFile(path) as archive:
        return sum(member.file_size for member in archive.infolist())


def _stored(path: Path, member: zipfile.ZipInfo) -> npt.NDArray[Any]:
    """Map an array that lies in the archive as it would in an .npy."""
    with path.open("rb") as file:
        file.seek(member.header_offset)
        header = file.read(_LOCAL_HEADER)
        name, extra = (int.from_bytes(header[place : place + 2], "little") for place in (26, 28))
        file.seek(member.header_offset + _LOCAL_HEADER + name + extra)
        shape, is_fortran, dtype = _read_header(file)
        order: Literal["C", "F"] = "F" if is_fortran else "C"
        return np.memmap(path, dtype, "r", offset=file.tell(), shape=shape, order=order)


def _unpacked(
    path: Path, archive: zipfile.ZipFile, members: Sequence[zipfile.ZipInfo], kept: Path
) -> npt.NDArray[Any]:
    """Return arrays end to end, from a file that is written once."""
    state = path.stat()
    names = [member.filename for member in members]
    folder = cache.place_of([_FORMAT, str(path.resolve()), state.st_size, state.st_mtime_ns, names], kept)
    if not folder.is_dir():
        headers = [_header_of(archive, member) for member in members]
        if len(headers) > 1:
            _check_alike(path, headers)
        with cache.written(folder, f"{path} cannot be unpacked into") as staging:
            _write(staging / "items.npy", archive, members, headers)
    cache.use(folder)
    unpacked: npt.NDArray[Any] = np.load(folder / "items.npy", mmap_mode="r", allow_pickle=False)
    return unpacked


def _write(
    file: Path, archive: zipfile.ZipFile, members: Sequence[zipfile.ZipInfo], headers: Sequence[_Header]
) -> None:
    """Write arrays end to end, a block at a time."""
    shape, is_fortran, dtype = headers[0]
    if len(headers) > 1:
        shape = (sum(header.shape[0] for header in headers), *shape[1:])
    with file.open("wb") as target:
        described = {"descr": npy_format.dtype_to_descr(dtype), "fortran_order": is_fortran, "shape": shape}
        npy_format.write_array_header_2_0(target, described)
        for member in members:
            with archive.open(member) as source:
                _read_header(source)
                shutil.copyfileobj(source, target, _BLOCK_BYTES)


def _check_alike(path: Path, headers: Sequence[_Header]) -> None:
    kinds = {(header.shape[1:], header.is_fortran, header.dtype) for header in headers}
    if len(kinds) > 1 or headers[0].is_fortran or not headers[0].shape:
        came = ", ".join(
            f"{split} {dtype} {list(shape)}{' in Fortran order' if is_fortran else ''}"
            for split, (shape, is_fortran, dtype) in zip(SPLITS, headers, strict=True)
        )
        raise DataError(
            f"{path}: wanted splits of equal shape and type in C order, since they are larger than memory; "
            f"came {came}; save them anew"
        )


def _header_of(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> _Header:
    with archive.open(member) as source:
        return _read_header(source)


def _read_header(source: IO[bytes]) -> _Header:
    """Read a header, after which the numbers begin."""
    version = npy_format.read_magic(source)
    read = npy_format.read_array_header_1_0 if version == (1, 0) else npy_format.read_array_header_2_0
    header = _Header(*read(source))
    if header.dtype.hasobject:
        raise ValueError("Python objects cannot be mapped")
    return header
