"""The ends of a request that waits: each releases everything that the request held."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from service.api.deadline import CancelScope, ClientGone, ScopeSweeper
from service.errors import DeadlineExceeded

pytestmark = pytest.mark.anyio


class Batch:
    """A substitute for the arrays that a request holds while it waits."""


@pytest.fixture
async def no_collector() -> AsyncIterator[None]:
    """Disable the garbage collector: objects that are freed without it were in no cycle."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


async def gone() -> dict[str, Any]:
    return {"type": "http.disconnect"}


async def silent() -> dict[str, Any]:
    await asyncio.Event().wait()
    raise AssertionError("nothing comes")


async def watched(
    receive: Callable[[], Awaitable[Any]], seconds: float, work: Callable[[], Awaitable[None]]
) -> tuple[type[Exception] | None, weakref.ref[Batch]]:
    """Return the error that ended a block of that work, and a reference to what it held."""
    batch = Batch()
    held, sweeper = weakref.ref(batch), ScopeSweeper(asyncio.get_running_loop())
    try:
        with CancelScope(sweeper, receive, seconds) as scope:
            scope.listen()
            await work()
    except (ClientGone, DeadlineExceeded) as error:
        return type(error), held
    finally:
        assert not sweeper.scopes  # it would cancel what the task does next
    return None, held


async def for_ever() -> None:
    await asyncio.get_running_loop().create_future()


async def no_time() -> None:
    pass


async def longer_than_patience() -> None:
    loop = asyncio.get_running_loop()
    due = loop.create_future()
    loop.call_later(0.1, due.set_result, None)
    await due


@pytest.mark.usefixtures("no_collector")
@pytest.mark.parametrize(
    ("receive", "seconds", "work", "ending"),
    [
        (gone, 60.0, for_ever, ClientGone),
        (silent, 0.01, for_ever, DeadlineExceeded),
        (silent, 0.07, for_ever, DeadlineExceeded),
        (silent, 60.0, longer_than_patience, None),
        (silent, 60.0, no_time, None),
    ],
    ids=["its client went", "at once late", "late after it listened", "done", "done at once"],
)
async def test_a_block_ends_as_it_should_and_keeps_nothing_in_a_cycle(
    receive: Callable[[], Awaitable[Any]],
    seconds: float,
    work: Callable[[], Awaitable[None]],
    ending: type[Exception] | None,
) -> None:
    found, held = await watched(receive, seconds, work)
    await asyncio.sleep(0)  # the listener, which was cancelled, ends
    assert (found, held()) == (ending, None)
