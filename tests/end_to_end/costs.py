"""The memory and the CPU time that a request costs a service, and what a small one may cost."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path

from tests.serving import RunningService

SMALL_BYTES = 2**16
MOST_MEMORY_BYTES = 50e6
MOST_CPU_SECONDS = 0.3
"""The CPU time of a whole request, whatever else runs on the machine; a part of it holds the event loop."""
TRIES = 3
"""The number of tries that a request has, since other work on the machine only adds to what it costs."""


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
