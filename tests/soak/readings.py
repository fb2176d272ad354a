"""The resources that a running service holds: memory, file descriptors, and requests in flight."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import httpx
import numpy as np
from prometheus_client.parser import text_string_to_metric_families

from tests.performance.process_tree import tree

_TRIAL: Final = b"service.lifecycle.trial"
_PROC: Final = Path("/proc")
_TEN_MINUTES: Final = 600.0


@dataclass(frozen=True, slots=True)
class Reading:
    """One look at the service's processes, those of trials aside."""

    seconds: float
    """Since the start of the load."""
    resident_megabytes: float
    file_descriptors: int


@dataclass(frozen=True, slots=True)
class Quiet:
    """The resources that the service still holds while no client asks anything."""

    seconds: float
    file_descriptors: int
    waiting_rows: float
    inflight_requests: float
    inflight_bytes: float

    def document(self) -> dict[str, Any]:
        """The reading as JSON."""
        return asdict(self)


def read_processes(root: int, seconds: float) -> Reading:
    """Look at the processes of a tree; one that ends meanwhile counts for nothing."""
    pages = descriptors = 0
    for process in tree(root):
        folder = _PROC / str(process)
        try:
            if _TRIAL in (folder / "cmdline").read_bytes():
                continue
            count = len(os.listdir(folder / "fd"))
            pages += int((folder / "statm").read_text().split()[1])
            descriptors += count
        except (FileNotFoundError, ProcessLookupError):
            continue
    return Reading(seconds, pages * os.sysconf("SC_PAGE_SIZE") / 1e6, descriptors)


def read_quiet(url: str, root: int, seconds: float, patience_seconds: float) -> Quiet:
    """Read the resources still held once nothing is asked, after `patience_seconds` at the latest."""
    ends_at = time.monotonic() + patience_seconds
    fewest = 10**9
    while True:
        with httpx.Client(base_url=url, timeout=60) as client:
            families = list(text_string_to_metric_families(client.get("/metrics").text))
        sums = {
            name: sum(sample.value for family in families for sample in family.samples if sample.name == name)
            for name in (
                "pushforward_queue_items",
                "pushforward_inflight_requests",
                "pushforward_inflight_bytes",
            )
        }
        before, fewest = fewest, read_processes(root, seconds).file_descriptors
        own = 1  # the scrape itself
        settled = [*sums.values()] == [0, own, 0] and fewest >= before
        if settled or time.monotonic() > ends_at:
            waiting, inflight, size = sums.values()
            return Quiet(seconds, fewest, waiting, inflight - own, size)
        time.sleep(0.5)


@dataclass(frozen=True, slots=True)
class Slope:
    """The growth of memory, in per cent of its mean in ten minutes, with its standard error."""

    percent: float
    error: float

    @property
    def exceeds(self) -> bool:
        """Return True if the growth is over one per cent, and the readings are enough to tell."""
        return self.percent > max(1.0, 2 * self.error)


def slope_of(rounds: Sequence[Sequence[Reading]]) -> Slope:
    """Return the slope of least squares through the medians of rounds, at least three.

    Single readings are not independent; medians of rounds nearly are.
    """
    assert len(rounds) >= 3, "three rounds are needed"
    places = np.array([np.mean([reading.seconds for reading in readings]) for readings in rounds])
    sizes = np.array([np.median([reading.resident_megabytes for reading in readings]) for readings in rounds])
    centred = places - places.mean()
    slope = float(centred @ sizes / (centred @ centred))
    residuals = sizes - sizes.mean() - slope * centred
    error = float(np.sqrt(residuals @ residuals / (len(sizes) - 2) / (centred @ centred)))
    scale = 100 * _TEN_MINUTES / float(sizes.mean())
    return Slope(slope * scale, error * scale)
