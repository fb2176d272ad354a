"""Rows of npy files, read at their place in the file."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from numpy.lib import format as npy_format

from pushforward.bulk.failures import BulkMistake
from pushforward.bulk.rows import RowForm, Rows, check_array, rows_from_array
from pushforward.bulk.sources import InputFile, RowSource, read_exactly
from pushforward.bulk.storage import Storage


class ArrayLayout(NamedTuple):
    """The place and type of an array in an npy file."""

    start: int
    """The first byte of the data."""
    dtype: np.dtype[Any]
    row_shape: tuple[int, ...]


class NpySource(RowSource):
    """Arrays (N, ...) in npy files. They are read rather than mapped, so that no pages stay in memory."""

    kind = "npy"

    def __init__(
        self, storage: Storage, location: str, form: RowForm, paths: Sequence[tuple[str, str]]
    ) -> None:
        """Read the files' headers.

        Raises:
            BulkMistake: a file is not an npy file of such rows.
        """
        files, self._layouts = [], []
        for path, name in paths:
            with storage.open(path) as file:
                rows, layout = _layout(file, path)
            facts = storage.facts(path)
            check_array(layout.row_shape, layout.dtype, form, path)
            size = math.prod(layout.row_shape) * layout.dtype.itemsize
            if facts.size_bytes != layout.start + rows * size:
                raise BulkMistake(
                    f"{path} has {facts.size_bytes} bytes, its header says {layout.start + rows * size}: it "
                    "was not written to its end; save it anew"
                )
            files.append(InputFile(path, name, facts, rows))
            self._layouts.append(layout)
        super().__init__(storage, location, form, files)

    def _read(self, index: int, start: int, stop: int) -> Rows:
        layout = self._layouts[index]
        row_bytes = math.prod(layout.row_shape) * layout.dtype.itemsize
        content = read_exactly(
            self._file(index), layout.start + start * row_bytes, (stop - start) * row_bytes
        )
        array = np.frombuffer(content, layout.dtype).reshape(stop - start, *layout.row_shape)
        return Rows(rows_from_array(array, self.form))


def _layout(file: BinaryIO, path: str) -> tuple[int, ArrayLayout]:
    """Return the count of rows, and the layout of an npy file."""
    readers = {(1, 0): npy_format.read_array_header_1_0, (2, 0): npy_format.read_array_header_2_0}
    try:
        shape, fortran_order, dtype = readers[npy_format.read_magic(file)](file)
    except (ValueError, KeyError) as error:
        raise BulkMistake(
            f"{path} is not an npy file of version 1.0 or 2.0: {error}; save it anew"
        ) from error
    if not shape:
        raise BulkMistake(f"{path} holds a single number; wanted an array of rows")
    if dtype.hasobject:
        raise BulkMistake(f"{path} holds Python objects, which are never unpickled; save an array of numbers")
    if fortran_order and len(shape) > 1:
        raise BulkMistake(
            f"{path} is in Fortran order, in which a row lies all over the file; save it by "
            "np.save(path, np.ascontiguousarray(array))"
        )
    return shape[0], ArrayLayout(file.tell(), dtype, shape[1:])
