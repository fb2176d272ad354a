"""Requests that are not as they should be, and clients that leave, stop reading, or say nothing."""

from __future__ import annotations

import contextlib
import gzip
import json
import socket
import time
from collections.abc import Callable, Iterator, Mapping

import grpc

from tests.soak.asking import Client, Question
from tests.soak.good import NPY, PNG

LEFT = frozenset(["left"])
_MOST_READ = 2**20


def bad_questions(picture: str, idle_seconds: float) -> Iterator[Question]:
    """Questions to a VAE of 8 x 8 pictures, by clients of every bad kind."""
    path = f"/v1/models/{picture}"
    yield from _refused(path, picture)
    for name, raw, status in (
        ("no HTTP", b"nonsense\r\n\r\n", "400"),
        (
            "two lengths",
            b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n",
            "400",
        ),
        ("many headers", b"GET / HTTP/1.1\r\nhost: x\r\n" + b"a: b\r\n" * 20_000 + b"\r\n", "431"),
        ("a tunnel", b"CONNECT x:1 HTTP/1.1\r\nhost: x\r\n\r\n", "400"),
    ):
        yield Question(name, _sent(raw), frozenset([status, "closed"]))
    stream = f"GET {path}/sample?count=200000 HTTP/1.1\r\nhost: x\r\naccept: {NPY}\r\n\r\n".encode()
    body = json.dumps({"inputs": [[[[0.5] * 8] * 8]] * 64, "draws": 2_000}).encode()
    head = f"POST {path}/score HTTP/1.1\r\nhost: x\r\ncontent-length: {len(body)}\r\n\r\n".encode()
    yield Question("leaves amid a stream", _left(stream, reads=1_000), LEFT)
    yield Question("leaves amid a body", _left(head + body[:1_000]), LEFT)
    yield Question("leaves before the answer", _left(head + body), LEFT)
    yield Question(
        "half closes",
        _half_closed(f"GET {path}/sample HTTP/1.1\r\nhost: x\r\n\r\n".encode()),
        frozenset(["200"]),
    )
    yield Question("says nothing", _waited(b"", idle_seconds), frozenset(["closed"]))
    yield Question("half a head", _waited(b"GET / HTTP/1.1\r\nhos", idle_seconds), frozenset(["closed"]))
    yield Question("half a body", _waited(head + body[:99], idle_seconds), frozenset(["504"]))
    yield Question("stops reading", _stalled(stream, idle_seconds), LEFT)
    late = {"x-request-timeout-seconds": "0.02"}
    yield Question("late", _asked("POST", f"{path}/score", body, late), frozenset(["504"]))
    yield Question("a message that is none", _called, frozenset(["INVALID_ARGUMENT"]))


def _refused(path: str, model: str) -> Iterator[Question]:
    """Whole requests that are refused."""
    grown = gzip.compress(b"[" * 2**24)
    no_rows = json.dumps({"inputs": [{"name": "inputs", "shape": [0], "datatype": "FP32", "data": []}]})
    for name, method, at, body, headers, status in (
        ("no JSON", "POST", f"{path}/sample", b'{"count": 1', {}, 400),
        ("a BOM in UTF-16", "POST", f"{path}/sample", '{"count": 1}'.encode("utf-16"), {}, 400),
        ("an unknown key", "POST", f"{path}/sample", b'{"colour": 1}', {}, 422),
        ("too many", "POST", f"{path}/sample", b'{"count": 1000000000}', {}, 422),
        ("nested", "POST", f"{path}/encode", b"[" * 50_000, {}, 400),
        ("not finite", "POST", f"{path}/encode", b'{"inputs": [[[NaN]]]}', {}, 422),
        ("a bomb", "POST", f"{path}/encode", grown, {"content-encoding": "gzip"}, 413),
        ("no npy", "POST", f"{path}/encode", b"\x93NUMPY\x01\x00", {"content-type": NPY}, 400),
        ("no picture", "POST", f"{path}/encode", b"\x89PNG\r\n\x1a\n", {"content-type": PNG}, 400),
        ("another type", "POST", f"{path}/encode", b"x", {"content-type": "text/plain"}, 415),
        ("nothing to accept", "POST", f"{path}/sample", b"", {"accept": "image/webp"}, 406),
        ("no such model", "POST", "/v1/models/absent/sample", b"", {}, 404),
        ("a path out of it", "GET", "/v1/models/..%2f..%2fetc%2fpasswd", b"", {}, 404),
        ("no such path", "GET", "/nothing", b"", {}, 404),
        ("another method", "DELETE", f"{path}/sample", b"", {}, 405),
        ("/v2 without rows", "POST", f"/v2/models/{model}.score/infer", no_rows.encode(), {}, 422),
    ):
        yield Question(name, _asked(method, at, body, headers), frozenset([str(status)]))


def _asked(method: str, path: str, body: bytes, headers: Mapping[str, str]) -> Callable[[Client], str]:
    return lambda client: str(client.ask(method, path, body, headers)[0])


def _sent(raw: bytes) -> Callable[[Client], str]:
    def ask(client: Client) -> str:
        with client.connect() as connection:
            with contextlib.suppress(OSError):  # refused while it was still sending
                connection.sendall(raw)
            return _status(connection)

    return ask


def _half_closed(raw: bytes) -> Callable[[Client], str]:
    def ask(client: Client) -> str:
        with client.connect() as connection:
            connection.sendall(raw)
            connection.shutdown(socket.SHUT_WR)
            return _status(connection)

    return ask


def _left(raw: bytes, reads: int = 0) -> Callable[[Client], str]:
    def ask(client: Client) -> str:
        with client.connect() as connection:
            connection.sendall(raw)
            if reads:
                connection.recv(reads)
            return "left"

    return ask


def _stalled(raw: bytes, seconds: float) -> Callable[[Client], str]:
    """Ask for more than sockets hold, and read none of it until the service has had enough."""

    def ask(client: Client) -> str:
        with client.connect() as connection:
            connection.sendall(raw)
            time.sleep(2 * seconds)
            return "left"

    return ask


def _waited(raw: bytes, seconds: float) -> Callable[[Client], str]:
    """Send so much and no more, and wait for what the service does."""

    def ask(client: Client) -> str:
        with client.connect() as connection:
            connection.settimeout(10 * seconds)
            connection.sendall(raw)
            return _status(connection)

    return ask


def _status(connection: socket.socket) -> str:
    """The status of the last answer that comes; `closed` if the connection is closed without one."""
    came = b""
    with contextlib.suppress(ConnectionError):
        while piece := connection.recv(65_536):
            came += piece if len(came) < _MOST_READ else b""
            if came.startswith(b"HTTP/1.1 200") and b"\r\n\r\n" in came:
                break
    lines = [line for line in came.split(b"\r\n") if line.startswith(b"HTTP/1.1 ")]
    lines = [line for line in lines if not line.startswith(b"HTTP/1.1 100")]
    return lines[-1].split()[1].decode() if lines else "closed"


def _called(client: Client) -> str:
    infer = client.rpc.unary_unary("/inference.GRPCInferenceService/ModelInfer")
    try:
        infer(b"\xff" * 100, timeout=60)
    except grpc.RpcError as error:
        return str(error.code().name)
    return "OK"
