"""Server processes: started on a free port, awaited, watched, and always ended."""

from __future__ import annotations

import contextlib
import http.client
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.ports import free_port

from .dialects import Dialect, FloorDialect, NaiveDialect, OurDialect
from .failure import BenchFailed
from .models import REPOSITORY, Model
from .process_tree import listeners
from .workloads import FLOOR, NAIVE, SERVICE

_START_SECONDS: Final = 60.0
_POLL_SECONDS: Final = 0.005
_STOP_SECONDS: Final = 10.0
_TAIL_LINES: Final = 20


@dataclass(frozen=True, slots=True)
class Target:
    """A running server: its name, its base URL, its dialect and, if the bench started it, more."""

    name: str
    url: str
    dialect: Dialect
    process_id: int | None = None
    ready_seconds: float = 0.0
    """The seconds from the start of its process to its first answer that it is ready."""


@contextlib.contextmanager
def naive_server(models: Mapping[str, Model], logs: Path) -> Iterator[Target]:
    """The naive server over the models' graphs."""
    port = free_port()
    # -P: this folder's modules must not hide any other of the same name
    command = [sys.executable, "-P", str(Path(__file__).with_name("naive.py")), "--port", str(port)]
    for name, model in models.items():
        command += ["--decode", f"{name}={model.graph('sample')}"]
        if "score" in model.manifest.graphs:
            command += ["--score", f"{name}={model.graph('score')}"]
    with running(NAIVE, command, port, "/openapi.json", logs) as (process, seconds):
        yield Target(NAIVE, f"http://127.0.0.1:{port}", NaiveDialect(models), process.pid, seconds)


@contextlib.contextmanager
def floor_server(models: Mapping[str, Model], logs: Path, processes: int) -> Iterator[Target]:
    """The server of `floor.py` over the models' decoders, by so many processes."""
    port = free_port()
    command = [sys.executable, "-P", str(Path(__file__).with_name("floor.py")), "--port", str(port)]
    command += ["--processes", str(processes)]
    for name, model in models.items():
        command += ["--decode", f"{name}={model.graph('sample')}"]
    with running(FLOOR, command, port, "/", logs) as (process, seconds):
        _await_listeners(FLOOR, process, port, processes)
        yield Target(FLOOR, f"http://127.0.0.1:{port}", FloorDialect(models), process.pid, seconds)


@contextlib.contextmanager
def service_server(
    folder: Path, models: Mapping[str, Model], logs: Path, processes: int, options: Sequence[str] = ()
) -> Iterator[Target]:
    """The service over a folder of versions, on the CPU, all settings but these as they come."""
    port = free_port()
    command = service_command(folder, port, processes, options)
    with running(SERVICE, command, port, "/readyz", logs) as (process, seconds):
        _await_listeners(SERVICE, process, port, processes)
        yield Target(
            SERVICE, f"http://127.0.0.1:{port}", OurDialect(models, models.keys()), process.pid, seconds
        )


def service_command(folder: Path, port: int, processes: int, options: Sequence[str] = ()) -> list[str]:
    """The command that serves a folder of versions."""
    return [
        *(sys.executable, "-m", "service", "--models", str(folder), "--port", str(port)),
        *("--device", "cpu", "--processes", str(processes), "--log-level", "warning", *options),
    ]


@contextlib.contextmanager
def running(
    name: str,
    command: Sequence[str],
    port: int,
    probe: str,
    logs: Path,
    stop_signal: signal.Signals = signal.SIGTERM,
) -> Iterator[tuple[subprocess.Popen[bytes], float]]:
    """A process, and the seconds until it answered 200 to the probe.

    It is told to stop in the end; its log's tail is added to any failure.
    """
    log = logs / f"{name}.log"
    kept = {key: value for key, value in os.environ.items() if not key.startswith("PUSHFORWARD_")}
    kept["TMPDIR"] = str(logs)  # nothing stays behind, even of a process that is killed
    started_at = time.monotonic()
    with log.open("wb") as file:
        # a session of its own, so that Ctrl-C ends it here and in order
        process = subprocess.Popen(
            command, cwd=REPOSITORY, env=kept, stdout=file, stderr=subprocess.STDOUT, start_new_session=True
        )
    try:
        _await_ready(name, process, port, probe)
        yield process, time.monotonic() - started_at
        expect_alive(name, process)
    except Exception as error:
        if tail := _tail(log):
            error.add_note(f"The end of the log of {name}:\n{tail}")
        raise
    finally:
        _end(process, stop_signal)


def _await_ready(name: str, process: subprocess.Popen[bytes], port: int, probe: str) -> None:
    give_up_at = time.monotonic() + _START_SECONDS
    while time.monotonic() < give_up_at:
        expect_alive(name, process)
        with contextlib.suppress(OSError, http.client.HTTPException):
            if _status(port, probe) == 200:
                return
        time.sleep(_POLL_SECONDS)
    raise BenchFailed(f"{name} was not ready within {_START_SECONDS:g} s")


def _await_listeners(name: str, process: subprocess.Popen[bytes], port: int, processes: int) -> None:
    """Wait for the processes that share the port; the first of them is ready."""
    while listeners(port) < processes:
        expect_alive(name, process)
        time.sleep(_POLL_SECONDS)


def _status(port: int, probe: str) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_START_SECONDS)
    with contextlib.closing(connection):
        connection.request("GET", probe)
        return connection.getresponse().status


def expect_alive(name: str, process: subprocess.Popen[bytes]) -> None:
    """Raises BenchFailed if the process has ended."""
    if process.poll() is not None:
        raise BenchFailed(f"{name} ended by itself, with status {process.returncode}")


def _end(process: subprocess.Popen[bytes], stop_signal: signal.Signals) -> None:
    process.send_signal(stop_signal)
    try:
        process.wait(_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _tail(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    return "\n".join(lines[-_TAIL_LINES:])
