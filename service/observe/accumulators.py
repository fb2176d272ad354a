"""Accumulators: buffers in front of Prometheus metrics, flushed for many requests together.

An increment of prometheus_client takes a lock and several calls, and more with the files that replicas share;
a request makes a dozen increments. An accumulator belongs to the event loop. It is flushed before its metrics
are read, and every `FLUSH_SECONDS`, which bounds its size and the age of a replica's values in the sums that
another replica serves.
"""

from __future__ import annotations

import time
from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol

from prometheus_client import Counter, Gauge, Histogram
from prometheus_client.samples import Exemplar

from service.numerics.calibration import distance_from_uniform

FLUSH_SECONDS: Final = 0.25
DISTANCE_WINDOW: Final = 1000
"""Number of p-values that the distance from uniform is computed from."""


class Accumulator(Protocol):
    """Values that have not been added to their metric yet."""

    def flush(self) -> None:
        """Add the values to the metric, and forget them."""


class BufferedCounter:
    """Buffers increments of one or more counters."""

    __slots__ = ("_counters", "_pending")

    def __init__(self, *counters: Counter) -> None:
        self._counters = counters
        self._pending = 0.0

    def add(self, amount: float = 1.0) -> None:
        """Add an amount, which is not negative."""
        self._pending += amount

    def flush(self) -> None:
        """Add the sum to the counters."""
        if self._pending:
            for counter in self._counters:
                counter.inc(self._pending)
            self._pending = 0.0


class SampledGauge:
    """Copies a value into a counter or a gauge at each flush."""

    def __init__(self, metric: Counter | Gauge, read: Callable[[], float]) -> None:
        self._metric = metric
        self._read = read
        self._copied = 0.0

    def flush(self) -> None:
        """Read the value and add its change to the metric."""
        value = float(self._read())
        if value != self._copied:
            self._metric.inc(value - self._copied)
            self._copied = value


class BufferedHistogram:
    """Buffers observations of a histogram."""

    __slots__ = ("_bounds", "_metric", "_pending", "observe", "observe_all")

    def __init__(self, metric: Histogram) -> None:
        # The library has no call for many observations: this writes its private fields, which the pin guards.
        self._metric: Any = metric
        self._bounds: list[float] = self._metric._upper_bounds  # the last is infinite
        self._pending: list[float] = []
        self.observe: Final = self._pending.append
        """Observe one value."""
        self.observe_all: Final = self._pending.extend
        """Observe several values."""

    def exemplify(self, value: float, trace_id: str) -> None:
        """Make a trace the OpenMetrics exemplar of a value's bucket; the sums of replicas show none."""
        bucket = self._metric._buckets[bisect_left(self._bounds, value)]
        bucket.set_exemplar(Exemplar({"trace_id": trace_id}, value, time.time()))

    def flush(self) -> None:
        """Add the observations to the histogram."""
        if not self._pending:
            return
        values = sorted(self._pending)
        self._pending.clear()
        self._metric._sum.inc(sum(values))
        below = 0
        for bound, bucket in zip(self._bounds, self._metric._buckets, strict=True):
            if (up_to := bisect_right(values, bound)) > below:
                bucket.inc(up_to - below)
                below = up_to


class KolmogorovDistanceGauge:
    """A gauge of the distance of the last `DISTANCE_WINDOW` p-values from uniform.

    The p-values of ordinary items are uniform over all calibration sets, not given one of n items: the
    distance exceeds 1.36 sqrt(1 / 1000 + 1 / n) one time in twenty. Source: Smirnov 1948, "Table for
    estimating the goodness of fit of empirical distributions", Annals of Mathematical Statistics 19(2).
    """

    __slots__ = ("_changed", "_metric", "_window")

    def __init__(self, metric: Gauge) -> None:
        self._metric = metric
        self._window: deque[float] = deque(maxlen=DISTANCE_WINDOW)
        self._changed = False

    def observe_all(self, p_values: Sequence[float]) -> None:
        """Observe p-values in [0, 1]."""
        self._window.extend(p_values)
        self._changed = True

    def flush(self) -> None:
        """Set the gauge if the window is full and has changed."""
        if self._changed and len(self._window) == DISTANCE_WINDOW:
            self._metric.set(distance_from_uniform(self._window))
        self._changed = False
