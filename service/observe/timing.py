"""What happened to one request, and when: noted while it is answered, and told afterwards (`tracing.py`).

Where no traces are made there is no `Trace`, and none of this costs anything.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from service.observe.metrics import Meter


@dataclass(slots=True)
class Timing:
    """Where a request's time went, in seconds of a lane: slices that run side by side add up."""

    queue_seconds: float = 0.0
    compute_seconds: float = 0.0
    batches: float = 0.0
    """How many batches it took: of one shared with others, its part by rows."""


TRACE: Final = "pushforward.trace"
"""Where a scope holds the `Trace` of its request, if there is one."""
MOST_PERIODS: Final = 32
"""Of waiting, and of computing, that are noted apart; the last one then lasts until the end of all others."""


class Period(NamedTuple):
    """A time between two others, in nanoseconds of Unix time."""

    began: int
    ended: int


class TracedTiming(Timing):
    """Notes not only how long a request waited and was computed, but when."""

    __slots__ = ("_compute_seconds", "_queue_seconds", "compute", "queue")

    def __init__(self) -> None:
        self._queue_seconds = self._compute_seconds = self.batches = 0.0
        self.queue: list[Period] = []
        self.compute: list[Period] = []

    @property
    def queue_seconds(self) -> float:
        """As in `Timing`; what is added ends now."""
        return self._queue_seconds

    @queue_seconds.setter
    def queue_seconds(self, seconds: float) -> None:
        _note(self.queue, seconds - self._queue_seconds)
        self._queue_seconds = seconds

    @property
    def compute_seconds(self) -> float:
        """As in `Timing`; what is added ends now."""
        return self._compute_seconds

    @compute_seconds.setter
    def compute_seconds(self, seconds: float) -> None:
        _note(self.compute, seconds - self._compute_seconds)
        self._compute_seconds = seconds


@dataclass(slots=True)
class Trace:
    """Of one request; who answers it fills this in."""

    timing: TracedTiming = field(default_factory=TracedTiming)
    meter: Meter | None = None
    """Of its operation and model, if it came that far."""
    made: int | None = None
    """When its answer was there as bytes or began to be streamed."""
    request_id: str = ""
    route: str = ""
    method: str = ""
    status: int = 0

    @property
    def encode(self) -> Period | None:
        """From the end of the last batch to the answer; None for streams, of which parts are sent before."""
        computed = self.timing.compute[-1].ended if self.timing.compute else None
        if computed is None or self.made is None or self.made < computed:
            return None
        return Period(computed, self.made)


def _note(periods: list[Period], seconds: float) -> None:
    now = time.time_ns()
    if len(periods) == MOST_PERIODS:
        periods[-1] = Period(periods[-1].began, now)
    else:
        periods.append(Period(now - int(seconds * 1e9), now))
