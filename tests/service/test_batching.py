"""The batcher's promises. Its computation is held by gates, so that no test waits for a clock."""

import asyncio
import threading
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from service.batching import Batcher
from service.errors import Draining, EngineFailed, Overloaded
from service.turns import Arrays, Limits, Timing, Waiter

pytestmark = pytest.mark.anyio


class Doubling:
    """Doubles rows; remembers its batches, waits at a gate, and fails on negative numbers."""

    def __init__(self) -> None:
        self.batches: list[int] = []
        self.begun = threading.Semaphore(0)
        self.gate = threading.Event()
        self.gate.set()

    def __call__(self, inputs: Arrays) -> Arrays:
        self.begun.release()
        assert self.gate.wait(20)
        (rows,) = inputs
        self.batches.append(len(rows))
        if (rows < 0).any():
            raise ValueError("negative")
        return (rows * 2,)

    async def wait_until_begun(self) -> None:
        assert await asyncio.to_thread(self.begun.acquire, timeout=20)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def doubling() -> Doubling:
    return Doubling()


@pytest.fixture
async def batcher(doubling: Doubling) -> AsyncIterator[Batcher]:
    with ThreadPoolExecutor(1) as threads:
        made = Batcher(doubling, Limits(max_batch_cost=8, max_waiting_rows=100), threads=threads)
        made.start()
        yield made
        doubling.gate.set()
        await made.stop()


def rows(*values: float) -> Arrays:
    return (np.array(values, dtype=np.float32),)


def submit(batcher: Batcher, values: Arrays, cost: int = 1) -> "asyncio.Task[Arrays]":
    return asyncio.ensure_future(batcher.submit(values, cost_per_row=cost))


async def settle() -> None:
    """Lets every task that can run do so."""
    for _ in range(10):
        await asyncio.sleep(0)


async def test_random_calls_each_get_their_own_rows_in_order() -> None:
    random = np.random.default_rng(0)
    with ThreadPoolExecutor(3) as threads:
        limits = Limits(max_batch_cost=16, inline_cost=4)
        batcher = Batcher(lambda arrays: (arrays[0] * 2,), limits, lanes=3, threads=threads)
        batcher.start()
        calls = [random.normal(size=(int(random.integers(1, 60)), 3)) for _ in range(120)]
        answers = await asyncio.gather(*(batcher.submit((call,)) for call in calls))
        await batcher.stop()
    for call, (answer,) in zip(calls, answers, strict=True):
        np.testing.assert_array_equal(answer, call * 2)
    assert batcher.waiting_rows == 0


async def test_a_batch_is_what_has_arrived_when_the_lane_is_free(
    batcher: Batcher, doubling: Doubling
) -> None:
    doubling.gate.clear()
    first = submit(batcher, rows(1))
    await doubling.wait_until_begun()
    others = [submit(batcher, rows(value)) for value in range(2, 7)]
    await settle()
    doubling.gate.set()
    await asyncio.gather(first, *others)
    assert doubling.batches == [1, 5]


async def test_a_lone_call_does_not_wait_for_company(batcher: Batcher, doubling: Doubling) -> None:
    (answer,) = await batcher.submit(rows(4))
    assert answer.tolist() == [8]
    assert doubling.batches == [1]


async def test_rows_of_different_shapes_never_share_a_batch(batcher: Batcher, doubling: Doubling) -> None:
    doubling.gate.clear()
    blocker = submit(batcher, rows(0))
    await doubling.wait_until_begun()
    narrow = submit(batcher, (np.ones((2, 3)),))
    wide = submit(batcher, (np.ones((2, 5)),))
    await settle()
    doubling.gate.set()
    await blocker
    assert (await narrow)[0].shape == (2, 3)
    assert (await wide)[0].shape == (2, 5)
    assert doubling.batches == [1, 2, 2]


async def test_a_failing_call_harms_no_batch_mate(batcher: Batcher, doubling: Doubling) -> None:
    doubling.gate.clear()
    blocker = submit(batcher, rows(0))
    await doubling.wait_until_begun()
    good, bad, fine = submit(batcher, rows(1, 2)), submit(batcher, rows(-1)), submit(batcher, rows(3))
    await settle()
    doubling.gate.set()
    await blocker
    assert (await good)[0].tolist() == [2, 4]
    assert (await fine)[0].tolist() == [6]
    with pytest.raises(EngineFailed):
        await bad
    assert doubling.batches[1] == 4  # they did share a batch


@pytest.mark.parametrize("in_flight", [True, False])
async def test_a_cancelled_call_harms_no_batch_mate(
    batcher: Batcher, doubling: Doubling, in_flight: bool
) -> None:
    doubling.gate.clear()
    blocker = submit(batcher, rows(0))
    await doubling.wait_until_begun()
    gone, stays = submit(batcher, rows(1, 1)), submit(batcher, rows(5))
    await settle()
    if in_flight:
        doubling.gate.set()
        await blocker
        doubling.gate.clear()
    gone.cancel()
    await settle()
    doubling.gate.set()
    assert (await stays)[0].tolist() == [10]
    with pytest.raises(asyncio.CancelledError):
        await gone
    assert batcher.waiting_rows == 0


