"""Requests that never become one: too long, or not HTTP."""

import contextlib
import re
import socket

import httpx
import pytest

from tests.end_to_end.connections import everything
from tests.serving import RunningService

TOY = "/v1/models/toy-vae"
POST = f"POST {TOY}/sample HTTP/1.1\r\nhost: x\r\n".encode()
SAME = ("content-type", "etag", "cache-control", "vary")
SAMPLE = POST + b"content-length: 11\r\n\r\n" + b'{"seed": 7}'


def answers_to(service: RunningService, request: bytes) -> bytes:
    """All that is answered to these bytes, on a connection of their own."""
    with service.connect() as connection:
        connection.sendall(request)
        with contextlib.suppress(OSError):  # the service may have hung up already, which is an answer
            connection.shutdown(socket.SHUT_WR)
        return everything(connection)


def test_a_body_over_the_limit_is_refused_by_its_length_and_by_its_bytes(service: RunningService) -> None:
    client = service.client
    head = f"POST {TOY}/sample HTTP/1.1\r\nhost: x\r\ncontent-length: {33 * 2**20}\r\n\r\n"
    declared = answers_to(service, head.encode())
    assert b" 413 " in declared.split(b"\r\n")[0]
    assert b"connection: close" in declared
    big = b" " * (33 * 2**20)
    pieces = (big[start : start + 2**20] for start in range(0, len(big), 2**20))
    with contextlib.suppress(httpx.WriteError):  # answered, and closed, before all was sent
        chunked = client.post(f"{TOY}/sample", content=pieces)
        assert (chunked.status_code, chunked.json()["code"]) == (413, "body_too_large")
    assert client.get("/healthz").status_code == 200


def test_enormous_headers_are_refused(service: RunningService) -> None:
    flood = b"GET /healthz HTTP/1.1\r\nhost: x\r\n" + b"a: b\r\n" * 20_000 + b"\r\n"
    one = b"GET /healthz HTTP/1.1\r\nhost: x\r\na: " + b"b" * 2_000_000 + b"\r\n\r\n"
    for headers in (flood, one):
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # refused while it was still sending
            assert b" 431 " in answers_to(service, headers).split(b"\r\n")[0]
    assert service.client.get("/healthz").status_code == 200


@pytest.mark.parametrize("count", [1_000, 5_000, 5_600, 8_000, 10_000])
def test_a_request_of_many_short_headers_has_one_answer(service: RunningService, count: int) -> None:
    request = b"GET /healthz HTTP/1.1\r\nhost: x\r\n" + b"a: b\r\n" * count + b"\r\n"
    answered = answers_to(service, request)
    assert answered.count(b"HTTP/1.1 ") == 1
    assert (b" 431 " in answered) == (len(request) > 32 * 2**10)


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"nonsense\r\n\r\n",
        b"GET /healthz\r\n\r\n",
        b"GET /healthz HTTP/0.9\r\n\r\n",
        b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: -5\r\n\r\n",
        b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n",
        b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 3\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nhost: x\r\nhost: y\r\n\r\n",
        b"GET /healthz HTTP/1.0\r\nhost: x\r\nhost: y\r\n\r\n",
        POST + b"content-length: 2\r\nauthorization: Bearer a\r\nauthorization: Bearer b\r\n\r\n{}",
        POST + b"content-length: 2\r\nx-api-key: a\r\nx-api-key: b\r\n\r\n{}",
        POST + b"content-length: 2\r\ncontent-type: application/json\r\ncontent-type: image/png\r\n\r\n{}",
        POST + b"content-length: 2\r\ncontent-encoding: gzip\r\ncontent-encoding: identity\r\n\r\n{}",
        POST + b"transfer-encoding: gzip\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
        POST + b"transfer-encoding: foo, chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
        POST + b"transfer-encoding: chunked\r\n\r\nx\r\n{}\r\n0\r\n\r\n",
        POST + b"transfer-encoding: chunked\r\n\r\n2\r\n{}}\r\n0\r\n\r\n",
        POST + b"transfer-encoding: chunked\r\n\r\n-2\r\n{}\r\n0\r\n\r\n",
    ],
)
def test_broken_http_is_a_400(service: RunningService, request_bytes: bytes) -> None:
    answer = answers_to(service, request_bytes)
    assert b" 400 " in answer.split(b"\r\n")[0]
    assert b"\r\nconnection: close\r\n" in answer
    assert service.client.get("/healthz").status_code == 200


