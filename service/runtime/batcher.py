"""Turns concurrent calls of one computation into a few larger ones.

A batcher knows rows, queues and costs, but neither models nor HTTP. Its promises, each with a test:

- Rows come back in the order sent, each to its own caller, whatever else is in their batch.
- A cancelled or failing call harms no batch-mate, and every call ends.
- A batch is what has arrived when a lane is free; no call ever waits for a batch to fill.
- Large calls are sliced and take turns; short ones get up to half of every batch before them.
- At most `max_waiting_rows` rows wait; a call beyond that is refused at once.
- A lane that dies fails all waiting calls at once and is restarted.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
import types
from collections import OrderedDict
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Executor
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from service.errors import Draining, EngineFailed, LimitExceeded, OutOfMemory, Overloaded, RuntimeFailed
from service.numerics.noise import Arrays
from service.observe.timing import Timing
from service.runtime.queue import BatchLimits, Queue, QueuedCall, RateEstimate, Slice

if TYPE_CHECKING:
    from service.observe.metrics import StageObserver

Compute = Callable[[Arrays], Arrays]

RELAPSE_SECONDS = 60.0
"""A lane that dies twice within this time makes the batcher unhealthy."""
_MOST_FAILURES: Final = 3
"""The number of failures of ONNX Runtime in a row that make the batcher unhealthy, until it succeeds."""
_MOST_YIELDS: Final = 8
_LONGEST_RETRY_SECONDS: Final = 60

log = logging.getLogger(__name__)


class Batcher:
    """Batches calls of one computation, and keeps the promises of this module.

    `compute` takes arrays whose first axis is rows and returns arrays with the same number of rows. It runs
    in `threads`, at most `lanes` calls at once, or in the event loop for small batches; waiting rows are
    shared among as many lanes as there are `cores`. Calls share a batch only if their rows have equal shapes,
    dtypes and costs.
    """

    def __init__(
        self,
        compute: Compute,
        limits: BatchLimits,
        *,
        lanes: int = 1,
        cores: int = 1,
        threads: Executor | None = None,
        observer: StageObserver | None = None,
        name: str = "batcher",
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._compute = compute
        self._limits = limits
        self._lane_count = lanes
        self._cores = cores
        self._submitted = 0
        self._rate = RateEstimate()
        self._threads = threads
        self._observer = observer
        self._name = name
        self._clock = clock
        self._queues: OrderedDict[tuple[Any, ...], Queue] = OrderedDict()
        self._open_calls: set[QueuedCall] = set()
        self.waiting_rows = 0
        """Rows that were submitted and are not computed yet."""
        self.max_waiting_rows = limits.max_waiting_rows
        self._idle: list[asyncio.Future[None]] = []
        """Lanes without work wait for these."""
        self._looking = False
        """True while a lane or a call looks for calls that come, so that no other has to."""
        self._lanes: list[asyncio.Task[None]] = []
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closed = False
        self._died_at = -math.inf
        self._keeps_dying = False
        self._failures = 0
        """Failures of ONNX Runtime since its last success."""

    @property
    def healthy(self) -> bool:
        """Return False once the lanes keep dying, or while batches fail."""
        return not self._keeps_dying and self._failures < _MOST_FAILURES

    def start(self) -> None:
        """Start the lanes. Call it once, in the event loop."""
        self._loop = asyncio.get_running_loop()
        if self._observer is not None:
            self._observer.batchers.add(self)
        self._lanes = [asyncio.create_task(self._run_lane()) for _ in range(self._lane_count)]

    async def stop(self) -> None:
        """Refuse new calls, fail the waiting ones and end the lanes."""
        self._closed = True
        self._fail_all(Draining("the service is shutting down"))
        for lane in self._lanes:
            lane.cancel()
        await asyncio.gather(*self._lanes, return_exceptions=True)
        self._idle.clear()
        self._lanes.clear()  # their exceptions refer to this: a cycle that would keep the model in memory
        if self._observer is not None:
            self._observer.batchers.discard(self)

    async def submit(
        self, inputs: Arrays, timing: Timing | None = None, *, cost_per_row: int = 1, admitted: bool = False
    ) -> Arrays:
        """Compute (n, ...) rows, n >= 1; the outputs have n rows in the same order.

        `timing` gets the times of waiting and computing; `cost_per_row` is the number of draws of a row.
        `admitted` is True for a part of a request that has begun, which a full queue must not cut short.

        Raises:
            LimitExceeded: more rows than may ever wait.
            Overloaded: too many rows wait already; nothing was queued.
            Draining: the batcher was stopped.
            EngineFailed: the computation failed on these very rows, or the lane died.
            OutOfMemory: there was no memory for these rows.
        """
        rows = len(inputs[0])
        assert rows, "a call has at least one row"
        if self._closed:
            raise Draining("the service is shutting down")
        if rows > self.max_waiting_rows:
            raise LimitExceeded(f"{rows} rows are over the {self.max_waiting_rows} that may wait; send fewer")
        if not admitted and self.waiting_rows + rows > self.max_waiting_rows:
            raise Overloaded(
                f"{self.waiting_rows} rows are waiting and {rows} more would pass the limit of "
                f"{self.max_waiting_rows}; try again later or ask for less",
                retry_after_seconds=self._seconds_until_room_for(rows),
            )
        loop = self._loop or asyncio.get_running_loop()  # the latter makes a system call each time
        answer: asyncio.Future[Arrays] = loop.create_future()
        call = QueuedCall(inputs, cost_per_row, answer, timing or Timing(), time.perf_counter(), rows, rows)
        key = (cost_per_row, *[(array.shape[1:], array.dtype.char) for array in inputs])
        queue = self._queues.get(key)
        if queue is None:
            queue = self._queues[key] = self._limits.queue(cost_per_row)
        queue.add(call)
        self._open_calls.add(call)
        self._submitted += 1
        self.waiting_rows += rows
        try:
            if self._idle and not self._looking:
                if self._runs_inline(self.waiting_rows, cost_per_row):
                    await self._lead(cost_per_row)
                else:
                    self._wake_lane()
            return await answer
        finally:
            self._open_calls.discard(call)
            if call.missing_rows:
                answer.cancel()  # so that none of its rows is computed
                self.waiting_rows -= call.missing_rows
                call.missing_rows = 0

    def _runs_inline(self, rows: int, cost_per_row: int) -> bool:
        """Return True if such a batch is computed in the event loop."""
        return self._threads is None or rows * cost_per_row <= self._limits.inline_cost

    def _wake_lane(self) -> None:
        """Let one idle lane look for calls; if it leaves some and waits for a thread, it wakes the next."""
        if self._idle:
            self._looking = True
            self._idle.pop().set_result(None)

    async def _lead(self, cost_per_row: int) -> None:
        """Run a batch in the task of its first call, which saves two hand-overs, unless it takes a thread.

        A lane runs what it leaves.
        """
        try:
            await self._read_arrivals()
            if len(self._queues) == 1 and self._runs_inline(self.waiting_rows, cost_per_row):
                await self._run(self._next_batch())
        except (asyncio.CancelledError, GeneratorExit):
            raise
        except BaseException:
            self._die()
        finally:
            if self._calls_wait():
                self._wake_lane()

    def _seconds_until_room_for(self, rows: int) -> int:
        """Estimate the wait by the rate of the last batches, in whole seconds, at least one."""
        excess = self.waiting_rows + rows - self.max_waiting_rows
        return min(max(1, math.ceil(self._rate.seconds_for(excess) / self._cores)), _LONGEST_RETRY_SECONDS)

    def _calls_wait(self) -> bool:
        """Return True if calls are in the queues; else forget these, and so how lately a short call came."""
        if any(self._queues.values()):
            return True
        self._queues.clear()
        return False

    def _next_batch(self) -> list[Slice]:
        while self._queues:
            key, queue = self._queues.popitem(last=False)
            if not queue:
                continue
            # at most one core's share, so that lanes on the other cores have work too
            share = -(-self.waiting_rows // self._cores)
            if batch := queue.take(max(1, share)):
                self._queues[key] = queue  # to the end: queues take turns
                return batch
        return []

    async def _run_lane(self) -> None:
        loop = asyncio.get_running_loop()
        while not self._closed:
            try:
                if self._calls_wait():
                    await self._read_arrivals()
                    await self._run(self._next_batch())
                else:
                    self._idle.append(woken := loop.create_future())
                    await woken
                    self._looking = False
            except (asyncio.CancelledError, GeneratorExit):  # the latter if the process ends without `stop`
                raise
            except BaseException:  # whatever it is, the waiting calls must fail
                self._die()

    def _die(self) -> None:
        log.exception("%s: a lane died; its waiters fail and it is restarted", self._name)
        now = self._clock()
        if now - self._died_at < RELAPSE_SECONDS:
            self._keeps_dying = True
        self._died_at = now
        self._fail_all(EngineFailed("the computation was interrupted; try again"))

    async def _read_arrivals(self) -> None:
        """Let the event loop send answers and read requests that have arrived, before the next batch.

        Two turns of the event loop turn bytes in a socket into a call. As long as two turns bring calls, more
        may follow.
        """
        self._looking = True
        try:
            for _ in range(_MOST_YIELDS):
                submitted = self._submitted
                await _next_turn()
                await _next_turn()
                if self._submitted == submitted:
                    return
        finally:
            self._looking = False

    async def _run(self, batch: list[Slice]) -> None:
        if not batch:  # those who waited are gone
            return
        started_at = self._clock()
        rows = sum([part.rows for part in batch])
        try:
            inputs = _joined(batch)
            if self._runs_inline(rows, batch[0].call.cost_per_row):
                outputs = self._compute(inputs)
            else:
                outputs = await self._computed_in_thread(inputs)
            for array in outputs:
                if len(array) != rows:
                    raise EngineFailed(f"{rows} rows went in and {len(array)} came out")  # noqa: TRY301
        except Exception as error:
            if self._observer is not None:
                self._observer.failed()
            if isinstance(error, RuntimeFailed | OutOfMemory):
                self._failures += 1
            await self._run_apart(batch, error)
            return
        self._failures = 0
        seconds = self._clock() - started_at
        self._rate.record(rows, seconds)
        if self._observer is not None:
            self._observer.computed(rows, seconds)
        first = 0
        for part in batch:
            part.call.timing.add_batch(seconds, part.rows / rows)
            last = first + part.rows
            mine = outputs if part.rows == rows else tuple([array[first:last] for array in outputs])
            self.waiting_rows -= part.call.complete(part.start, mine)
            first = last

    async def _run_apart(self, batch: list[Slice], error: Exception) -> None:
        """Run each call of a failed batch alone, so that only the culprit fails."""
        if len(batch) > 1:
            log.warning(
                "%s: a batch of %d calls failed (%s); running each alone", self._name, len(batch), error
            )
            for part in batch:
                await self._run([part])
            return
        log.error("%s: the computation failed", self._name, exc_info=error)
        batch[0].call.fail(failure_of_rows(error))

    async def _computed_in_thread(self, inputs: Arrays) -> Arrays:
        running = asyncio.get_running_loop().run_in_executor(self._threads, self._compute, inputs)
        if self._calls_wait() and not self._looking:
            self._wake_lane()
        return await running

    def _fail_all(self, error: Exception) -> None:
        for call in tuple(self._open_calls):
            call.fail(error)
        self._queues.clear()


@types.coroutine
def _next_turn() -> Generator[None, None, None]:
    """Let the event loop run until its next turn; `asyncio.sleep(0)` makes a coroutine more for this."""
    yield


def failure_of_rows(error: Exception) -> EngineFailed | OutOfMemory:
    """Return the error that the caller gets whose rows could not be computed, even alone."""
    if isinstance(error, OutOfMemory):
        return OutOfMemory("there was no memory to compute these rows; try again")
    return EngineFailed("the model could not compute these rows; the service's log has the cause")


def _joined(batch: Sequence[Slice]) -> Arrays:
    if len(batch) == 1:
        return tuple([np.ascontiguousarray(array) for array in batch[0].inputs])
    return tuple(np.concatenate(arrays) for arrays in zip(*[part.inputs for part in batch], strict=True))