async def test_a_cancelled_call_that_waits_is_never_computed(batcher: Batcher, doubling: Doubling) -> None:
    doubling.gate.clear()
    blocker = submit(batcher, rows(0))
    await doubling.wait_until_begun()
    gone = submit(batcher, rows(1, 1, 1))
    await settle()
    gone.cancel()
    await settle()
    assert batcher.waiting_rows == 1  # the blocker's
    doubling.gate.set()
    await blocker
    await batcher.submit(rows(2))
    assert sum(doubling.batches) == 2


async def test_a_large_call_is_sliced_and_does_not_starve_a_small_one(
    batcher: Batcher, doubling: Doubling
) -> None:
    doubling.gate.clear()
    large = submit(batcher, (np.arange(90, dtype=np.float32),))
    await doubling.wait_until_begun()
    small = submit(batcher, rows(7))
    await settle()
    doubling.gate.set()
    await small
    assert len(doubling.batches) <= 3
    assert max(doubling.batches) <= 8
    (answer,) = await large
    assert answer.tolist() == [2.0 * value for value in range(90)]


async def test_small_calls_do_not_starve_a_large_one() -> None:
    """However many small calls wait, half of each batch is the large one's."""
    doubling = Doubling()
    batcher = Batcher(doubling, Limits(max_batch_cost=8, max_waiting_rows=10_000))
    large = submit(batcher, (np.zeros(40, np.float32),))
    smalls = [submit(batcher, rows(1)) for _ in range(400)]
    await settle()
    batcher.start()
    await large
    assert sum(task.done() for task in smalls) <= 60
    await asyncio.gather(*smalls)
    await batcher.stop()


async def test_long_calls_are_cut_smaller_while_short_ones_come() -> None:
    doubling = Doubling()
    batcher = Batcher(doubling, Limits(max_batch_cost=64, short_cost=32, quick_cost=8))
    long = submit(batcher, (np.zeros(320, np.float32),))
    shorts = [submit(batcher, rows(1)) for _ in range(8)]
    await settle()
    batcher.start()
    await asyncio.gather(*shorts)
    assert set(doubling.batches) == {8}  # half of each is the long call's
    await long
    assert doubling.batches[-2] == 64  # once no short call has come for a while
    assert sum(doubling.batches) == 328
    await asyncio.gather(*(batcher.submit(rows(1)) for _ in range(40)))
    assert doubling.batches[-2:] == [32, 8]
    await batcher.stop()


@pytest.mark.parametrize(("cost", "quick"), [(16, 1), (16, 20), (1, 1), (4, 8)])
async def test_a_stream_of_short_calls_starves_no_long_one_however_few_rows_a_batch_has(
    cost: int, quick: int
) -> None:
    """Draws cost, so a batch while short calls come may hold a single row."""
    line = Limits(max_batch_cost=64, short_cost=64, quick_cost=quick).line(cost)
    loop = asyncio.get_running_loop()

    def call(count: int) -> Waiter:
        return Waiter(rows(*range(count)), cost, loop.create_future(), Timing(), 0.0, count, count)

    long = call(40)
    line.add(long)
    for _ in range(40):
        line.add(call(1))
        assert line.take(100)
    assert not long.untaken_rows


async def test_what_the_next_turns_of_the_loop_bring_shares_the_next_batch() -> None:
    """A request that lies in a socket when a batch ends is read in one turn and submitted in another."""

    batches: list[int] = []
    coming: list[asyncio.Task[Arrays]] = []

    async def come(turns: int) -> Arrays:
        for _ in range(turns):
            await asyncio.sleep(0)
        return await made.submit(rows(turns))

    def compute(inputs: Arrays) -> Arrays:
        if not batches:
            coming.extend(asyncio.ensure_future(come(turns)) for turns in range(6))
        batches.append(len(inputs[0]))
        return inputs

    made = Batcher(compute, Limits())
    made.start()
    await made.submit(rows(1))
    await asyncio.gather(*coming)
    assert batches == [1, 6]
    await made.stop()


async def test_two_models_under_load_take_turns() -> None:
    """Neither model waits for more than a batch of the other's at a time."""
    order: list[str] = []

    def batcher_of(name: str) -> Batcher:
        def compute(inputs: Arrays) -> Arrays:
            order.append(name)
            return inputs

        return Batcher(compute, Limits(max_batch_cost=4, max_waiting_rows=10_000))

    one, other = batcher_of("one"), batcher_of("other")
    calls = [submit(one, rows(1)) for _ in range(400)] + [submit(other, rows(1)) for _ in range(40)]
    await settle()
    one.start()
    other.start()
    await asyncio.gather(*calls)
    while_both_wait = order[: 2 * order.count("other")]
    assert while_both_wait.count("other") == pytest.approx(order.count("other"), abs=1)
    await one.stop()
    await other.stop()


