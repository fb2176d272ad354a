"""One timed load by wrk, closed: every connection sends its next request once it has its answer."""

from __future__ import annotations

import json
import math
import resource
import shutil
import signal
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from .dialects import Request
from .failure import BenchFailed

_SCRIPT: Final = Path(__file__).with_name("load.lua")
_TIMEOUT_SECONDS: Final = 10


@dataclass(frozen=True, slots=True)
class Load:
    """The measurements of wrk: requests answered, wall seconds, latencies, and its own CPU seconds.

    wrk corrects its latencies for coordinated omission: an answer that came late counts for the requests
    that its connection would have sent meanwhile.
    """

    requests: int
    seconds: float
    p50_milliseconds: float
    p99_milliseconds: float
    client_cpu_seconds: float


def wrk_is_there() -> bool:
    """Return True if wrk is on the path."""
    return shutil.which("wrk") is not None


def apply_load(url: str, request: Request, connections: int, seconds: float, first_seed: int) -> Load:
    """Loads a server for so many seconds, with the seeds after `first_seed`.

    Raises:
        BenchFailed: wrk failed, or any answer was not 2xx, or some were too short.
    """
    with tempfile.TemporaryDirectory(prefix="pushforward-bodies-") as folder:
        for number, body in enumerate(request.bodies, 1):
            (Path(folder) / str(number)).write_bytes(body)
        command = [
            *("wrk", "--threads", "1", "--connections", str(connections)),
            *("--duration", f"{math.ceil(seconds)}s", "--timeout", f"{_TIMEOUT_SECONDS}s"),
            *("--script", str(_SCRIPT), url, "--", request.path, str(first_seed)),
            *(folder, str(len(request.bodies))),
            *(f"{name}: {value}" for name, value in request.headers.items()),
        ]
        cpu_before = _children_cpu_seconds()
        text = _output(command, seconds)
        cpu_seconds = _children_cpu_seconds() - cpu_before
    report = json.loads(text.splitlines()[-1])
    _check(report, text, request)
    return Load(report["requests"], report["microseconds"] / 1e6, report["p50"], report["p99"], cpu_seconds)


def _output(command: list[str], seconds: float) -> str:
    """Return the output of wrk, which only takes whole seconds, and so is interrupted after a fraction."""
    wrk = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        if seconds % 1:
            try:
                wrk.wait(seconds)
            except subprocess.TimeoutExpired:
                wrk.send_signal(signal.SIGINT)
        text, errors = wrk.communicate(timeout=seconds + 3 * _TIMEOUT_SECONDS)
    except subprocess.TimeoutExpired as error:
        raise BenchFailed("wrk did not end") from error
    finally:
        if wrk.poll() is None:
            wrk.kill()
            wrk.communicate()
    if wrk.returncode != 0:
        raise BenchFailed(f"wrk exited {wrk.returncode}: {errors or text}")
    return text


def _check(report: dict[str, Any], text: str, request: Request) -> None:
    if report["bad_status"] or report["bad_socket"] or "Non-2xx" in text or "Socket errors" in text:
        raise BenchFailed(
            f"{request.path}: {report['bad_status']} answers were not 2xx and {report['bad_socket']} "
            f"requests failed, of {report['requests']}"
        )
    if not report["requests"] or report["bytes"] < report["requests"] * request.least_bytes:
        raise BenchFailed(
            f"{request.path}: {report['requests']} answers had {report['bytes']} bytes, "
            f"at least {request.least_bytes} each were expected"
        )


def _children_cpu_seconds() -> float:
    """CPU seconds of the children that have ended; only wrk ends between two calls."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime
