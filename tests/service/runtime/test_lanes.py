"""A batch that does not end, and the lane that it keeps."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from threading import Event

import pytest

from service.observe.metrics import Metrics
from service.runtime.batcher import Batcher
from service.runtime.lanes import Lanes
from service.runtime.queue import BatchLimits
from tests.service.conftest import Clock
from tests.service.runtime.doubling import Doubling, rows, submit

pytestmark = pytest.mark.anyio

METRIC = "pushforward_oldest_batch_seconds"


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


@pytest.fixture
def lanes(clock: Clock, metrics: Metrics) -> Iterator[Lanes]:
    gauge = metrics.oldest_batch_seconds
    with Lanes(2, stuck_seconds=60, gauge=gauge, clock=clock) as made:
        yield made


@pytest.fixture
def batcher(lanes: Lanes, doubling: Doubling) -> Batcher:
    return Batcher(doubling, BatchLimits(max_batch_cost=8), threads=lanes.named("toy-vae/1 decode"))


async def test_a_batch_that_does_not_end_is_told_until_it_does_also_after_its_batcher_was_stopped(
    lanes: Lanes,
    clock: Clock,
    metrics: Metrics,
    batcher: Batcher,
    doubling: Doubling,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def told() -> tuple[str, float | None]:
        lanes.flush()
        return lanes.flaw, metrics.registry.get_sample_value(METRIC)

    states = [told()]
    batcher.start()
    doubling.gate.clear()
    call = submit(batcher, rows(1))
    await doubling.wait_until_begun()
    clock.now = 60.0
    states.append(told())
    clock.now = 75.0
    states += told(), told()
    call.cancel()
    await batcher.stop()
    states.append(told())
    doubling.gate.set()
    await asyncio.to_thread(lanes.shutdown)
    states.append(told())
    stuck = "a batch of toy-vae/1 decode has taken 75 s", 75
    assert states == [("", 0), ("", 60), stuck, stuck, stuck, ("", 0)]
    assert caplog.text.count("and keeps one of 2 lanes") == 1
    assert "the batch of toy-vae/1 decode has ended after 75 s" in caplog.text


def test_the_time_in_which_a_batch_waits_for_a_lane_does_not_count(clock: Clock) -> None:
    first, second, begun = Event(), Event(), Event()

    def compute() -> bool:
        begun.set()
        return second.wait(20)

    with Lanes(1, stuck_seconds=60, clock=clock) as lanes:
        calls = [lanes.named("first").submit(first.wait, 20), lanes.named("second").submit(compute)]
        clock.now = 61.0
        first.set()
        assert begun.wait(20)
        assert lanes.flaw == ""
        second.set()
        assert all(call.result(20) for call in calls)
