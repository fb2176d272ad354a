"""Fifty restarts of two replicas behind haproxy, under load: every request is answered, and rightly."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from http.client import HTTPConnection, HTTPException
from pathlib import Path

import pytest

from tests.ports import free_ports
from tests.serving import RunningService
from tests.toy import publish_toy
from tests.waiting import wait_until

pytestmark = [pytest.mark.rolling, pytest.mark.timeout(900)]

RESTARTS = 50
CLIENTS = 4
SEEDS = 16
DRAIN_DELAY_SECONDS = "1"
"""Ten times as long as haproxy takes to see that a replica is not ready, as in a cluster."""
SAMPLE = "/v1/models/toy-vae/sample"
# Nothing is retried, so that a replica that drops a request is seen.
CONFIGURATION = """
global
  stats socket {folder}/haproxy.sock mode 600 level admin
defaults
  mode http
  timeout connect 1s
  timeout client 60s
  timeout server 60s
  timeout check 5s
  retries 0
frontend service
  bind 127.0.0.1:{port}
  default_backend replicas
backend replicas
  balance roundrobin
  option httpchk GET /readyz
  default-server check inter 100ms fall 1 rise 1
  server zero 127.0.0.1:{replicas[0]}
  server one 127.0.0.1:{replicas[1]}
"""


class Load:
    """Clients that each send one request after another until they are stopped, and what they saw."""

    def __init__(self, port: int, expected: dict[int, bytes]) -> None:
        self._port, self._expected = port, expected
        self._stopped = threading.Event()
        self.answered = 0
        self.lost: list[str] = []
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._send, args=(number,)) for number in range(CLIENTS)]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        for thread in self._threads:
            thread.join()

    def _send(self, number: int) -> None:
        connection = HTTPConnection("127.0.0.1", self._port, timeout=60)
        seed = number
        while not self._stopped.is_set():
            seed = (seed + 1) % SEEDS
            flaw = self._flaw(connection, seed)
            with self._lock:
                self.answered += flaw is None
                self.lost += [flaw] if flaw else []
        connection.close()

    def _flaw(self, connection: HTTPConnection, seed: int) -> str | None:
        try:
            content = asked(connection, seed)
        except (OSError, HTTPException) as error:
            connection.close()
            return repr(error)
        return None if content == self._expected[seed] else content.decode()


def asked(connection: HTTPConnection, seed: int) -> bytes:
    connection.request("POST", SAMPLE, json.dumps({"seed": seed, "count": 3}))
    return connection.getresponse().read()


def replica(models: Path, port: int) -> RunningService:
    return RunningService(
        models, "--port", str(port), "--drain-delay-seconds", DRAIN_DELAY_SECONDS
    ).wait_until_ready()


@pytest.fixture
def haproxy(tmp_path: Path) -> Iterator[tuple[int, list[int], Path]]:
    """haproxy's port, those of two replicas that it expects, and the socket that tells what it sees."""
    if shutil.which("haproxy") is None:
        pytest.skip("not installed: haproxy (apt-get install haproxy)")
    port, *replicas = free_ports(3)
    configuration = tmp_path / "haproxy.cfg"
    configuration.write_text(CONFIGURATION.format(folder=tmp_path, port=port, replicas=replicas))
    with (tmp_path / "haproxy.log").open("wb") as log:
        process = subprocess.Popen(["haproxy", "-W", "-db", "-f", configuration], stderr=log)
        yield port, replicas, tmp_path / "haproxy.sock"
        process.terminate()
        process.wait(timeout=60)


def both_are_up(stats: Path) -> bool:
    """Return True once haproxy sends requests to both."""
    with socket.socket(socket.AF_UNIX) as connection:
        try:
            connection.connect(str(stats))
        except OSError:
            return False  # it is starting
        connection.sendall(b"show stat\n")
        lines = connection.makefile().read().splitlines()
    servers = [line for line in lines if line.startswith("replicas,") and ",BACKEND," not in line]
    return sum(",UP," in line for line in servers) == 2


def answers(port: int) -> dict[int, bytes]:
    """Return the answer to each seed while nothing is restarted."""
    connection = HTTPConnection("127.0.0.1", port, timeout=60)
    expected = {seed: asked(connection, seed) for seed in range(SEEDS)}
    connection.close()
    assert len(set(expected.values())) == SEEDS
    return expected


@pytest.fixture
def models(tmp_path: Path) -> Path:
    publish_toy(tmp_path / "models")
    return tmp_path / "models"


def test_no_request_is_lost_while_replicas_are_restarted_in_turn(
    haproxy: tuple[int, list[int], Path], models: Path
) -> None:
    port, ports, stats = haproxy
    replicas = [replica(models, one) for one in ports]
    before = 0
    try:
        wait_until(lambda: both_are_up(stats))
        with Load(port, answers(port)) as load:
            for restart in range(RESTARTS):
                which = restart % 2
                assert replicas[which].stop() == 0
                replicas[which] = replica(models, ports[which])
                wait_until(lambda: both_are_up(stats))
                assert load.answered > before, "no request was answered during the restart"
                before = load.answered
    finally:
        for one in replicas:
            one.stop()
    print(f"\n{load.answered} requests answered during {RESTARTS} restarts, {len(load.lost)} lost")  # noqa: T201
    assert load.lost == []


def test_the_load_sees_what_a_replica_that_is_killed_takes_with_it(
    haproxy: tuple[int, list[int], Path], models: Path
) -> None:
    port, ports, stats = haproxy
    victim, other = (replica(models, one) for one in ports)
    try:
        wait_until(lambda: both_are_up(stats))
        with Load(port, answers(port)) as load:
            victim.process.kill()
            wait_until(lambda: load.lost)
    finally:
        victim.stop()
        other.stop()