@pytest.mark.parametrize(
    "broken",
    [
        b"nonsense\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\n\r\n",
        POST + b"transfer-encoding: chunked\r\n\r\nx\r\n",
        POST + b"a: " + b"b" * 40_000 + b"\r\n\r\n",
    ],
)
@pytest.mark.parametrize("before", [1, 3])
def test_requests_before_a_broken_one_are_answered_and_then_the_broken_one_is_refused(
    service: RunningService, broken: bytes, before: int
) -> None:
    answers = answers_to(service, SAMPLE * before + broken + SAMPLE)
    statuses = re.findall(rb"HTTP/1\.1 (\d+) ", answers)
    assert [status for status in statuses if status != b"100"][:-1] == [b"200"] * before
    assert statuses[-1] in (b"400", b"431")
    assert answers.count(b'"seed":7') == before


@pytest.mark.parametrize(
    ("target", "path"),
    [
        (b"http://x", "/"),
        (b"HTTP://x:80", "/"),
        (b"https://[::1]?key=1", "/?key=1"),
        (b"http://x/", "/"),
        (b"http://x/healthz", "/healthz"),
        (b"http://x//healthz", "//healthz"),
        (b"http://x/nothing?a=http://y", "/nothing?a=http://y"),
    ],
)
def test_a_target_in_absolute_form_is_that_of_its_path_and_an_empty_one_is_the_root(
    service: RunningService, target: bytes, path: str
) -> None:
    answer = answers_to(service, b"GET %b HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n" % target)
    head, body = answer.split(b"\r\n\r\n", 1)
    plain = answers_to(service, b"GET %b HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n" % path.encode())
    assert head.split(b"\r\n")[0] == plain.split(b"\r\n")[0]
    if b" 200 " in head:
        assert body == plain.split(b"\r\n\r\n", 1)[1]


@pytest.mark.parametrize("target", [b"ftp://x", b"http://", b"http://?a=1", b"x"])
def test_a_target_of_another_form_is_refused(service: RunningService, target: bytes) -> None:
    assert b" 400 " in answers_to(service, b"GET %b HTTP/1.1\r\nhost: x\r\n\r\n" % target).split(b"\r\n")[0]


@pytest.mark.parametrize("times", [1, 3])
def test_a_client_that_has_closed_its_side_gets_its_answers(service: RunningService, times: int) -> None:
    assert answers_to(service, SAMPLE * times).count(b'"seed":7') == times


def test_head_is_taken_wherever_get_is_and_has_its_headers_alone(service: RunningService) -> None:
    for path in (
        "/healthz",
        "/metrics",
        "/docs",
        "/openapi.json",
        "/v1/models",
        "/v1/models/toy-vae",
        f"{TOY}/sample?seed=7&count=4",
        f"{TOY}/versions/1/sample?seed=7",
        "/v2",
        "/v2/health/ready",
        "/v2/models/toy-vae.sample",
    ):
        got, head = service.client.get(path), service.client.head(path)
        assert (head.status_code, head.content) == (200, b""), path
        same = ("content-type", "etag", "cache-control") if path == "/metrics" else (*SAME, "content-length")
        assert {name: head.headers.get(name) for name in same} == {
            name: got.headers.get(name) for name in same
        }
    for path in (f"{TOY}/encode", "/v1/nothing", "/v2/models/toy-vae.sample/infer"):
        assert service.client.head(path).status_code in (404, 405)
    stream = f"{TOY}/sample?seed=7&count=1000000"
    head = service.client.head(stream, headers={"accept": "application/x-npy"})
    assert int(head.headers["content-length"]) > 16_000_000
