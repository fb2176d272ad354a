"""Ends what a request waits for once its time is up or its client has gone."""

from __future__ import annotations

import asyncio
from typing import Final

from starlette.types import Receive

from service.errors import DeadlineExceeded

_PATIENCE_SECONDS: Final = 0.05
"""Requests that take longer are watched for a client that goes away."""
_LOOK_SECONDS: Final = 0.01
"""How often the watched requests are looked through, and so by how much a deadline may be late."""


class ClientGone(Exception):
    """The client closed its connection before its answer was ready."""


class Watchman:
    """Looks through the watched requests every so often; most end before, and have cost no timer."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self._watches: set[Watch] = set()
        self._looks = False

    def add(self, watch: Watch) -> None:
        """Has the watch begin when it is due."""
        self._watches.add(watch)
        if not self._looks:
            self._looks = True
            self.loop.call_later(_LOOK_SECONDS, self._look)

    def discard(self, watch: Watch) -> None:
        """Forgets the watch, if it is still there."""
        self._watches.discard(watch)

    def _look(self) -> None:
        now = self.loop.time()
        for watch in [watch for watch in self._watches if watch.due_at <= now]:
            self._watches.discard(watch)
            watch.begin()
        self._looks = bool(self._watches)
        if self._looks:
            self.loop.call_later(_LOOK_SECONDS, self._look)


class Watch:
    """Cancels a block of a task when its time is up or, once it listens, when its client goes.

    A block that receives messages itself must not have it listen meanwhile. Listening begins after a moment's
    patience. What the block raises when it is cancelled so is DeadlineExceeded or ClientGone.

    Args:
        watchman: Who begins it.
        receive: Where the client is heard to go.
        seconds: How long the block may take; None for as long as it likes.
        arrival_seconds: How long it may take until it listens; None if it listens from the start.
    """

    __slots__ = (
        "_arrival_seconds", "_listening", "_reason", "_receive", "_seconds", "_started_at", "_task",
        "_watchman", "due_at",
    )  # fmt: skip

    def __init__(
        self,
        watchman: Watchman,
        receive: Receive,
        seconds: float | None,
        arrival_seconds: float | None = None,
    ) -> None:
        self._watchman = watchman
        self._receive = receive
        self._seconds = seconds
        self._arrival_seconds = arrival_seconds
        self._listening: asyncio.Task[None] | None = None
        self._reason: Exception | None = None

    def __enter__(self) -> Watch:
        loop, first = self._watchman.loop, self._arrival_seconds
        if first is None:
            first = self._seconds
        self._started_at = loop.time()
        self.due_at = self._started_at + (
            _PATIENCE_SECONDS if first is None else min(first, _PATIENCE_SECONDS)
        )
        task = asyncio.current_task(loop)
        assert task is not None, "requests are served in tasks"
        self._task = task
        self._watchman.add(self)
        return self

    def __exit__(self, kind: type[BaseException] | None, _error: object, _trace: object) -> None:
        self._watchman.discard(self)
        if self._listening is not None:
            self._listening.cancel()
            self._listening = None
        if kind is asyncio.CancelledError and self._reason and not self._task.uncancel():
            raise self._given_reason() from None

    def _given_reason(self) -> Exception:
        """Why it was cancelled; forgotten here.

        What is raised keeps the frames it goes through, and so this watch and all that its request holds. If
        the watch kept it in turn, megabytes would wait in a cycle until the collector looks.
        """
        reason, self._reason = self._reason, None
        assert reason is not None
        return reason

    def listen(self, seconds: float | None = None) -> None:
        """What the block receives has all come: from now on it waits for nothing but its own work.

        `seconds` may shorten the time that it may take, from its beginning.
        """
        self._arrival_seconds = None
        if seconds is not None and (self._seconds is None or seconds < self._seconds):
            self._seconds = seconds
            self.due_at = min(self.due_at, self._started_at + seconds)

    def begin(self) -> None:
        """The moment it is due: listens, or, if it may not yet, waits for what arrives until that is late."""
        now = self._watchman.loop.time()
        if self._arrival_seconds is None:
            left = None if self._seconds is None else self._seconds - (now - self._started_at)
            self._listening = self._watchman.loop.create_task(self._listen(left))
        elif now < self._started_at + self._arrival_seconds:
            self.due_at = now  # looked at again and again, since it may listen at any moment
            self._watchman.add(self)
        else:
            self._end(DeadlineExceeded("the request did not arrive in time"))

    async def _listen(self, seconds: float | None) -> None:
        try:
            async with asyncio.timeout(seconds):
                while (await self._receive())["type"] != "http.disconnect":
                    pass
            self._end(ClientGone())
        except TimeoutError:
            self._end(DeadlineExceeded("the answer was not ready in time"))

    def _end(self, reason: Exception) -> None:
        self._reason = reason
        self._task.cancel()
