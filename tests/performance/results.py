"""The results of the bench: every round, and the medians and ratios over the rounds; kept as JSON."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Final

import onnxruntime as ort
from pydantic import TypeAdapter

from service.settings import granted_cores

from .workloads import Figure, Workload

_LIBRARIES: Final = ("fastapi", "uvicorn", "pydantic", "orjson", "numpy")


@dataclass(frozen=True, slots=True)
class Run:
    """One round of one workload against one target: values by name, with their units in the names."""

    round: int
    workload: str
    target: str
    values: dict[str, float]


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A workload that was not measured against a target, and why."""

    workload: str
    target: str
    reason: str


@dataclass(frozen=True, slots=True)
class Summary:
    """A median over rounds, or a ratio of medians, and the smallest and largest of any one round."""

    middle: float
    smallest: float
    largest: float


@dataclass(frozen=True, slots=True)
class Results:
    """All that a run of the bench has found, and all that a report needs."""

    machine: dict[str, str | int | float]
    command: str
    """The options that it was started with, without the workloads."""
    targets: dict[str, str]
    """The description of each target by its name, in the order of the report."""
    workloads: tuple[Workload, ...]
    runs: tuple[Run, ...]
    left_out: tuple[LeftOut, ...]

    def of(self, workload: str, target: str) -> list[Run]:
        """The rounds of a workload against a target, in order."""
        chosen = [run for run in self.runs if (run.workload, run.target) == (workload, target)]
        return sorted(chosen, key=lambda run: run.round)

    def summary(self, workload: str, target: str, figure: Figure) -> Summary | None:
        """Return a figure of a target; None if it, or its divisor, was not measured."""
        upper = values_of(self.of(workload, target), figure.value)
        if not figure.over:
            return Summary(median(upper), min(upper), max(upper)) if upper else None
        lower = values_of(self.of(workload, figure.beside or target), figure.over)
        return ratio(upper, lower) if upper and len(upper) == len(lower) else None

    def written(self) -> str:
        """Return the results as JSON, which `read` takes back."""
        return _JSON.dump_json(self, indent=2).decode() + "\n"


def read(path: Path) -> Results:
    """Results from a file; raises pydantic's ValidationError if it holds anything else."""
    return _JSON.validate_json(path.read_bytes())


_JSON: Final = TypeAdapter(Results)


def values_of(runs: Sequence[Run], name: str) -> list[float]:
    """One value of every run that has it."""
    return [run.values[name] for run in runs if name in run.values]


def ratio(upper: Sequence[float], lower: Sequence[float]) -> Summary:
    """The ratio of two medians, and the smallest and largest ratio within a round."""
    each = [above / below for above, below in zip(upper, lower, strict=True)]
    return Summary(median(upper) / median(lower), min(each), max(each))


def machine() -> dict[str, str | int | float]:
    """Return the machine, the time and the versions; the load average is of the minute before."""
    return {
        "cpu": _cpu_name(),
        "granted_cores": granted_cores(),
        "load_average": round(os.getloadavg()[0], 2),
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "system": platform.platform(),
        "python": platform.python_version(),
        "onnxruntime": ort.__version__,
        **{name: version(name) for name in _LIBRARIES},
        "wrk": _wrk_version(),
    }


def _cpu_name() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, "") or platform.processor() or platform.machine()


def _wrk_version() -> str:
    if shutil.which("wrk") is None:
        return "none"
    told = subprocess.run(["wrk", "--version"], capture_output=True, text=True, check=False).stdout
    found = re.search(r"\d+\.\d+\.\d+", told)
    return found[0] if found else "unknown"
