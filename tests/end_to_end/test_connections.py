"""Connections: readers that stop, requests one upon the other, heads and trailers that take their time."""

import contextlib
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.end_to_end.connections import HEALTH, answer, everything, given_up
from tests.serving import RunningService, running_service
from tests.waiting import wait_until

pytestmark = pytest.mark.living

IDLE_SECONDS = 0.6
"""Long enough for a test that others keep from running, and shorter than the stream takes."""
STREAM = (
    b"GET /v1/models/digits-vae/sample?count=300000&seed=1 HTTP/1.1\r\n"
    b"host: x\r\naccept: application/x-npy\r\n\r\n"
)


@pytest.fixture(scope="module")
def impatient(models: Path) -> Iterator[RunningService]:
    """A service that gives everything up soon."""
    with running_service(models, "--idle-seconds", str(IDLE_SECONDS)) as service:
        yield service


def test_a_slow_reader_is_given_up_and_a_steady_one_is_not(impatient: RunningService) -> None:
    before = given_up(impatient)
    with impatient.connect() as stalled, impatient.connect() as steady:
        stalled.sendall(STREAM)
        steady.sendall(STREAM)
        answer(steady)
        assert wait_until(lambda: given_up(impatient) - before) == 1


def test_who_hangs_up_is_not_computed_for_though_another_request_waits_behind(
    impatient: RunningService,
) -> None:
    before = given_up(impatient)
    with impatient.connect() as connection:
        connection.sendall(STREAM + HEALTH)
        connection.recv(1)
    assert wait_until(lambda: given_up(impatient) - before) == 1


def test_half_a_head_behind_a_running_answer_does_not_cut_it(impatient: RunningService) -> None:
    with impatient.connect() as connection:
        connection.sendall(STREAM)
        connection.recv(1, socket.MSG_PEEK)
        connection.sendall(HEALTH[:9])
        begun = time.monotonic()
        answer(connection)
        assert time.monotonic() > begun + IDLE_SECONDS, "the answer was too short to be cut"
        connection.sendall(HEALTH[9:])
        head, _ = answer(connection)
        assert b" 200 " in head.split(b"\r\n")[0]


def test_an_empty_line_after_an_answer_does_not_hold_the_connection(impatient: RunningService) -> None:
    with impatient.connect() as connection:
        connection.sendall(HEALTH)
        answer(connection)
        connection.sendall(b"\r\n")
        assert connection.recv(1) == b""


def chunked(trailers: bytes) -> bytes:
    """Return a request for a sample as JSON, with its body in chunks, and then trailers."""
    head = b"POST /v1/models/digits-vae/sample HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n"
    return head + b"accept: application/json\r\n\r\n2\r\n{}\r\n0\r\n" + trailers + b"\r\n"


def test_trailers_change_no_header_of_their_request(impatient: RunningService) -> None:
    with impatient.connect() as connection:
        connection.sendall(chunked(b"accept: image/png\r\nx-request-id: late\r\n"))
        head, body = answer(connection)
        assert b"content-type: application/json" in head
        assert b"late" not in head
        assert body.startswith(b"{")


@pytest.mark.parametrize("trailers", [b"a: " + b"b" * 2**22 + b"\r\n", b"a: b\r\n" * 2**19])
def test_endless_trailers_are_not_taken(impatient: RunningService, trailers: bytes) -> None:
    with impatient.connect() as connection:
        came = b""
        with contextlib.suppress(ConnectionError):  # cut while it was still sending
            connection.sendall(chunked(trailers))
            came = everything(connection)
        assert came.count(b"HTTP/1.1 ") <= 1
    assert impatient.client.get("/healthz").status_code == 200


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"POST /v1/models/toy-vae/sample HTTP/1.1\r\nhost: x\r\ncontent-length: 50000000\r\n\r\n", 413),
        (b"POST /v1/models/absent/sample HTTP/1.1\r\nhost: x\r\ncontent-length: 50000000\r\n\r\n", 404),
        (b"POST /v1/models/toy-vae/sample HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n2;", 431),
        (b"POST /healthz HTTP/1.1\r\nhost: x\r\ncontent-length: 1, 1\r\n\r\n", 400),
    ],
)
def test_who_sends_all_before_reading_is_answered_though_it_was_not_read(
    service: RunningService, head: bytes, status: int
) -> None:
    with service.connect() as connection:
        connection.sendall(head)
        for _ in range(16):
            connection.sendall(b"a" * 2**20)
        came = everything(connection)
    assert came.startswith(b"HTTP/1.1 %d " % status)
    assert came.count(b"HTTP/1.1 ") == 1


def test_who_goes_on_sending_after_its_answer_is_cut_off(impatient: RunningService) -> None:
    with impatient.connect() as connection:
        connection.sendall(b"POST /healthz HTTP/1.1\r\nhost: x\r\ncontent-length: 1000000000000\r\n\r\n")
        came = everything(connection)
        assert came.startswith(b"HTTP/1.1 405 ")

        def is_cut_off() -> bool:
            try:
                connection.sendall(b"a" * 2**10)
            except OSError:
                return True
            return False

        assert wait_until(is_cut_off, seconds=30)
