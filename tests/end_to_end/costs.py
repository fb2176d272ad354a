"""The memory and the CPU time that a request costs a service, and what a small one may cost."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable
from pathlib import Path

from tests.serving import RunningService

SMALL_BYTES = 2**16
MOST_MEMORY_BYTES = 50e6
MOST_CPU_SECONDS = 0.3
"""The CPU time of a whole request, whatever else runs on the machine; a part of it holds the event loop."""
TRIES = 3
"""The number of tries that a request has, since other work on the machine only adds to what it costs."""
_NUMBERS = 500_000
_USUAL_SECONDS = 0.015
"""The CPU time to add so many numbers where the limits were set."""


def slowness() -> float:
    """Return how many times as long a computation takes now as where the limits were set; at least 1."""
    started_at = time.thread_time()
    sum(number for number in range(_NUMBERS))
    return max(1.0, (time.thread_time() - started_at) / _USUAL_SECONDS)


def memory_bytes(service: RunningService, key: str) -> int:
    found = re.search(rf"{key}:\s+(\d+) kB", Path(f"/proc/{service.process.pid}/status").read_text())
    assert found is not None
    return int(found[1]) * 1024


def cpu_seconds(service: RunningService) -> float:
    fields = Path(f"/proc/{service.process.pid}/stat").read_text().rsplit(") ", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def costs(service: RunningService, act: Callable[[], object]) -> tuple[float, float]:
    """Return the peak growth of memory in bytes while something is done, and the CPU seconds it took."""
    Path(f"/proc/{service.process.pid}/clear_refs").write_text("5")  # the highest so far is the present
    memory, seconds = memory_bytes(service, "VmRSS"), cpu_seconds(service)
    act()
    return memory_bytes(service, "VmHWM") - memory, cpu_seconds(service) - seconds
