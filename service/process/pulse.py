"""The pulse of a replica: a count that grows while its event loop runs, and a mark while it is not healthy.

The supervisor looks at both.
"""

from __future__ import annotations

import asyncio
import mmap
from collections.abc import Callable
from typing import Final

_BEATS: Final = 10
"""Beats, and looks at them, in the time for which a replica may stand still or fail."""


class Pulse:
    """A count and a mark in memory that a process shares with its forks; make one before each fork.

    A replica that stands still for `longest_seconds` is silent: it was stopped, or its event loop hangs. One
    whose beats say for as long that it is not healthy is failing. Only time counts in which the supervisor
    itself has run, so that neither a machine that was suspended or very busy, nor a group of processes that
    was stopped as a whole, makes a replica look silent. Before the first beat, none is missed.
    """

    def __init__(self, longest_seconds: float) -> None:
        self.interval_seconds = longest_seconds / _BEATS
        """Longest time between two looks."""
        memory = memoryview(mmap.mmap(-1, 16)).cast("Q")
        self._count, self._mark = memory[:1], memory[1:]
        self._seen = 0
        self._missed = _Lasting(self.interval_seconds, longest_seconds)
        self._failed = _Lasting(self.interval_seconds, longest_seconds)

    def beat(self, loop: asyncio.AbstractEventLoop, is_healthy: Callable[[], bool]) -> None:
        """Raise the count and set the mark, now and at each interval while the event loop runs.

        Called in the replica.
        """
        self._mark[0] = not is_healthy()
        self._count[0] += 1
        loop.call_later(self.interval_seconds, self.beat, loop, is_healthy)

    def is_silent(self, now: float) -> bool:
        """Look at the count at a monotonic time `now`; return True once it has stood still for too long."""
        count, before = self._count[0], self._seen
        self._seen = count
        return self._missed.is_too_long(now, goes_on=count == before > 0)

    def is_failing(self, now: float) -> bool:
        """Look at the mark at a monotonic time `now`; return True once it has been set for too long."""
        return self._failed.is_too_long(now, goes_on=bool(self._mark[0]))


class _Lasting:
    """The time for which something goes on, by looks at it; between two, at most an interval counts."""

    def __init__(self, interval_seconds: float, longest_seconds: float) -> None:
        self._interval_seconds = interval_seconds
        self._longest_seconds = longest_seconds
        self._looked_at = 0.0
        self._lasted_seconds = 0.0

    def is_too_long(self, now: float, *, goes_on: bool) -> bool:
        passed = min(now - self._looked_at, self._interval_seconds)
        self._lasted_seconds = self._lasted_seconds + passed if goes_on else 0.0
        self._looked_at = now
        return self._lasted_seconds > self._longest_seconds
