"""Whose rows are computed next: calls, their slices, the line they stand in, and how fast it moves."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from service.numerics.noise import Arrays
from service.observe.timing import Timing

_REMEMBERED_BATCHES: Final = 16
"""For how many batches after a short call another is expected."""
_REMEMBERED_SHARE: Final = 0.9
"""How much of what is known of earlier batches is kept at each."""


@dataclass(slots=True, eq=False)
class Waiter:
    """One call: its rows, how many are taken into batches, and the answer that is being put together."""

    inputs: Arrays
    cost_per_row: int
    answer: asyncio.Future[Arrays]
    timing: Timing
    arrived_at: float
    rows: int
    """Of the call."""
    missing_rows: int
    next_row: int = 0
    outputs: list[NDArray[Any]] | None = None

    @property
    def untaken_rows(self) -> int:
        """The rows that no batch has taken yet."""
        return self.rows - self.next_row

    def take(self, rows: int) -> Slice:
        """The next `rows` rows of the call, in order."""
        if not self.next_row:
            self.timing.queue_seconds += time.perf_counter() - self.arrived_at
        start, self.next_row = self.next_row, self.next_row + rows
        return Slice(self, start, rows)

    def settle(self, start: int, outputs: Arrays) -> int:
        """Stores the outputs of a slice; the last slice answers the call. Returns the rows it took."""
        if self.answer.done():
            return 0
        rows = len(outputs[0])
        self.missing_rows -= rows
        if rows == self.rows:
            self.answer.set_result(outputs)
            return rows
        if self.outputs is None:
            self.outputs = [np.empty((self.rows, *part.shape[1:]), part.dtype) for part in outputs]
        for whole, part in zip(self.outputs, outputs, strict=True):
            whole[start : start + rows] = part
        if not self.missing_rows:
            self.answer.set_result(tuple(self.outputs))
        return rows

    def fail(self, error: Exception) -> None:
        """Ends the call with an error, unless it has ended."""
        if not self.answer.done():
            self.answer.set_exception(error)


@dataclass(slots=True)
class Slice:
    """So many rows of a call, from `start` on."""

    waiter: Waiter
    start: int
    rows: int

    @property
    def inputs(self) -> Arrays:
        """Its part of the call's inputs, without a copy."""
        if self.rows == self.waiter.rows:
            return self.waiter.inputs
        return tuple(array[self.start : self.start + self.rows] for array in self.waiter.inputs)


class Line:
    """The calls that may share a batch: rows of one shape. Short ones pass long ones, up to half a batch.

    Args:
        max_rows: Of a batch; a call is short if four of it fit.
        short_rows: Of a batch of short calls alone.
        quick_rows: Of a batch with slices of long calls, while short ones come.
    """

    def __init__(self, max_rows: int, short_rows: int, quick_rows: int) -> None:
        self._max_rows = max_rows
        self._short_rows = min(short_rows, max_rows)
        # room for two, since of one row long calls would have no half
        self._quick_rows = min(max(2, quick_rows), max_rows)
        self._short: deque[Waiter] = deque()
        self._long: deque[Waiter] = deque()
        self._since_short = _REMEMBERED_BATCHES

    def add(self, waiter: Waiter) -> None:
        """Puts a call at the end."""
        if waiter.rows * 4 <= self._max_rows:
            self._since_short = 0
            self._short.append(waiter)
        else:
            self._long.append(waiter)

    def take(self, rows: int) -> list[Slice]:
        """The slices of the next batch, of so many rows at most: short calls first, then long ones by turns.

        While long calls wait, half of the batch is kept for them; what they leave goes to short ones.
        """
        self._since_short += 1
        if not self._long:
            return self._fill(self._short, min(rows, self._short_rows))
        expected = self._since_short <= _REMEMBERED_BATCHES
        room = min(max(2, rows), self._quick_rows if expected else self._max_rows)
        batch = self._fill(self._short, max(1, room // 2))
        for queue in (self._long, self._short):
            batch += self._fill(queue, room - sum(part.rows for part in batch))
        return batch

    @staticmethod
    def _fill(queue: deque[Waiter], room: int) -> list[Slice]:
        batch: list[Slice] = []
        while queue and room > 0:
            waiter = queue.popleft()
            if waiter.answer.done():  # cancelled, or failed in an earlier slice
                continue
            part = waiter.take(min(room, waiter.untaken_rows))
            room -= part.rows
            batch.append(part)
            if waiter.untaken_rows:
                queue.append(waiter)
        return batch


@dataclass(frozen=True, slots=True)
class Limits:
    """What a batch and the queue may hold.

    A row's cost is 1, or the draws it carries. `max_batch_cost` bounds the cost of one computation,
    `short_cost` that of one with short calls alone, and `quick_cost` that of one with slices of long calls
    while short ones come, which it would keep waiting. Batches of cost up to `inline_cost` run in the event
    loop, where they save a thread hop.
    """

    max_batch_cost: int = 64
    max_waiting_rows: int = 65_536
    short_cost: int = 64
    quick_cost: int = 64
    inline_cost: int = 0

    def line(self, cost_per_row: int) -> Line:
        """A line for rows of that cost."""
        costs = (self.max_batch_cost, self.short_cost, self.quick_cost)
        return Line(*(max(1, cost // cost_per_row) for cost in costs))


class Pace:
    """How fast batches have gone of late, the older the less."""

    def __init__(self) -> None:
        self._rows = 0.0
        self._seconds = 0.0

    def computed(self, rows: int, seconds: float) -> None:
        """A batch of that many rows took that long."""
        self._rows = _REMEMBERED_SHARE * self._rows + rows
        self._seconds = _REMEMBERED_SHARE * self._seconds + seconds

    def seconds_for(self, rows: int) -> float:
        """How long so many rows will take, one batch after the other; 0 if nothing is known."""
        return rows * self._seconds / self._rows if self._rows else 0.0
