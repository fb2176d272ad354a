"""The facts about the device that NVIDIA's driver reports."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from typing import Final

_FIELDS: Final = ("name", "driver_version", "compute_cap", "memory.total", "memory.used")
_MEBIBYTE: Final = 1024**2


@dataclass(frozen=True, slots=True)
class Device:
    """The first GPU of this machine."""

    name: str
    driver: str
    capability: str
    total_megabytes: float
    used_megabytes: float
    """The memory of all processes together, in 10^6 bytes like the total."""


def first_device() -> Device | None:
    """Return the first GPU that `nvidia-smi` lists; None if that command is missing or lists none."""
    if shutil.which("nvidia-smi") is None:
        return None
    command = ["nvidia-smi", f"--query-gpu={','.join(_FIELDS)}", "--format=csv,noheader,nounits"]
    told = subprocess.run(command, capture_output=True, text=True, timeout=15, check=False)
    if told.returncode != 0 or not told.stdout.strip():
        return None
    name, driver, capability, total, used = told.stdout.splitlines()[0].split(", ")
    return Device(name, driver, capability, float(total) * _MEBIBYTE / 1e6, float(used) * _MEBIBYTE / 1e6)
