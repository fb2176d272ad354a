"""The limit of open files: idle connections make room for new ones, and probes are always answered."""

import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import httpx
import pytest

from tests.end_to_end.connections import MOST_FILES, WITH_FEW_FILES
from tests.serving import RunningService
from tests.toy import publish_toy

pytestmark = pytest.mark.living

WITH_FEW_CONNECTIONS = f"""
import runpy
from service.process import descriptors
descriptors.MOST_OPEN = {MOST_FILES}
runpy.run_module("service", run_name="__main__")
"""
PROBE = b"GET /readyz HTTP/1.1\r\nhost: x\r\n\r\n"
SAMPLE = b"POST /v1/models/toy-vae/sample HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n%b\r\n"
OK, BUSY, CONTINUE = (b"HTTP/1.1 %b" % status for status in (b"200 ", b"503 ", b"100 "))


def serving(models: Path, *options: str, program: str = WITH_FEW_FILES) -> RunningService:
    publish_toy(models)
    return RunningService(models, "--poll-seconds", "0", *options, program=("-c", program))


@pytest.fixture(params=[WITH_FEW_FILES, WITH_FEW_CONNECTIONS], ids=["files", "connections"])
def service(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[RunningService]:
    patient = "--idle-seconds", "3600", "--deadline-seconds", "3600"
    running = serving(tmp_path, "--metrics-port", "0", *patient, program=request.param)
    try:
        yield running.wait_until_ready()
    finally:
        running.stop()


def asked(connection: socket.socket, request: bytes) -> bytes:
    """The head of the answer, which comes in one piece."""
    connection.sendall(request)
    return connection.recv(65_536)


def asked_anew(service: RunningService, request: bytes) -> bytes:
    """All that is answered on a connection of its own until the service closes it, or the first piece."""
    with service.connect() as connection:
        return asked(connection, request)


def test_connections_that_have_been_idle_for_the_longest_make_room_for_new_ones(
    service: RunningService,
) -> None:
    with ExitStack() as stack:
        idle = [stack.enter_context(service.connect())]
        for _ in range(2 * MOST_FILES):
            assert asked(idle[-1], SAMPLE % b"" + b"{}").startswith(OK)
            idle.append(stack.enter_context(service.connect()))
        for connection in idle[:MOST_FILES]:
            assert connection.recv(1) == b""
        for connection in idle[-MOST_FILES // 2 :]:
            assert asked(connection, PROBE).startswith(OK)


def test_where_all_are_at_work_probes_are_answered_and_other_requests_told_to_come_back(
    service: RunningService,
) -> None:
    metrics_url = service.metrics_url
    waits_for_its_body = SAMPLE % b"expect: 100-continue\r\n"
    with ExitStack() as stack:
        at_work = []
        while (
            came := asked(connection := stack.enter_context(service.connect()), waits_for_its_body)
        ).startswith(CONTINUE):
            at_work.append(connection)
        assert came.startswith(BUSY)
        assert len(at_work) > MOST_FILES // 2
        silent, answers = [], []
        for _ in range(MOST_FILES // 3):  # more than are kept
            silent.append(stack.enter_context(service.connect()))
            assert asked_anew(service, PROBE).startswith(OK)
            assert httpx.get(metrics_url).status_code == 200
            answers.append(asked_anew(service, waits_for_its_body))
        # a file that was open before may have made room for one
        refused = [answer for answer in answers if not answer.startswith(CONTINUE)]
        assert len(refused) > MOST_FILES // 4
        for answer in refused:
            assert answer.startswith(BUSY)
            assert b"\r\nretry-after: 1\r\n" in answer
            assert b"\r\nconnection: close\r\n" in answer
        assert silent[0].recv(1) == b""
        assert all(asked(connection, b"{}").startswith(OK) for connection in at_work)
        assert asked_anew(service, SAMPLE % b"" + b"{}").startswith(OK)


GRPC_BEGIN = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes((0, 0, 0, 4, 0, 0, 0, 0, 0))


@pytest.mark.parametrize("begin", [b"", GRPC_BEGIN])
def test_connections_of_grpc_leave_files_for_those_of_http_and_go_if_they_are_idle(
    tmp_path: Path, begin: bytes
) -> None:
    short = "--idle-seconds", "2", "--keep-alive-seconds", "2"
    service = serving(tmp_path, "--grpc-port", "0", *short)
    try:
        service.wait_until_ready()
        host, port = service.grpc_address.split(":")
        with ExitStack() as stack:
            idle = []
            for _ in range(2 * MOST_FILES):
                idle.append(stack.enter_context(socket.create_connection((host, int(port)), timeout=30)))
                with suppress(ConnectionError):  # closed already
                    idle[-1].sendall(begin)
            for request in (PROBE, SAMPLE % b"" + b"{}"):
                assert asked_anew(service, request).startswith(OK)
            for connection in idle:
                with suppress(ConnectionError):
                    while connection.recv(65_536):
                        pass
    finally:
        service.stop()


@pytest.mark.parametrize("processes", [1, 2])
def test_a_limit_that_is_too_low_for_a_start_is_told_in_one_line_with_the_least_that_will_do(
    tmp_path: Path, processes: int
) -> None:
    least = 48 + 5 * processes

    def limited(most: int) -> tuple[str, str]:
        return "-c", WITH_FEW_FILES.replace(str(MOST_FILES), str(most))

    options = ["--models", str(tmp_path), "--processes", str(processes)]
    refused = subprocess.run([sys.executable, *limited(least - 1), *options], capture_output=True, text=True)
    assert refused.returncode == 2
    assert f"needs at least {least}" in refused.stderr
    assert len(refused.stderr.splitlines()) == 1
    publish_toy(tmp_path)
    running = RunningService(tmp_path, processes=processes, program=limited(least))
    try:
        running.wait_until_ready()
    finally:
        running.stop()
