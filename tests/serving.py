"""A real server process, started and stopped by tests."""

from __future__ import annotations

import io
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from queue import Queue
from urllib.parse import urlsplit

import httpx
import numpy as np
from PIL import Image
from prometheus_client.parser import text_string_to_metric_families

START_SECONDS = 60


def npy(response: httpx.Response) -> np.ndarray:
    """The array of an answer as npy, whose headers are those of one."""
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == "application/x-npy"
    assert int(response.headers["content-length"]) == len(response.content)
    array: np.ndarray = np.load(io.BytesIO(response.content), allow_pickle=False)
    return array


def as_npy(array: np.ndarray) -> bytes:
    """An array as the body of a request."""
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def as_picture(image: Image.Image, kind: str = "PNG") -> bytes:
    """A picture as the body of a request."""
    file = io.BytesIO()
    image.save(file, kind)
    return file.getvalue()


def metric_sum(exposition: str, name: str, **labels: str) -> float:
    """The sum of the samples of that name that have these labels, in the text of `/metrics`."""
    families = text_string_to_metric_families(exposition)
    samples = [sample for family in families for sample in family.samples if sample.name == name]
    assert samples, f"there is no metric {name}"
    return sum(sample.value for sample in samples if labels.items() <= sample.labels.items())


class RunningService:
    """`python -m service` on a free port; its log lines are collected as they come."""

    def __init__(
        self,
        models: Path,
        *options: str,
        processes: int = 1,
        program: tuple[str, ...] = ("-m", "service"),
    ) -> None:
        command = [sys.executable, *program, "--models", str(models), "--port", "0"]
        command += ["--processes", str(processes), *options]
        # a group of its own, so that a test can signal all of it and nothing else
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)
        self.lines: list[str] = []
        self._arriving: Queue[str | None] = Queue()
        self._collector = threading.Thread(target=self._collect, daemon=True)
        self._collector.start()
        self.url = ""
        self.client = httpx.Client(timeout=60)

    def _collect(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.lines.append(line)
            self._arriving.put(line)
        self._arriving.put(None)

    def wait_for(self, pattern: str, times: int = 1) -> re.Match[str]:
        """Blocks until the log matches so many times; fails with the log if the process ends first."""
        while len(found := list(re.finditer(pattern, "".join(self.lines)))) < times:
            if self._arriving.get(timeout=START_SECONDS) is None:
                raise AssertionError(f"no line like {pattern!r} before the end:\n{''.join(self.lines)}")
        return found[-1]

    def wait_until_all_are_gone(self) -> None:
        """Blocks until no process is left that could write to the log."""
        self._collector.join(START_SECONDS)
        assert not self._collector.is_alive()

    def wait_until_ready(self) -> RunningService:
        """Blocks until every version is loaded."""
        self.url = self.wait_for(r"running on (https?://[\d.:]+)")[1]
        self.wait_for(r"service\.lifecycle\.registry(: |\".*\"message\":\")(ready|not ready)")
        self.client.base_url = httpx.URL(self.url)
        return self

    @property
    def grpc_address(self) -> str:
        """HOST:PORT of gRPC, which `--grpc-port` asks for."""
        return self.wait_for(r'serving gRPC on ([^\s"]+)')[1]

    @property
    def metrics_url(self) -> str:
        """The URL of the metrics on the port of their own that `--metrics-port` asks for."""
        return self.wait_for(r'metrics on ([^\s"]+)')[1]

    def connect(self) -> socket.socket:
        """A new TCP connection, for what no client of HTTP would send."""
        address = urlsplit(self.url)
        return socket.create_connection((address.hostname or "", address.port or 0), timeout=30)

    def metric(self, name: str, **labels: str) -> float:
        """The present sum of a metric's samples that have these labels."""
        return metric_sum(self.client.get("/metrics").text, name, **labels)

    def stop(self) -> int:
        """SIGTERM; returns the exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(timeout=60)
        self.client.close()
        self.wait_until_all_are_gone()
        if self.process.stderr is not None:
            self.process.stderr.close()
        return code


@contextmanager
def running_service(models: Path, *options: str, processes: int = 1) -> Iterator[RunningService]:
    """A ready service, stopped on the way out."""
    service = RunningService(models, *options, processes=processes)
    try:
        yield service.wait_until_ready()
    finally:
        service.stop()
