"""The threads that compute batches for all versions, and since when each of them is at work."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from threading import get_ident
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

if TYPE_CHECKING:
    from prometheus_client import Gauge

P = ParamSpec("P")
T = TypeVar("T")
log = logging.getLogger(__name__)


class Lanes(ThreadPoolExecutor):
    """A fixed number of threads. A batch that takes more than `stuck_seconds` counts as one that never ends.

    No thread can be ended, so such a batch takes a lane of all versions until the process ends, also after
    its version was unloaded. `flaw`, the log and the `gauge` (its age in seconds) report it.
    """

    def __init__(
        self,
        count: int,
        *,
        thread_name_prefix: str = "lane",
        stuck_seconds: float = math.inf,
        gauge: Gauge | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(count, thread_name_prefix)
        self._count = count
        self._stuck_seconds = stuck_seconds
        self._gauge = gauge
        self._clock = clock
        self._at_work: dict[int, tuple[float, str]] = {}
        """The time at which a thread began its batch, and the batch's stage."""
        self._reported: set[tuple[float, str]] = set()

    def named(self, stage: str) -> Executor:
        """Return an executor for the batches of a stage in these threads."""
        return _Stage(self, stage)

    def run(self, stage: str, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call a function in a thread of these."""
        thread = get_ident()
        self._at_work[thread] = self._clock(), stage
        try:
            return function(*args, **kwargs)
        finally:
            del self._at_work[thread]

    @property
    def flaw(self) -> str:
        """Return the batch that does not end, if there is one, else an empty text."""
        now, (since, stage) = self._oldest()
        return f"a batch of {stage} has taken {now - since:.0f} s" if self._is_stuck(since, now) else ""

    def flush(self) -> None:
        """Set the gauge to the age of the oldest batch, and log the batches that got stuck or have ended."""
        now, (since, _) = self._oldest()
        if self._gauge is not None:
            self._gauge.set(now - since)
        stuck = {work for work in self._at_work.copy().values() if self._is_stuck(work[0], now)}
        for began, stage in sorted(stuck - self._reported):
            log.error(
                "a batch of %s has taken %.0f s, and keeps one of %d lanes; if it does not end, restart "
                "the process and take the version out",
                *(stage, now - began, self._count),
            )
        for began, stage in sorted(self._reported - stuck):
            log.warning("the batch of %s has ended after %.0f s", stage, now - began)
        self._reported = stuck

    def _oldest(self) -> tuple[float, tuple[float, str]]:
        now = self._clock()
        return now, min(self._at_work.copy().values(), default=(now, ""))

    def _is_stuck(self, since: float, now: float) -> bool:
        return now - since > self._stuck_seconds


class _Stage(Executor):
    def __init__(self, lanes: Lanes, stage: str) -> None:
        self._lanes = lanes
        self._stage = stage

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        call: Callable[..., Any] = self._lanes.run
        return self._lanes.submit(call, self._stage, fn, *args, **kwargs)
