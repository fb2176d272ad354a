"""Messages of gRPC arrive in a bounded number at once, and those that never do keep nobody out for long."""

import asyncio
from contextlib import AsyncExitStack

import pytest

from service.api.open_inference.reception import Reception
from service.errors import Busy

pytestmark = pytest.mark.anyio

FOR_EVER = 3_600.0


async def arrive(
    reception: Reception, name: str, order: list[str], seconds: float = 0.0, client: object = 0
) -> None:
    async with reception.place(str(client)):
        order.append(name)
        await asyncio.sleep(seconds)


async def given_up(*tasks: asyncio.Task[None]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_there_are_no_more_at_once_than_places_and_each_has_its_turn() -> None:
    reception, order, most = Reception(3), list[int](), 0

    async def one(number: int) -> None:
        nonlocal most
        async with reception.place(str(number)):
            order.append(number)
            most = max(most, len(order) - done)
            await asyncio.sleep(0)
        ended()

    done = 0

    def ended() -> None:
        nonlocal done
        done += 1

    await asyncio.gather(*(one(number) for number in range(50)))
    assert sorted(order) == list(range(50))
    assert most == 3


async def test_one_that_never_arrives_is_given_up_once_another_waits_and_the_last_to_come_is_first() -> None:
    reception, order = Reception(2, patience_seconds=0.1), list[str]()
    silent = [
        asyncio.create_task(arrive(reception, "silent", order, FOR_EVER, number)) for number in range(6)
    ]
    await asyncio.sleep(0)
    await asyncio.wait_for(arrive(reception, "message", order, client="last"), 0.5)
    assert order[:3] == ["silent", "silent", "message"]
    with pytest.raises(Busy, match="too long to arrive"):
        await silent[0]
    await given_up(*silent)
    async with AsyncExitStack() as both:
        for client in ("one", "other"):
            await asyncio.wait_for(both.enter_async_context(reception.place(client)), 1)


async def test_a_message_waits_for_one_that_never_arrives_and_not_for_all_of_them() -> None:
    reception, order = Reception(1, patience_seconds=0.05), list[str]()
    silent = [asyncio.create_task(arrive(reception, "silent", order, FOR_EVER)) for _ in range(40)]
    await asyncio.sleep(0)
    for _ in range(5):
        await asyncio.wait_for(arrive(reception, "message", order, 0.01), 1)
    assert order[:10] == ["silent", "message"] * 5
    await given_up(*silent)


async def test_a_client_that_never_sends_a_message_keeps_no_other_one_waiting() -> None:
    reception, order = Reception(3, patience_seconds=FOR_EVER), list[str]()
    silent = [asyncio.create_task(arrive(reception, "silent", order, FOR_EVER, "silent")) for _ in range(40)]
    await asyncio.sleep(0)
    for _ in range(5):
        await asyncio.wait_for(arrive(reception, "message", order, client="other"), 1)
    assert order == ["silent"] * 2 + ["message"] * 5
    await given_up(*silent)


async def test_a_client_has_its_next_turn_after_all_others() -> None:
    reception, order = Reception(1, patience_seconds=FOR_EVER), list[str]()
    calls = [("a", 1), ("a", 2), ("a", 3), ("b", 1), ("b", 2), ("c", 1)]
    async with reception.place("d"):
        waiting = [
            asyncio.create_task(arrive(reception, f"{client}{number}", order, client=client))
            for client, number in calls
        ]
        await asyncio.sleep(0)
    await asyncio.wait_for(asyncio.gather(*waiting), 1)
    assert order == ["c1", "b2", "a3", "b1", "a2", "a1"]


async def test_a_client_whose_calls_wait_for_its_own_gives_up_its_oldest_and_none_of_another() -> None:
    reception, order = Reception(3, patience_seconds=0.05), list[str]()
    other = asyncio.create_task(arrive(reception, "other", order, FOR_EVER, "other"))
    await asyncio.sleep(0)
    silent = [asyncio.create_task(arrive(reception, "silent", order, FOR_EVER)) for _ in range(2)]
    await asyncio.sleep(0)
    await given_up(other)
    steady = asyncio.create_task(arrive(reception, "steady", order, 0.2, "other"))
    await asyncio.wait_for(arrive(reception, "message", order), 1)
    with pytest.raises(Busy, match="too long to arrive"):
        await silent[0]
    await steady
    await given_up(*silent)


async def test_nothing_is_given_up_while_nobody_waits() -> None:
    reception, order = Reception(1, patience_seconds=0.01), list[str]()
    await arrive(reception, "slow", order, 0.1)
    assert order == ["slow"]


async def test_one_that_leaves_while_it_is_called_leaves_its_turn_to_another() -> None:
    reception, order = Reception(1, patience_seconds=FOR_EVER), list[str]()
    async with reception.place("another"):
        waiting = [asyncio.create_task(arrive(reception, str(number), order)) for number in range(2)]
        await asyncio.sleep(0)
    waiting[1].cancel()
    await asyncio.wait_for(waiting[0], 1)
    assert order == ["0"]
