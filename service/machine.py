"""Facts of the machine that the process runs on."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path


def has_gpu() -> bool:
    """Return True if there is an NVIDIA device. Only a session of ONNX Runtime shows whether it works."""
    return any(Path(device).exists() for device in ("/dev/nvidiactl", "/dev/dxg"))


def granted_cores() -> int:
    """Return the whole cores this process may use: its affinity, cut by the cgroup's quota; at least 1."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    with contextlib.suppress(OSError, ValueError):  # there may be no cgroup, or "max" instead of a quota
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        cores = min(cores, int(quota) // int(period))
    return max(1, cores)
