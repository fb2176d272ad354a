"""Bounds on the messages that are received at once: gRPC tells a message's size only once it is there."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator
from typing import Final

from service.errors import Busy

PATIENCE_SECONDS: Final = 5.0
"""Time that a message may take to arrive while others wait for its place."""


class Reception:
    """Places for messages that arrive, `places` at once.

    No client has all of them, unless there is but one: whatever one client never sends keeps no other one
    waiting. If all are taken, clients have their turns, first those that came last, and of each client the
    call that came last; and the message that has had its place for the longest is given up once it took
    `patience_seconds`: calls that never send one, however many, then keep nobody out for long.
    """

    def __init__(self, places: int, patience_seconds: float = PATIENCE_SECONDS) -> None:
        self._free = places
        self._most_of_one = max(1, places - 1)
        self._taken: Counter[str] = Counter()
        """The number of places that each client has."""
        self._patience_seconds = patience_seconds
        self._arriving: dict[asyncio.Timeout, tuple[float, str]] = {}
        """The limit of each message that arrives, since when, and whose it is; the oldest first."""
        self._given_up: set[asyncio.Timeout] = set()
        """The limits of messages that still have a place, but not for long."""
        self._waiting: dict[str, list[asyncio.Future[None]]] = {}
        """The turns of the calls that wait in the order in which they came, by client; the next one last."""
        self._timer: asyncio.TimerHandle | None = None

    @contextlib.asynccontextmanager
    async def place(self, client: str) -> AsyncIterator[None]:
        """Wait for a place, and have it while the block runs. Raises Busy if another needs it."""
        loop = asyncio.get_running_loop()
        if self._may_have_one(client):
            self._take(client)
        else:
            await self._turn(client, loop)
        limit = asyncio.timeout(None)
        try:
            async with limit:
                self._arriving[limit] = loop.time(), client
                self._watch(loop)
                yield
        except TimeoutError as error:
            raise Busy("the message took too long to arrive while others waited; try again") from error
        finally:
            self._arriving.pop(limit, None)
            self._given_up.discard(limit)
            self._give_back(client)

    def _may_have_one(self, client: str) -> bool:
        return self._free > 0 and self._taken[client] < self._most_of_one

    def _take(self, client: str) -> None:
        self._free -= 1
        self._taken[client] += 1

    async def _turn(self, client: str, loop: asyncio.AbstractEventLoop) -> None:
        turn = loop.create_future()
        self._waiting.setdefault(client, []).append(turn)
        self._watch(loop)
        try:
            await turn
        except asyncio.CancelledError:
            if not turn.cancelled():  # a place had been handed on to it
                self._give_back(client)
            elif turn in (turns := self._waiting.get(client, [])):
                turns.remove(turn)
                if not turns:
                    del self._waiting[client]
            raise

    def _give_back(self, client: str) -> None:
        """Give a place back, and hand it on to the next call that may have it, if any waits."""
        self._free += 1
        self._taken[client] -= 1
        if not self._taken[client]:
            del self._taken[client]
        for following in reversed(tuple(self._waiting)):
            if self._may_have_one(following) and self._hand_on(following):
                return

    def _hand_on(self, client: str) -> bool:
        """Hand a place on to the last call of a client, which then has its next turn after all others."""
        turns = self._waiting.pop(client)
        while turns:
            turn = turns.pop()
            if not turn.done():
                self._take(client)
                turn.set_result(None)
                if turns:
                    self._waiting = {client: turns, **self._waiting}
                return True
        return False

    def _late(self) -> tuple[asyncio.Timeout, float] | None:
        """Return the oldest message that keeps a call waiting, and since when; None if none does."""
        if sum(map(len, self._waiting.values())) <= len(self._given_up):
            return None
        # while there are free places, those who wait have as many as they may
        return next(
            (
                (limit, since)
                for limit, (since, client) in self._arriving.items()
                if not self._free or self._waiting.get(client)
            ),
            None,
        )

    def _watch(self, loop: asyncio.AbstractEventLoop) -> None:
        """Look again once such a message took too long."""
        if self._timer is None and (late := self._late()) is not None:
            self._timer = loop.call_at(late[1] + self._patience_seconds, self._give_one_up, loop)

    def _give_one_up(self, loop: asyncio.AbstractEventLoop) -> None:
        """End such a message, if it took too long, for the sake of those that wait."""
        self._timer = None
        late = self._late()
        if late is not None and loop.time() >= late[1] + self._patience_seconds:
            limit = late[0]
            del self._arriving[limit]
            self._given_up.add(limit)
            limit.reschedule(loop.time())
        self._watch(loop)
