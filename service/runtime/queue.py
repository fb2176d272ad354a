"""The batcher's queue: calls, the slices they are cut into, fairness, and the rate of computation."""

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

_EXPECTED_BATCHES: Final = 16
"""Number of batches after a short call in which another one is expected."""
_MEMORY: Final = 0.9
"""Weight of the earlier batches in the estimated rate, at each new batch."""


@dataclass(slots=True, eq=False)
class QueuedCall:
    """One call: its rows, the number of them in batches, and the answer that is being put together."""

    inputs: Arrays
    cost_per_row: int
    answer: asyncio.Future[Arrays]
    timing: Timing
    arrived_at: float
    rows: int
    missing_rows: int
    """Rows that are not computed yet."""
    next_row: int = 0
    """The first row that is in no batch yet."""
    outputs: list[NDArray[Any]] | None = None

    def take(self, rows: int) -> Slice:
        """Take the next `rows` rows of the call, in order."""
        if not self.next_row:
            self.timing.add_wait(time.perf_counter() - self.arrived_at)
        start, self.next_row = self.next_row, self.next_row + rows
        return Slice(self, start, rows)

    def complete(self, start: int, outputs: Arrays) -> int:
        """Store the outputs of a slice; the last slice answers the call. Return the rows that were stored."""
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
        """End the call with an error, unless it has ended."""
        if not self.answer.done():
            self.answer.set_exception(error)


@dataclass(slots=True)
class Slice:
    """Consecutive rows of a call, from `start` on."""

    call: QueuedCall
    start: int
    rows: int

    @property
    def inputs(self) -> Arrays:
        """Return the slice of the call's inputs, without a copy."""
        if self.rows == self.call.rows:
            return self.call.inputs
        return tuple(array[self.start : self.start + self.rows] for array in self.call.inputs)


class Queue:
    """The calls that may share a batch: rows of one shape. Short calls pass long ones, up to half a batch.

    Args:
        max_rows: Most rows of a batch; a call is short if four of it fit.
        short_rows: Most rows of a batch of short calls alone.
        quick_rows: Most rows of a batch with slices of long calls, while short calls come.
    """

    def __init__(self, max_rows: int, short_rows: int, quick_rows: int) -> None:
        self._max_rows = max_rows
        self._short_rows = min(short_rows, max_rows)
        # at least two, because long calls would have no half of a single row
        self._quick_rows = min(max(2, quick_rows), max_rows)
        self._short: deque[QueuedCall] = deque()
        self._long: deque[QueuedCall] = deque()
        self._since_short = _EXPECTED_BATCHES

    def __bool__(self) -> bool:
        """Return False if no call is in it."""
        return bool(self._short or self._long)

    def add(self, call: QueuedCall) -> None:
        """Put a call at the end."""
        if call.rows * 4 <= self._max_rows:
            self._since_short = 0
            self._short.append(call)
        else:
            self._long.append(call)

    def take(self, rows: int) -> list[Slice]:
        """Take the slices of the next batch, of at most `rows` rows: short calls, then long ones in turns.

        While long calls wait, half of the batch is kept for them; short calls get what they leave.
        """
        self._since_short += 1
        if not self._long:
            return self._fill(self._short, min(rows, self._short_rows))
        expected = self._since_short <= _EXPECTED_BATCHES
        room = min(max(2, rows), self._quick_rows if expected else self._max_rows)
        batch = self._fill(self._short, max(1, room // 2))
        for calls in (self._long, self._short):
            batch += self._fill(calls, room - sum(part.rows for part in batch))
        return batch

    @staticmethod
    def _fill(calls: deque[QueuedCall], room: int) -> list[Slice]:
        batch: list[Slice] = []
        while calls and room > 0:
            call = calls.popleft()
            if call.answer.done():  # cancelled, or failed in an earlier slice
                continue
            part = call.take(min(room, call.rows - call.next_row))
            room -= part.rows
            batch.append(part)
            if call.next_row < call.rows:
                calls.append(call)
        return batch


@dataclass(frozen=True, slots=True)
class BatchLimits:
    """Limits of a batch and of the queue.

    A row's cost is 1, or the draws it carries. `max_batch_cost` bounds the cost of one computation,
    `short_cost` that of one with short calls alone, and `quick_cost` that of one with slices of long calls
    while short calls come, which would have to wait for it. Batches of cost up to `inline_cost` run in the
    event loop, where they save a thread hop.
    """

    max_batch_cost: int = 64
    max_waiting_rows: int = 65_536
    short_cost: int = 64
    quick_cost: int = 64
    inline_cost: int = 0

    def queue(self, cost_per_row: int) -> Queue:
        """Make a queue for rows of that cost."""
        return Queue(
            self.max_batch_cost // cost_per_row or 1,
            self.short_cost // cost_per_row or 1,
            self.quick_cost // cost_per_row or 1,
        )


class RateEstimate:
    """The recent rate of computation, in which older batches weigh less."""

    def __init__(self) -> None:
        self._rows = 0.0
        self._seconds = 0.0

    def record(self, rows: int, seconds: float) -> None:
        """Record a batch."""
        self._rows = _MEMORY * self._rows + rows
        self._seconds = _MEMORY * self._seconds + seconds

    def seconds_for(self, rows: int) -> float:
        """Estimate the seconds for `rows` rows in consecutive batches; 0 if nothing is known."""
        return rows * self._seconds / self._rows if self._rows else 0.0
