"""Cancel scopes: they end the work for a request once its time is up or its client has gone."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any, Final

from starlette.types import Receive

from service.errors import DeadlineExceeded

_PATIENCE_SECONDS: Final = 0.05
"""Only requests that take longer listen for a client that disconnects."""
_SWEEP_SECONDS: Final = 0.01
"""Interval between sweeps, and so the longest that a deadline may be late."""


class ClientGone(Exception):
    """The client closed its connection before its answer was ready."""


class ScopeSweeper:
    """Checks the open cancel scopes periodically; most end before the first sweep and need no timer."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.scopes: set[CancelScope] = set()
        self._sweeping = False

    def add(self, scope: CancelScope) -> None:
        """Wake the scope once it is due."""
        self.scopes.add(scope)
        if not self._sweeping:
            self._sweeping = True
            self.loop.call_later(_SWEEP_SECONDS, self._sweep)

    def _sweep(self) -> None:
        now = self.loop.time()
        for scope in [scope for scope in self.scopes if scope.due_at <= now]:
            self.scopes.discard(scope)
            scope.wake()
        self._sweeping = bool(self.scopes)
        if self._sweeping:
            self.loop.call_later(_SWEEP_SECONDS, self._sweep)


@dataclass(slots=True, eq=False)
class CancelScope:
    """Cancels a block of a task when its time is up or, once it listens, when its client disconnects.

    The cancelled block raises DeadlineExceeded or ClientGone. A block that receives messages itself must not
    listen until it has received the last one. Listening begins only after a short delay.
    """

    sweeper: ScopeSweeper
    """The sweeper that wakes the scope."""
    receive: Receive
    """The ASGI callable that reports the disconnect."""
    seconds: float | None
    """Longest duration of the block; None for no limit."""
    arrival_seconds: float | None = None
    """Longest duration until `listen` is called; None to listen from the start."""
    due_at: float = field(init=False)
    """The time of the loop at which the sweeper wakes the scope."""
    _started_at: float = field(init=False)
    _task: asyncio.Task[Any] = field(init=False)
    _listening: asyncio.Task[None] | None = field(default=None, init=False)
    _reason: Exception | None = field(default=None, init=False)

    def __enter__(self) -> CancelScope:
        loop = self.sweeper.loop
        first = self.seconds if self.arrival_seconds is None else self.arrival_seconds
        patience = _PATIENCE_SECONDS if first is None else min(first, _PATIENCE_SECONDS)
        self._started_at = loop.time()
        self.due_at = self._started_at + patience
        task = asyncio.current_task(loop)
        assert task is not None, "requests are served in tasks"
        self._task = task
        self.sweeper.add(self)
        return self

    def __exit__(self, kind: type[BaseException] | None, _error: object, _trace: object) -> None:
        self.sweeper.scopes.discard(self)
        if self._listening is not None:
            self._listening.cancel()
            self._listening = None
        if kind is asyncio.CancelledError and self._reason and not self._task.uncancel():
            raise self._given_reason() from None

    def _given_reason(self) -> Exception:
        """Return why the block was cancelled, and drop the reference.

        The exception keeps the frames it passes through, and so this scope and all that its request holds. If
        the scope kept the exception, megabytes would stay in a cycle until the garbage collector runs.
        """
        reason, self._reason = self._reason, None
        assert reason is not None
        return reason

    def listen(self, seconds: float | None = None) -> None:
        """Listen for a disconnect from now on: the block has received all that it will receive.

        `seconds`, counted from the start of the block, may shorten its longest duration.
        """
        self.arrival_seconds = None
        if seconds is not None and (self.seconds is None or seconds < self.seconds):
            self.seconds = seconds
            self.due_at = min(self.due_at, self._started_at + seconds)

    def wake(self) -> None:
        """Start to listen, or, while the request still arrives, check whether it is late."""
        now = self.sweeper.loop.time()
        if self.arrival_seconds is None:
            left = None if self.seconds is None else self.seconds - (now - self._started_at)
            self._listening = self.sweeper.loop.create_task(self._listen(left))
        elif now < self._started_at + self.arrival_seconds:
            self.due_at = now  # checked at every sweep, since it may listen at any moment
            self.sweeper.add(self)
        else:
            self._end(DeadlineExceeded("the request did not arrive in time; send less at a time"))

    async def _listen(self, seconds: float | None) -> None:
        try:
            async with asyncio.timeout(seconds):
                while (await self.receive())["type"] != "http.disconnect":
                    pass
            self._end(ClientGone())
        except TimeoutError:
            self._end(DeadlineExceeded("the answer was not ready in time; ask for less"))

    def _end(self, reason: Exception) -> None:
        self._reason = reason
        self._task.cancel()
