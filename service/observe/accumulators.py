"""What a request counts, as plain numbers; Prometheus's metrics hear of many requests together.

An increment of prometheus_client takes a lock and several calls, in files that replicas share more, and a
request makes a dozen of them. A tally belongs to the event loop. It is settled before its metric is read, and
every `SETTLE_SECONDS` besides, which bounds what it holds, and how late one replica's numbers are in the sums
that another tells.
"""

from __future__ import annotations

import time
from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol

from prometheus_client import Counter, Gauge, Histogram
from prometheus_client.samples import Exemplar

SETTLE_SECONDS: Final = 0.25
WINDOW: Final = 1000
"""How many p-values a drift is told from."""


class Tally(Protocol):
    """Holds what its metric has not been told yet."""

    def settle(self) -> None:
        """Tells the metric, and holds nothing."""


class Count:
    """Of a counter, or of a gauge that goes up and down."""

    __slots__ = ("_metric", "_pending")

    def __init__(self, metric: Counter | Gauge) -> None:
        self._metric = metric
        self._pending = 0.0

    def add(self, amount: float = 1.0) -> None:
        """Counts that much; less than nothing only for a gauge."""
        self._pending += amount

    def settle(self) -> None:
        """Tells the metric, and holds nothing."""
        if self._pending:
            amount, self._pending = self._pending, 0.0
            self._metric.inc(amount)


class Reading:
    """Of a counter or a gauge that follows a value which is there to be read."""

    def __init__(self, metric: Counter | Gauge, read: Callable[[], float]) -> None:
        self._metric = metric
        self._read = read
        self._told = 0.0

    def settle(self) -> None:
        """Tells the metric by how much the value has changed."""
        value = float(self._read())
        if value != self._told:
            self._metric.inc(value - self._told)
            self._told = value


class Distribution:
    """Of a histogram."""

    __slots__ = ("_bounds", "_metric", "_pending", "observe", "observe_all")

    def __init__(self, metric: Histogram) -> None:
        # The library has no call for many observations: this writes where `observe` does; the pin guards it.
        self._metric: Any = metric
        self._bounds: list[float] = self._metric._upper_bounds  # the last is infinite
        self._pending: list[float] = []
        self.observe: Final = self._pending.append
        """Notes one value."""
        self.observe_all: Final = self._pending.extend
        """Notes some values."""

    def exemplify(self, value: float, trace_id: str) -> None:
        """Names a trace as the example of a value's bucket, for OpenMetrics; of replicas none is told."""
        bucket = self._metric._buckets[bisect_left(self._bounds, value)]
        bucket.set_exemplar(Exemplar({"trace_id": trace_id}, value, time.time()))

    def settle(self) -> None:
        """Tells the metric, and holds nothing."""
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


class Drift:
    """How far the last `WINDOW` p-values are from uniform, by Kolmogorov's distance, as a gauge.

    Of ordinary items it exceeds 0.043, which is 1.36 / sqrt(n), one time in twenty, and 0.05 one in seventy;
    somewhat more often if those that it was calibrated on were few. Source: Kolmogorov 1933.
    """

    __slots__ = ("_came", "_metric", "_window")

    def __init__(self, metric: Gauge) -> None:
        self._metric = metric
        self._window: deque[float] = deque(maxlen=WINDOW)
        self._came = False

    def observe_all(self, p_values: Sequence[float]) -> None:
        """Notes p-values in [0, 1]."""
        self._window.extend(p_values)
        self._came = True

    def settle(self) -> None:
        """Tells the metric, once the window is full, and if anything came since."""
        if self._came and len(self._window) == WINDOW:
            steps = enumerate(sorted(self._window))
            self._metric.set(max(max(value - n / WINDOW, (n + 1) / WINDOW - value) for n, value in steps))
        self._came = False