async def test_two_large_calls_take_turns() -> None:
    batcher = Batcher(Doubling(), Limits(max_batch_cost=8, max_waiting_rows=10_000))
    long, short = submit(batcher, (np.zeros(800),)), submit(batcher, (np.zeros(24),))
    await settle()
    batcher.start()
    await short
    assert not long.done()
    await long
    await batcher.stop()


async def test_a_row_costs_its_draws(batcher: Batcher, doubling: Doubling) -> None:
    await batcher.submit((np.ones((6, 4)),), cost_per_row=4)
    assert doubling.batches == [2, 2, 2]


async def test_a_row_that_costs_more_than_a_batch_is_computed_alone(
    batcher: Batcher, doubling: Doubling
) -> None:
    await batcher.submit(rows(1, 2), cost_per_row=50)
    assert doubling.batches == [1, 1]


async def test_a_full_queue_refuses_at_once_and_queues_nothing(batcher: Batcher, doubling: Doubling) -> None:
    doubling.gate.clear()
    waiting = submit(batcher, (np.zeros(99, np.float32),))
    await doubling.wait_until_begun()
    with pytest.raises(Overloaded, match="limit of 100"):
        await batcher.submit(rows(1, 2))
    doubling.gate.set()
    await waiting
    assert batcher.waiting_rows == 0
    assert (await batcher.submit(rows(1, 2)))[0].tolist() == [2, 4]


async def test_a_full_queue_says_when_there_will_be_room_by_the_pace_of_its_batches() -> None:
    now = [0.0]

    def compute(inputs: Arrays) -> Arrays:
        now[0] += 0.5 * len(inputs[0])  # half a second a row
        return inputs

    limits = Limits(max_batch_cost=4, max_waiting_rows=100)
    batcher = Batcher(compute, limits, clock=lambda: now[0])
    waiting = submit(batcher, (np.zeros(90, np.float32),))
    await settle()
    with pytest.raises(Overloaded) as refused:
        await batcher.submit((np.zeros(40, np.float32),))
    assert refused.value.retry_after_seconds == 1  # nothing is known yet
    batcher.start()
    await waiting
    blocked = submit(batcher, (np.zeros(90, np.float32),))
    await asyncio.sleep(0)
    with pytest.raises(Overloaded) as refused:
        await batcher.submit((np.zeros(39, np.float32),))
    assert refused.value.retry_after_seconds == 15  # 29 rows too many
    await blocked
    await batcher.stop()


async def test_rows_that_come_back_in_another_number_fail_the_call() -> None:
    batcher = Batcher(lambda arrays: (arrays[0][:-1],), Limits())
    batcher.start()
    with pytest.raises(EngineFailed):
        await batcher.submit(rows(1, 2, 3))
    await batcher.stop()


async def test_stopping_fails_those_who_wait_and_refuses_those_who_come(
    batcher: Batcher, doubling: Doubling
) -> None:
    doubling.gate.clear()
    computing = submit(batcher, rows(1))
    await doubling.wait_until_begun()
    waiting = submit(batcher, rows(2))
    await settle()
    stopping = asyncio.ensure_future(batcher.stop())
    for call in (computing, waiting):
        with pytest.raises(Draining):
            await call
    doubling.gate.set()
    await stopping
    with pytest.raises(Draining):
        await batcher.submit(rows(3))


class LaneKilled(BaseException):
    """Not an Exception: kills the lane itself."""


@pytest.mark.parametrize(("seconds_between", "healthy"), [(59.0, False), (61.0, True)])
async def test_a_dying_lane_fails_its_waiters_restarts_and_is_unhealthy_on_a_relapse(
    seconds_between: float, healthy: bool
) -> None:
    now = 0.0

    def compute(inputs: Arrays) -> Arrays:
        if (inputs[0] < 0).any():
            raise LaneKilled
        return inputs

    batcher = Batcher(compute, Limits(), clock=lambda: now)
    batcher.start()
    with pytest.raises(EngineFailed):
        await batcher.submit(rows(-1))
    assert batcher.healthy
    assert (await batcher.submit(rows(3)))[0].tolist() == [3]
    now += seconds_between
    with pytest.raises(EngineFailed):
        await batcher.submit(rows(-1))
    assert (await batcher.submit(rows(4)))[0].tolist() == [4]
    assert batcher.healthy is healthy
    await batcher.stop()


async def test_timing_tells_queue_from_compute(batcher: Batcher, doubling: Doubling) -> None:
    timing = Timing()
    doubling.gate.clear()
    call = asyncio.ensure_future(batcher.submit(rows(1), timing))
    await doubling.wait_until_begun()
    assert timing.compute_seconds == 0
    doubling.gate.set()
    await call
    assert timing.queue_seconds > 0
    assert timing.compute_seconds > 0
