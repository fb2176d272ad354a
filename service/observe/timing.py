"""The times of one request, recorded while it is answered, and its trace, sent afterwards (`tracing.py`).

Without tracing there is no `Trace`, and it costs nothing.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from service.observe.metrics import Meter


@dataclass(slots=True)
class Timing:
    """The time that a request waited and was computed, in seconds; slices that run in parallel add up."""

    queue_seconds: float = 0.0
    compute_seconds: float = 0.0
    batches: float = 0.0
    """Number of batches; a batch shared with other requests counts by its share of the rows."""

    def add_wait(self, seconds: float) -> None:
        """Add a time of waiting that ends now."""
        self.queue_seconds += seconds

    def add_batch(self, seconds: float, share: float) -> None:
        """Add a batch that ends now, and the request's share of its rows."""
        self.compute_seconds += seconds
        self.batches += share


TRACE: Final = "pushforward.trace"
"""The key of a request's `Trace` in its ASGI scope, if it has one."""
MOST_PERIODS: Final = 32
"""Most queue periods, and most compute periods, of a trace; later ones extend the last."""


class Period(NamedTuple):
    """A period of time, in nanoseconds of Unix time."""

    began: int
    ended: int


@dataclass(slots=True)
class TracedTiming(Timing):
    """A `Timing` that also records when the request waited and was computed."""

    queue: list[Period] = field(default_factory=list)
    compute: list[Period] = field(default_factory=list)

    def add_wait(self, seconds: float) -> None:
        """Add a time of waiting that ends now."""
        Timing.add_wait(self, seconds)
        _record(self.queue, seconds)

    def add_batch(self, seconds: float, share: float) -> None:
        """Add a batch that ends now, and the request's share of its rows."""
        Timing.add_batch(self, seconds, share)
        _record(self.compute, seconds)


@dataclass(slots=True)
class Trace:
    """The trace of one request, filled in by the code that answers it."""

    timing: TracedTiming = field(default_factory=TracedTiming)
    meter: Meter | None = None
    """The meter of its operation and model, if those were found."""
    made: int | None = None
    """The time when its answer was encoded or the stream began, in nanoseconds of Unix time."""
    request_id: str = ""
    route: str = ""
    method: str = ""
    status: int = 0

    @property
    def encode(self) -> list[Period]:
        """Return the period from the last batch to the answer; none for streams, which send parts before."""
        computed = self.timing.compute
        if not computed or self.made is None or self.made < computed[-1].ended:
            return []
        return [Period(computed[-1].ended, self.made)]


def _record(periods: list[Period], seconds: float) -> None:
    now = time.time_ns()
    if len(periods) == MOST_PERIODS:
        periods[-1] = Period(periods[-1].began, now)
    else:
        periods.append(Period(now - int(seconds * 1e9), now))
