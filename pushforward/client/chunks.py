"""Rows of a stream as they arrive: into one array, or into chunks of one size. Arrays are float32."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeAlias

import numpy as np

from pushforward.checks import check_options
from pushforward.results import Floats

Take: TypeAlias = Callable[[Floats], Iterable[Floats]]
"""Takes the rows of a stream as they arrive, and returns those to yield."""


class WholeArray:
    """Takes the rows of a stream into one array, and returns none."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._place = 0
        self._array: Floats | None = None

    def __call__(self, rows: Floats) -> Sequence[Floats]:
        """Take rows (rows, *item)."""
        if self._array is None:
            self._array = np.empty((self._count, *rows.shape[1:]), np.float32)
        self._array[self._place : self._place + len(rows)] = rows
        self._place += len(rows)
        return ()

    def taken(self) -> Floats:
        """Return the array, once all rows came."""
        assert self._array is not None
        return self._array


class Chunks:
    """Takes the rows of a stream, and returns them in chunks of a size; the last may be smaller."""

    def __init__(self, count: int, chunk_rows: int) -> None:
        check_options(count=count, chunk_rows=chunk_rows)
        self._left = count
        self._chunk_rows = chunk_rows
        self._chunk = WholeArray(min(count, chunk_rows))
        self._filled = 0

    def __call__(self, rows: Floats) -> Iterator[Floats]:
        """Take rows (rows, *item), and yield each chunk that they complete."""
        while len(rows):
            size = min(self._left, self._chunk_rows)
            taken, rows = rows[: size - self._filled], rows[size - self._filled :]
            self._chunk(taken)
            self._filled += len(taken)
            if self._filled == size:
                self._left -= size
                full, self._filled = self._chunk.taken(), 0
                self._chunk = WholeArray(min(self._left, self._chunk_rows))
                yield full
