"""Requests that never become one: too long, or not HTTP."""

import contextlib
import socket

import httpx
import pytest

from tests.serving import RunningService

TOY = "/v1/models/toy-vae"


def test_a_body_over_the_limit_is_refused_by_its_length_and_by_its_bytes(service: RunningService) -> None:
    client = service.client
    head = f"POST {TOY}/sample HTTP/1.1\r\nhost: x\r\ncontent-length: {33 * 2**20}\r\n\r\n"
    declared = _raw(service, head.encode())
    assert b" 413 " in declared.split(b"\r\n")[0]
    assert b"connection: close" in declared
    big = b" " * (33 * 2**20)
    pieces = (big[start : start + 2**20] for start in range(0, len(big), 2**20))
    with contextlib.suppress(httpx.WriteError):  # answered, and closed, before all was sent
        chunked = client.post(f"{TOY}/sample", content=pieces)
        assert (chunked.status_code, chunked.json()["code"]) == (413, "body_too_large")
    assert client.get("/healthz").status_code == 200


def _raw(service: RunningService, request: bytes) -> bytes:
    host, port = service.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=30) as connection:
        connection.sendall(request)
        with contextlib.suppress(OSError):  # the service may have hung up already, which is an answer
            connection.shutdown(socket.SHUT_WR)
        return b"".join(iter(lambda: connection.recv(65_536), b""))


def test_enormous_headers_are_refused(service: RunningService) -> None:
    flood = b"GET /healthz HTTP/1.1\r\nhost: x\r\n" + b"a: b\r\n" * 20_000 + b"\r\n"
    assert b" 431 " in _raw(service, flood).split(b"\r\n")[0]
    one = b"GET /healthz HTTP/1.1\r\nhost: x\r\na: " + b"b" * 2_000_000 + b"\r\n\r\n"
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # refused while it was still sending
        assert b" 431 " in _raw(service, one).split(b"\r\n")[0]
    assert service.client.get("/healthz").status_code == 200


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"nonsense\r\n\r\n",
        b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: -5\r\n\r\n",
        b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n",
        b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 3\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    ],
)
def test_broken_http_is_a_400(service: RunningService, request_bytes: bytes) -> None:
    assert b" 400 " in _raw(service, request_bytes).split(b"\r\n")[0]
    assert service.client.get("/healthz").status_code == 200
