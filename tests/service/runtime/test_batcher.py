"""The batcher's promises, but for those on turns. Its computation is held by gates, not by clocks."""

import asyncio
from collections import deque
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from service.errors import Draining, EngineFailed, OutOfMemory, Overloaded, RuntimeFailed
from service.numerics.noise import Arrays
from service.observe.metrics import Metrics
from service.observe.timing import Timing
from service.runtime.batcher import Batcher
from service.runtime.queue import BatchLimits
from tests.service.runtime.doubling import Doubling, rows, settle, submit

pytestmark = pytest.mark.anyio


async def test_random_calls_each_get_their_own_rows_in_order() -> None:
    random = np.random.default_rng(0)
    with ThreadPoolExecutor(3) as threads:
        limits = BatchLimits(max_batch_cost=16, inline_cost=4)
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


@pytest.mark.parametrize(
    ("other", "cost"), [(np.ones((2, 5)), 1), (np.ones((2, 3), np.float32), 1), (np.ones((2, 3)), 2)]
)
async def test_rows_of_different_shapes_dtypes_or_costs_never_share_a_batch(
    batcher: Batcher, doubling: Doubling, other: np.ndarray, cost: int
) -> None:
    doubling.gate.clear()
    blocker = submit(batcher, rows(0))
    await doubling.wait_until_begun()
    calls = [submit(batcher, (np.ones((2, 3)),)), submit(batcher, (other,), cost)]
    await settle()
    doubling.gate.set()
    await blocker
    answers = [answer for (answer,) in await asyncio.gather(*calls)]
    assert [(answer.shape, answer.dtype) for answer in answers] == [
        ((2, 3), np.float64), (other.shape, other.dtype),
    ]  # fmt: skip
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


async def test_a_call_that_is_cancelled_while_it_would_run_the_batch_leaves_the_others_to_a_lane(
    doubling: Doubling,
) -> None:
    batcher = Batcher(doubling, BatchLimits())
    batcher.start()
    await settle()
    first = submit(batcher, rows(1))
    await asyncio.sleep(0)
    others = [submit(batcher, rows(2)), submit(batcher, rows(3))]
    await asyncio.sleep(0)
    first.cancel()
    assert [answer.tolist() for (answer,) in await asyncio.gather(*others)] == [[4], [6]]
    assert doubling.batches == [2]
    assert batcher.waiting_rows == 0
    await batcher.stop()


async def test_the_calls_of_a_full_batch_and_those_it_has_no_room_for_are_all_answered(
    doubling: Doubling,
) -> None:
    """The task of the first call runs the batch, and a lane the rest; rows of two shapes are two batches."""
    batcher = Batcher(doubling, BatchLimits(max_batch_cost=8), lanes=2)
    batcher.start()
    await settle()
    for shape in ((3,), (5,)):
        calls = [submit(batcher, (np.full((3, *shape), value),)) for value in range(5)]
        other = submit(batcher, rows(7))
        answers = [answer for (answer,) in await asyncio.gather(*calls)]
        assert [answer[0, 0] for answer in answers] == [0, 2, 4, 6, 8]
        assert (await other)[0].tolist() == [14]
    assert max(doubling.batches) <= 8
    await batcher.stop()


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


async def test_a_part_of_an_answer_that_has_begun_waits_in_a_full_queue(
    batcher: Batcher, doubling: Doubling
) -> None:
    doubling.gate.clear()
    waiting = submit(batcher, (np.zeros(99, np.float32),))
    await doubling.wait_until_begun()
    part = asyncio.ensure_future(batcher.submit(rows(1, 2), admitted=True))
    await settle()
    doubling.gate.set()
    assert (await part)[0].tolist() == [2, 4]
    await waiting


@pytest.mark.parametrize(("cores", "seconds"), [(1, 15), (2, 8)])
async def test_a_full_queue_says_when_there_will_be_room_by_the_pace_of_its_batches(
    cores: int, seconds: int
) -> None:
    now = [0.0]

    def compute(inputs: Arrays) -> Arrays:
        now[0] += 0.5 * len(inputs[0])  # half a second a row
        return inputs

    limits = BatchLimits(max_batch_cost=4, max_waiting_rows=100)
    batcher = Batcher(compute, limits, cores=cores, clock=lambda: now[0])
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
    assert refused.value.retry_after_seconds == seconds  # 29 rows too many
    await blocked
    await batcher.stop()


async def test_rows_that_come_back_in_another_number_fail_the_call() -> None:
    batcher = Batcher(lambda arrays: (arrays[0][:-1],), BatchLimits())
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
    """An error that is no Exception, and so kills the lane itself."""


@pytest.mark.parametrize(("seconds_between", "healthy"), [(59.0, False), (61.0, True)])
async def test_a_dying_lane_fails_its_waiters_restarts_and_is_unhealthy_on_a_relapse(
    seconds_between: float, healthy: bool
) -> None:
    now = 0.0

    def compute(inputs: Arrays) -> Arrays:
        if (inputs[0] < 0).any():
            raise LaneKilled
        return inputs

    batcher = Batcher(compute, BatchLimits(), clock=lambda: now)
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


async def test_the_gauges_of_a_stage_add_up_what_waits_and_may_wait_for_its_running_batchers() -> None:
    metrics, labels = Metrics(), {"model": "toy", "stage": "decode"}

    def gauges() -> list[float | None]:
        metrics.flush()
        names = "pushforward_queue_items", "pushforward_queue_capacity_items"
        return [metrics.registry.get_sample_value(name, labels) for name in names]

    observer = metrics.stage_observer("toy", "decode", "cpu")
    batchers = [
        Batcher(lambda arrays: arrays, BatchLimits(max_waiting_rows=8), observer=observer) for _ in "ab"
    ]
    told = [gauges()]
    for batcher in batchers:
        batcher.start()
    calls = [submit(batcher, rows(*range(3))) for batcher in batchers]
    await asyncio.sleep(0)  # the calls are in their queues
    told.append(gauges())
    await asyncio.gather(*calls)
    told.append(gauges())
    for batcher in batchers:
        await batcher.stop()
        told.append(gauges())
    assert told == [[0, 0], [6, 16], [0, 16], [0, 8], [0, 0]]


async def test_three_failures_of_onnx_runtime_without_a_success_are_told_until_it_succeeds() -> None:
    failures: deque[Exception] = deque()
    metrics = Metrics()

    def compute(arrays: Arrays) -> Arrays:
        if failures:
            raise failures.popleft()
        return arrays

    observer = metrics.stage_observer("toy", "decode", "cpu")
    batcher = Batcher(compute, BatchLimits(max_batch_cost=8), observer=observer)
    batcher.start()
    states = []
    for error in (RuntimeFailed("x"), OutOfMemory("x"), EngineFailed("of the rows"), RuntimeFailed("x")):
        failures.append(error)
        with pytest.raises(OutOfMemory if isinstance(error, OutOfMemory) else EngineFailed):
            await batcher.submit(rows(1))
        states.append(batcher.healthy)
    await batcher.submit(rows(1))
    states.append(batcher.healthy)
    await batcher.stop()
    assert states == [True, True, True, False, True]
    labels = {"model": "toy", "stage": "decode"}
    assert metrics.registry.get_sample_value("pushforward_compute_failures_total", labels) == 4
