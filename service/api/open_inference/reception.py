"""Bounds on the messages of gRPC that are received at once: gRPC tells no size before one is there whole."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Final

from service.errors import Busy

PATIENCE_SECONDS: Final = 5.0
"""Time that a message may take to arrive while others wait for its place."""


class Reception:
    """Places for messages that arrive, `places` at once.

    If all are taken, the calls that came last have their turn first, and the message that has had its place
    for the longest is given up once it took `patience_seconds`: calls that never send one, however many, then
    keep nobody out for long.
    """

    def __init__(self, places: int, patience_seconds: float = PATIENCE_SECONDS) -> None:
        self._free = places
        self._patience_seconds = patience_seconds
        self._arriving: dict[asyncio.Timeout, float] = {}
        """The limit of each message that arrives, and since when; the oldest first."""
        self._given_up: set[asyncio.Timeout] = set()
        """The limits of messages that still have a place, but not for long."""
        self._waiting: list[asyncio.Future[None]] = []
        """The turns of the calls that wait, in the order in which they came."""
        self._timer: asyncio.TimerHandle | None = None

    @contextlib.asynccontextmanager
    async def place(self) -> AsyncIterator[None]:
        """Wait for a place, and have it while the block runs. Raises Busy if another needs it."""
        loop = asyncio.get_running_loop()
        if self._free:
            self._free -= 1
        else:
            await self._turn(loop)
        limit = asyncio.timeout(None)
        try:
            async with limit:
                self._arriving[limit] = loop.time()
                self._watch(loop)
                yield
        except TimeoutError as error:
            raise Busy("the message took too long to arrive while others waited; try again") from error
        finally:
            self._arriving.pop(limit, None)
            self._given_up.discard(limit)
            self._hand_on()

    async def _turn(self, loop: asyncio.AbstractEventLoop) -> None:
        turn = loop.create_future()
        self._waiting.append(turn)
        self._watch(loop)
        try:
            await turn
        except asyncio.CancelledError:
            if turn in self._waiting:
                self._waiting.remove(turn)
            elif not turn.cancelled():  # the place had been handed on to it
                self._hand_on()
            raise

    def _hand_on(self) -> None:
        """Hand a place on to the call that came last, if any waits."""
        while self._waiting:
            turn = self._waiting.pop()
            if not turn.done():
                turn.set_result(None)
                return
        self._free += 1

    def _watch(self, loop: asyncio.AbstractEventLoop) -> None:
        """Look again once the oldest message took too long, if more calls wait than will have a place."""
        if self._timer is None and self._arriving and len(self._waiting) > len(self._given_up):
            oldest = next(iter(self._arriving.values()))
            self._timer = loop.call_at(oldest + self._patience_seconds, self._give_one_up, loop)

    def _give_one_up(self, loop: asyncio.AbstractEventLoop) -> None:
        """End the oldest message, if it took too long, for the sake of those that wait."""
        self._timer = None
        if self._arriving and len(self._waiting) > len(self._given_up):
            limit, since = next(iter(self._arriving.items()))
            if loop.time() >= since + self._patience_seconds:
                del self._arriving[limit]
                self._given_up.add(limit)
                limit.reschedule(loop.time())
        self._watch(loop)
