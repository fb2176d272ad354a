"""The workloads, and one timed run of a workload by wrk."""

from __future__ import annotations

import json
import resource
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from .decoder import ITEM_SHAPE
from .failure import BenchFailed

_SCRIPT = Path(__file__).with_name("load.lua")
_TIMEOUT_SECONDS = 10


@dataclass(frozen=True, slots=True)
class Workload:
    """POST requests for `count` samples each, a fresh seed each, npy out, over kept connections.

    The load is closed: a connection sends its next request once it has its answer.
    """

    name: str
    count: int
    connections: int

    @property
    def answer_bytes(self) -> int:
        """Bytes of the float32 samples in one answer, the headers aside."""
        channels, height, width = ITEM_SHAPE
        return 4 * self.count * channels * height * width


WORKLOADS: Final = (Workload("single", count=1, connections=32), Workload("bulk", count=64, connections=4))


@dataclass(frozen=True, slots=True)
class Load:
    """What wrk saw in one run: requests answered, wall seconds, latencies, and its own CPU seconds."""

    requests: int
    seconds: float
    p50_milliseconds: float
    p99_milliseconds: float
    wrk_cpu_seconds: float


def wrk_is_there() -> bool:
    """Whether wrk is on the path."""
    return shutil.which("wrk") is not None


def apply_load(workload: Workload, url: str, seconds: int, first_seed: int) -> Load:
    """Loads a server for so many seconds, with the seeds after `first_seed`.

    Raises:
        BenchFailed: wrk failed, or any answer was not 200 and whole.
    """
    command = [
        *("wrk", "--threads", "1", "--connections", str(workload.connections)),
        *("--duration", f"{seconds}s", "--timeout", f"{_TIMEOUT_SECONDS}s", "--script", str(_SCRIPT)),
        *(url, "--", str(workload.count), str(first_seed)),
    ]
    cpu_before = _children_cpu_seconds()
    try:
        finished = subprocess.run(
            command, capture_output=True, text=True, timeout=seconds + 3 * _TIMEOUT_SECONDS, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise BenchFailed(f"{workload.name}: wrk did not end") from error
    cpu_seconds = _children_cpu_seconds() - cpu_before
    if finished.returncode != 0:
        raise BenchFailed(f"wrk exited {finished.returncode}: {finished.stderr or finished.stdout}")
    report = json.loads(finished.stdout.splitlines()[-1])
    _check(workload, report, finished.stdout)
    return Load(report["requests"], report["microseconds"] / 1e6, report["p50"], report["p99"], cpu_seconds)


def _check(workload: Workload, report: dict[str, Any], text: str) -> None:
    if report["bad_status"] or report["bad_socket"] or "Non-2xx" in text or "Socket errors" in text:
        raise BenchFailed(
            f"{workload.name}: {report['bad_status']} answers were not 2xx and {report['bad_socket']} "
            f"requests failed, of {report['requests']}"
        )
    if not report["requests"] or report["bytes"] < report["requests"] * workload.answer_bytes:
        raise BenchFailed(
            f"{workload.name}: {report['requests']} answers had {report['bytes']} bytes, "
            f"at least {workload.answer_bytes} each were expected"
        )


def _children_cpu_seconds() -> float:
    """CPU seconds of the children that have ended; only wrk ends between two calls."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime
