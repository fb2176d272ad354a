"""Bytes on connections to a service, and a service that may open few of them."""

from __future__ import annotations

import socket
from http.client import HTTPConnection
from urllib.parse import urlsplit

from tests.serving import RunningService

HEALTH = b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n"
KEPT_BYTES = 2**20
MOST_FILES = 160
WITH_FEW_FILES = f"""
import resource, runpy
resource.setrlimit(resource.RLIMIT_NOFILE, ({MOST_FILES}, {MOST_FILES}))
runpy.run_module("service", run_name="__main__")
"""
"""The program of a service that may open so many files."""


def connected(service: RunningService) -> HTTPConnection:
    """A connection of its own, to whichever replica the kernel chooses."""
    return HTTPConnection(urlsplit(service.url).netloc, timeout=60)


def given_up(service: RunningService) -> float:
    """The number of clients that were given up."""
    return service.metric("pushforward_rejected_total", reason="client_gone")


def everything(connection: socket.socket) -> bytes:
    """All that comes until the service closes the connection."""
    return b"".join(iter(lambda: connection.recv(65_536), b""))


def answer(connection: socket.socket) -> tuple[bytes, bytes]:
    """Head and body of the next answer, whose length its head tells; of a long body its beginning."""
    came = b""
    while b"\r\n\r\n" not in came:
        came += _more(connection)
    head, body = came.split(b"\r\n\r\n", 1)
    lines = head.lower().split(b"\r\n")
    length = next(int(line[15:]) for line in lines if line.startswith(b"content-length:"))
    missing = length - len(body)
    while missing > 0:
        piece = _more(connection)
        missing -= len(piece)
        body += piece if len(body) < KEPT_BYTES else b""
    return head, body


def _more(connection: socket.socket) -> bytes:
    came = connection.recv(2**20)
    assert came, "the service hung up amid an answer"
    return came
