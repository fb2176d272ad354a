"""Turns concurrent calls of one computation into few larger ones.

A batcher knows rows, turns and costs; neither models nor HTTP. Its promises, a test each:

- Rows come back in the order sent, each to its own caller, whatever shared their batch.
- A cancelled or failing call harms no batch-mate, and every call ends.
- A batch is what has arrived when a lane is free; nothing ever waits for a batch to fill.
- Large calls are sliced and take turns; short ones get up to half of every batch before them.
- At most `max_waiting_rows` rows wait; a call beyond that is refused at once.
- A lane that dies fails its waiters at once and is restarted.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from typing import Any, Final, Protocol

import numpy as np

from service.errors import Draining, EngineFailed, LimitExceeded, Overloaded
from service.numerics.noise import Arrays
from service.observe.timing import Timing
from service.runtime.queue import Limits, Line, Pace, Slice, Waiter

Compute = Callable[[Arrays], Arrays]

RELAPSE_SECONDS = 60.0
"""A lane that dies twice within this time makes the batcher unhealthy."""
_MOST_TURNS: Final = 8
_LONGEST_RETRY_SECONDS: Final = 60

log = logging.getLogger(__name__)


class Watcher(Protocol):
    """Hears what a batcher does; the metrics implement it."""

    def computed(self, rows: int, seconds: float) -> None:
        """One batch of that many rows took that long."""

    def waiting(self, change: int) -> None:
        """That many more rows wait now, or fewer, if negative."""

    def room(self, change: int) -> None:
        """That many more rows may wait from now on, or fewer, if negative."""


class Batcher:
    """Batches calls of one computation; see the module for what it promises.

    `compute` takes arrays whose first axis is rows and returns arrays with the same number of rows.
    It runs in `threads`, at most `lanes` calls at once, or, for small batches, in the event loop; what waits
    is shared among as many lanes as there are `cores`.
    Shape groups are kept apart: calls share a batch only if their rows have equal shapes and dtypes.
    """

    def __init__(
        self,
        compute: Compute,
        limits: Limits,
        *,
        lanes: int = 1,
        cores: int = 1,
        threads: Executor | None = None,
        watcher: Watcher | None = None,
        name: str = "batcher",
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._compute = compute
        self._limits = limits
        self._lane_count = lanes
        self._cores = cores
        self._submitted = 0
        self._pace = Pace()
        self._threads = threads
        self._watcher = watcher
        self._name = name
        self._clock = clock
        self._lines: OrderedDict[tuple[Any, ...], Line] = OrderedDict()
        self._unsettled: set[Waiter] = set()
        self._waiting_rows = 0
        self._arrived = asyncio.Event()
        self._lanes: list[asyncio.Task[None]] = []
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closed = False
        self._died_at: float | None = None
        self.healthy = True

    @property
    def waiting_rows(self) -> int:
        """Rows that were submitted and are not computed yet."""
        return self._waiting_rows

    def start(self) -> None:
        """Starts the lanes; call it once, in the event loop."""
        self._loop = asyncio.get_running_loop()
        self._give_room(self._limits.max_waiting_rows)
        self._lanes = [asyncio.create_task(self._supervise()) for _ in range(self._lane_count)]

    async def stop(self) -> None:
        """Refuses new calls, fails the waiting ones and ends the lanes."""
        if not self._closed:
            self._give_room(-self._limits.max_waiting_rows)
        self._closed = True
        self._fail_all(Draining("the service is shutting down"))
        for lane in self._lanes:
            lane.cancel()
        for lane in self._lanes:
            with contextlib.suppress(asyncio.CancelledError):
                await lane
        self._lanes.clear()  # what ended them refers to this again, a cycle that keeps the model in memory

    async def submit(
        self, inputs: Arrays, timing: Timing | None = None, *, cost_per_row: int = 1, admitted: bool = False
    ) -> Arrays:
        """Computes (n, ...) rows, n >= 1; the outputs have n rows in the same order.

        Args:
            inputs: arrays of n rows each.
            timing: is told where the time went.
            cost_per_row: what a row counts for in a batch, its draws.
            admitted: part of a request that has been let in already, which a full queue must not cut short.

        Raises:
            LimitExceeded: more rows than may ever wait.
            Overloaded: too many rows wait already; nothing was queued.
            Draining: the batcher was stopped.
            EngineFailed: the computation failed on these very rows, or the lane died.
        """
        rows = len(inputs[0])
        assert rows, "a call has at least one row"
        if self._closed:
            raise Draining("the service is shutting down")
        if rows > self._limits.max_waiting_rows:
            raise LimitExceeded(
                f"{rows} rows are more than the {self._limits.max_waiting_rows} that may wait"
            )
        if not admitted and self._waiting_rows + rows > self._limits.max_waiting_rows:
            raise Overloaded(
                f"{self._waiting_rows} rows are waiting and {rows} more would pass the limit of "
                f"{self._limits.max_waiting_rows}; try again later or ask for less",
                retry_after_seconds=self._seconds_until_room_for(rows),
            )
        loop = self._loop or asyncio.get_running_loop()  # which asks the system for the process each time
        answer: asyncio.Future[Arrays] = loop.create_future()
        waiter = Waiter(inputs, cost_per_row, answer, timing or Timing(), time.perf_counter(), rows, rows)
        key = (cost_per_row, *[(array.shape[1:], array.dtype.char) for array in inputs])
        line = self._lines.get(key)
        if line is None:
            line = self._lines[key] = self._limits.line(cost_per_row)
        line.add(waiter)
        self._unsettled.add(waiter)
        self._submitted += 1
        self._count_waiting(rows)
        self._arrived.set()
        try:
            return await answer
        finally:
            self._unsettled.discard(waiter)
            if waiter.missing_rows:
                self._count_waiting(-waiter.missing_rows)
                waiter.missing_rows = 0

    def _count_waiting(self, change: int) -> None:
        self._waiting_rows += change
        if self._watcher is not None:
            self._watcher.waiting(change)

    def _give_room(self, change: int) -> None:
        if self._watcher is not None:
            self._watcher.room(change)

    def _seconds_until_room_for(self, rows: int) -> int:
        """By the pace of the last batches; whole seconds, of which there is at least one."""
        excess = self._waiting_rows + rows - self._limits.max_waiting_rows
        return min(max(1, math.ceil(self._pace.seconds_for(excess) / self._cores)), _LONGEST_RETRY_SECONDS)

    def _next_batch(self) -> list[Slice]:
        while self._lines:
            key, line = self._lines.popitem(last=False)
            # no more than one core's share, so that lanes on the other cores have work too
            share = -(-self._waiting_rows // self._cores)
            batch = line.take(max(1, share))
            if batch:
                self._lines[key] = line  # to the end: shape groups take turns
                return batch
        self._arrived.clear()
        return []

    async def _supervise(self) -> None:
        while not self._closed:
            try:
                await self._serve()
            except asyncio.CancelledError:
                raise
            except BaseException:  # whatever killed the lane, its waiters must hear of it
                log.exception("%s: a lane died; its waiters fail and it is restarted", self._name)
                now = self._clock()
                if self._died_at is not None and now - self._died_at < RELAPSE_SECONDS:
                    self.healthy = False
                self._died_at = now
                self._fail_all(EngineFailed("the computation was interrupted; try again"))

    async def _serve(self) -> None:
        while True:
            await self._arrived.wait()
            batch = self._next_batch()
            if batch:
                await self._run(batch)
                await self._let_arrive()

    async def _let_arrive(self) -> None:
        """Lets answers leave, and what has come meanwhile be read, before the next batch is made of it.

        Two turns of the event loop read what lies in a socket and make a call of it. While every two bring
        more, more may lie there.
        """
        for _ in range(_MOST_TURNS):
            submitted = self._submitted
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            if self._submitted == submitted:
                return

    async def _run(self, batch: list[Slice]) -> None:
        started_at = self._clock()
        try:
            outputs = await self._computed(batch)
        except Exception as error:
            await self._run_apart(batch, error)
            return
        seconds = self._clock() - started_at
        self._pace.computed(len(outputs[0]), seconds)
        if self._watcher is not None:
            self._watcher.computed(len(outputs[0]), seconds)
        first = 0
        for part in batch:
            timing = part.waiter.timing
            timing.compute_seconds += seconds
            timing.batches += part.rows / len(outputs[0])
            mine = tuple([array[first : first + part.rows] for array in outputs])
            self._count_waiting(-part.waiter.settle(part.start, mine))
            first += part.rows

    async def _run_apart(self, batch: list[Slice], error: Exception) -> None:
        """After a failed batch: each of its calls alone, so that only the culprit fails."""
        if len(batch) > 1:
            log.warning(
                "%s: a batch of %d calls failed (%s); running each alone", self._name, len(batch), error
            )
            for part in batch:
                await self._run([part])
            return
        log.error("%s: the computation failed", self._name, exc_info=error)
        batch[0].waiter.fail(EngineFailed("the model could not compute these rows"))

    async def _computed(self, batch: list[Slice]) -> Arrays:
        inputs = _joined([part.inputs for part in batch])
        rows = len(inputs[0])
        if self._threads is None or rows * batch[0].waiter.cost_per_row <= self._limits.inline_cost:
            outputs = self._compute(inputs)
        else:
            outputs = await asyncio.get_running_loop().run_in_executor(self._threads, self._compute, inputs)
        got = [len(array) for array in outputs]
        if got.count(rows) != len(got):
            raise EngineFailed(f"{rows} rows went in and {got} came out")
        return outputs

    def _fail_all(self, error: Exception) -> None:
        for waiter in tuple(self._unsettled):
            waiter.fail(error)
        self._lines.clear()
        self._arrived.clear()


def _joined(parts: Sequence[Arrays]) -> Arrays:
    if len(parts) == 1:
        return tuple(np.ascontiguousarray(array) for array in parts[0])
    return tuple(np.concatenate(arrays) for arrays in zip(*parts, strict=True))
