"""The pulse of a replica: a count that grows while its event loop runs, and that the supervisor looks at."""

from __future__ import annotations

import asyncio
import mmap
from typing import Final

_BEATS: Final = 10
"""Beats, and looks at them, in the time for which a replica may stand still."""


class Pulse:
    """A count in memory that a process shares with its forks; make one before each fork.

    A replica that stands still for `longest_seconds` is silent: it was stopped, or its event loop hangs. Only
    time counts in which the supervisor itself has run, so that neither a machine that was suspended or very
    busy, nor a group of processes that was stopped as a whole, makes a replica look silent. Before the first
    beat, none is missed.
    """

    def __init__(self, longest_seconds: float) -> None:
        self.interval_seconds = longest_seconds / _BEATS
        """Longest time between two looks."""
        self._count = memoryview(mmap.mmap(-1, 8)).cast("Q")
        self._seen = 0
        self._seen_at = 0.0
        self._missed_seconds = 0.0
        self._longest_seconds = longest_seconds

    def beat(self, loop: asyncio.AbstractEventLoop) -> None:
        """Raise the count now, and at each interval while the event loop runs. Called in the replica."""
        self._count[0] += 1
        loop.call_later(self.interval_seconds, self.beat, loop)

    def is_silent(self, now: float) -> bool:
        """Look at the count at a monotonic time `now`; return True once it has stood still for too long."""
        count = self._count[0]
        if count == self._seen and count:
            self._missed_seconds += min(now - self._seen_at, self.interval_seconds)
        else:
            self._missed_seconds = 0.0
        self._seen, self._seen_at = count, now
        return self._missed_seconds > self._longest_seconds
