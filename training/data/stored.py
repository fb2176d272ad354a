"""Pictures larger than memory: numbers in a mapped file, which become items when they are used."""

from __future__ import annotations

import math
import mmap
from collections.abc import Iterator
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from service.media.items import unit_interval

_BLOCK_ROWS: Final = 65_536
_CHOSEN_ROWS: Final = 32
_BLOCK_VALUES: Final = 2**21
_BINARY_FROM: Final = np.float32(0.5)


class StoredPictures:
    """Some pictures of a mapped array (N, C, H, W): bytes 0 to 255, or numbers in [0, 1].

    It is indexed as an array of items is, (rows, C, H, W) in float32, by slices and by arrays of places.
    """

    def __init__(
        self, array: npt.NDArray[Any], rows: npt.NDArray[np.int64] | None = None, *, binary: bool = False
    ) -> None:
        """Take rows by their numbers, or all; if `binary`, values become 1 from 0.5 on, and else 0."""
        self.array = array
        self._rows = np.arange(len(array)) if rows is None else rows
        self._binary = binary
        self.shape = (len(self._rows), *array.shape[1:])

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, places: slice | npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
        taken = chosen_rows(self.array, self._rows[places])
        items = unit_interval(taken) if taken.dtype == np.uint8 else taken.astype(np.float32)
        return (items >= _BINARY_FROM).astype(np.float32) if self._binary else items

    def chosen(self, rows: npt.NDArray[np.int64], *, binary: bool) -> StoredPictures:
        """Return other rows of the same array."""
        return StoredPictures(self.array, rows, binary=binary)


def is_mapped(items: Any) -> bool:
    """Return True if items lie in a file that is mapped, and are read when they are used."""
    return isinstance(items, np.memmap | StoredPictures)


def in_blocks(items: Any) -> Iterator[Any]:
    """Yield items in blocks of rows; what is mapped from a file is held no longer than its block."""
    values = max(1, math.prod(items.shape[1:]))
    rows = max(1, min(_BLOCK_ROWS, _BLOCK_VALUES // values))
    for first in range(0, len(items), rows):
        yield items[first : first + rows]
        release(items)


def chosen_rows(items: Any, rows: npt.NDArray[np.int64]) -> Any:
    """Return the items of those numbers, copied; what is mapped from a file is held for some at a time.

    Linux maps what lies around each row that is read, up to a mebibyte.
    """
    if not isinstance(items, np.memmap):
        return items[rows]
    parts = [items[:0]]
    for first in range(0, len(rows), _CHOSEN_ROWS):
        parts.append(items[rows[first : first + _CHOSEN_ROWS]])
        release(items)
    return np.concatenate(parts)


def release(items: Any) -> None:
    """Give back the memory of items that are mapped from a file, which is read again if they are used."""
    mapping = getattr(items.array if isinstance(items, StoredPictures) else items, "_mmap", None)
    if mapping is not None and hasattr(mapping, "madvise"):
        mapping.madvise(mmap.MADV_DONTNEED)
