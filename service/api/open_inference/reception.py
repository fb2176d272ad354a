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

    Where all are taken, the calls that came last have their turn first, and the message that has had its
    place for the longest is given up once it took `patience_seconds`: calls that never send one, however
    many, then keep nobody out for long.
    """

    def __init__(self, places: int, patience_seconds: float = PATIENCE_SECONDS) -> None:
        self._places = places
        self._patience_seconds = patience_seconds
        self._arriving: dict[asyncio.Timeout, float] = {}
        """The limit of each message that arrives, and since when; the oldest first."""
        self._waiting: list[asyncio.Future[None]] = []

    @contextlib.asynccontextmanager
    async def place(self) -> AsyncIterator[None]:
        """Wait for a place, and have it while the block runs. Raises Busy if another needs it."""
        loop = asyncio.get_running_loop()
        while len(self._arriving) >= self._places:
            turn = loop.create_future()
            self._waiting.append(turn)
            timer = loop.call_at(min(self._arriving.values()) + self._patience_seconds, self._give_one_up)
            try:
                await turn
            except asyncio.CancelledError:
                self._call_the_next()  # in its place
                raise
            finally:
                timer.cancel()
                self._waiting.remove(turn)
        limit = asyncio.timeout(None)
        try:
            async with limit:
                self._arriving[limit] = loop.time()
                yield
        except TimeoutError as error:
            raise Busy("the message took too long to arrive while others waited; try again") from error
        finally:
            self._arriving.pop(limit, None)
            self._call_the_next()

    def _give_one_up(self) -> None:
        """End the oldest message for the sake of those that wait."""
        now = asyncio.get_running_loop().time()
        for limit, since in list(self._arriving.items())[:1]:
            if now >= since + self._patience_seconds:
                limit.reschedule(now)
                del self._arriving[limit]
        self._call_the_next()

    def _call_the_next(self) -> None:
        for turn in reversed(self._waiting):
            if not turn.done():
                turn.set_result(None)
                return
