"""Whose rows are computed next: large calls and small ones, two models, draws that cost."""

import asyncio

import numpy as np
import pytest

from service.numerics.noise import Arrays
from service.observe.timing import Timing
from service.runtime.batcher import Batcher
from service.runtime.queue import BatchLimits, QueuedCall
from tests.service.runtime.doubling import Doubling, rows, settle, submit

pytestmark = pytest.mark.anyio


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
    batcher = Batcher(doubling, BatchLimits(max_batch_cost=8, max_waiting_rows=10_000))
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
    batcher = Batcher(doubling, BatchLimits(max_batch_cost=64, short_cost=32, quick_cost=8))
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
    queue = BatchLimits(max_batch_cost=64, short_cost=64, quick_cost=quick).queue(cost)
    loop = asyncio.get_running_loop()

    def call(count: int) -> QueuedCall:
        return QueuedCall(rows(*range(count)), cost, loop.create_future(), Timing(), 0.0, count, count)

    long = call(40)
    queue.add(long)
    for _ in range(40):
        queue.add(call(1))
        assert queue.take(100)
    assert long.next_row == long.rows


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

    made = Batcher(compute, BatchLimits())
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

        return Batcher(compute, BatchLimits(max_batch_cost=4, max_waiting_rows=10_000))

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
    batcher = Batcher(Doubling(), BatchLimits(max_batch_cost=8, max_waiting_rows=10_000))
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
