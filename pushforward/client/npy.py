"""npy documents: whole, and read piece by piece as they arrive. Shapes: B rows; arrays are float32."""

from __future__ import annotations

import io
import math
from typing import Any, Final

import numpy as np
from numpy.lib import format as npy_format
from numpy.typing import NDArray

from pushforward.results import Floats
from service.errors import Malformed

_MAGIC: Final = b"\x93NUMPY\x01\x00"
_LENGTH_END: Final = 10
"""The magic string, the version and the length of the header take so many bytes."""


def to_npy(rows: Floats) -> bytes:
    """Encode an array as one npy document, little-endian and in C order."""
    file = io.BytesIO()
    np.save(file, np.ascontiguousarray(rows, "<f4"), allow_pickle=False)
    return file.getvalue()


class NpyRows:
    """Reads an npy document of float32 rows from pieces of bytes, and keeps only the bytes of one row."""

    def __init__(self) -> None:
        self._rest = b""
        self._shape: tuple[int, ...] | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """Return the shape of the whole document: B, then the shape of an item. Call it once rows came."""
        assert self._shape is not None
        return self._shape

    def feed(self, piece: bytes) -> Floats | None:
        """Return the rows that a piece completes, (rows, *item), or None before the first of them.

        Raises:
            Malformed: the bytes are not such a document.
        """
        data = self._rest + piece
        if self._shape is None:
            data = self._without_header(data)
        if self._shape is None:
            self._rest = data
            return None
        row_bytes = 4 * math.prod(self._shape[1:])
        rows = len(data) // row_bytes
        self._rest = data[rows * row_bytes :]
        return _rows(data[: rows * row_bytes], rows, self._shape[1:]) if rows else None

    def _without_header(self, data: bytes) -> bytes:
        if data[: len(_MAGIC)] != _MAGIC[: len(data)]:
            raise Malformed("the answer is not an npy document of version 1.0")
        end = _LENGTH_END + int.from_bytes(data[len(_MAGIC) : _LENGTH_END], "little")
        if len(data) < _LENGTH_END or len(data) < end:
            return data
        file = io.BytesIO(data[:end])
        npy_format.read_magic(file)
        shape, fortran_order, dtype = npy_format.read_array_header_1_0(file)
        if dtype != np.dtype("<f4") or fortran_order or not shape:
            raise Malformed(f"the answer holds {dtype} of shape {shape}; wanted rows of float32 in C order")
        self._shape = shape
        return data[end:]


def _rows(data: bytes, rows: int, item_shape: tuple[int, ...]) -> Floats:
    array: NDArray[Any] = np.frombuffer(data, "<f4").reshape(rows, *item_shape)
    return array.astype(np.float32)  # a copy that can be written to, of the machine's byte order


def from_npy(body: bytes) -> Floats:
    """Read a whole npy document of float32 rows.

    Raises:
        Malformed: the bytes are not such a document, or they are cut short.
    """
    reader = NpyRows()
    rows = reader.feed(body)
    if rows is None or len(rows) != reader.shape[0]:
        raise Malformed("the npy answer is cut short")
    return rows
