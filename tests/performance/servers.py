"""Server processes: started on a free port, awaited, watched, and always ended."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import httpx

from .decoder import NAME
from .failure import BenchFailed

_ROOT: Final = Path(__file__).resolve().parents[2]
_START_SECONDS: Final = 30.0
_POLL_SECONDS: Final = 0.02
_STOP_SECONDS: Final = 10.0
_TAIL_LINES: Final = 20


@dataclass(frozen=True, slots=True)
class Target:
    """A running server: its name, process id, and the URL that answers samples."""

    name: str
    process_id: int
    sample_url: str

    def cpu_seconds(self) -> float:
        """CPU seconds the process and its threads have used so far; Linux only."""
        fields = Path(f"/proc/{self.process_id}/stat").read_text().rpartition(")")[2].split()
        user, system = int(fields[11]), int(fields[12])
        return (user + system) / os.sysconf("SC_CLK_TCK")


@contextlib.contextmanager
def naive_server(graph: Path, logs: Path) -> Iterator[Target]:
    """The naive server over one graph."""
    port = _free_port()
    # -P: this folder's modules must not hide any other of the same name
    script = str(Path(__file__).with_name("naive.py"))
    command = [sys.executable, "-P", script, "--graph", str(graph), "--port", str(port)]
    with _running("naive", command, port, "/openapi.json", logs) as process:
        yield Target("naive", process.pid, f"http://127.0.0.1:{port}/sample")


@contextlib.contextmanager
def service_server(models: Path, logs: Path) -> Iterator[Target]:
    """The service over a folder of versions, on the CPU, all other settings as they come."""
    port = _free_port()
    command = [sys.executable, "-m", "service", "--models", str(models), "--port", str(port)]
    command += ["--device", "cpu", "--log-level", "warning"]
    with _running("service", command, port, "/readyz", logs) as process:
        yield Target("service", process.pid, f"http://127.0.0.1:{port}/v1/models/{NAME}/sample")


@contextlib.contextmanager
def _running(
    name: str, command: Sequence[str], port: int, probe: str, logs: Path
) -> Iterator[subprocess.Popen[bytes]]:
    """A process that answers 200 to the probe; ended in the end, its log's tail added to any failure."""
    log = logs / f"{name}.log"
    kept = {key: value for key, value in os.environ.items() if not key.startswith("PUSHFORWARD_")}
    with log.open("wb") as file:
        # a session of its own, so that Ctrl-C ends it here and in order
        process = subprocess.Popen(
            command, cwd=_ROOT, env=kept, stdout=file, stderr=subprocess.STDOUT, start_new_session=True
        )
    try:
        _await_ready(name, process, f"http://127.0.0.1:{port}{probe}")
        yield process
        _expect_alive(name, process)
    except Exception as error:
        error.add_note(f"The end of the log of {name}:\n{_tail(log)}")
        raise
    finally:
        _end(process)


def _await_ready(name: str, process: subprocess.Popen[bytes], url: str) -> None:
    give_up_at = time.monotonic() + _START_SECONDS
    while time.monotonic() < give_up_at:
        _expect_alive(name, process)
        with contextlib.suppress(httpx.TransportError):
            if httpx.get(url, timeout=_START_SECONDS, trust_env=False).status_code == 200:
                return
        time.sleep(_POLL_SECONDS)
    raise BenchFailed(f"{name} was not ready within {_START_SECONDS:g} s")


def _expect_alive(name: str, process: subprocess.Popen[bytes]) -> None:
    if process.poll() is not None:
        raise BenchFailed(f"{name} ended by itself, with status {process.returncode}")


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _tail(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    return "\n".join(lines[-_TAIL_LINES:]) or "(it is empty)"


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
