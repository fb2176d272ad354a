"""A relay before a server, which writes down what clients put on the wire."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass


@dataclass(frozen=True)
class Sent:
    """One HTTP request, as it was sent."""

    line: str
    headers: dict[str, str]
    body: bytes


class Recorder:
    """Relays connections to a server; `take` gives what was sent since it was last asked."""

    def __init__(self, server: str) -> None:
        host, port = server.split(":")
        self._server = (host, int(port))
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self._bytes: list[bytes] = []
        self._sockets: list[socket.socket] = [self._listener]
        threading.Thread(target=self._accept, daemon=True).start()

    def take(self) -> list[Sent]:
        """The requests since; each has a Content-Length, or no body."""
        raw, requests = b"".join(self._bytes), []
        self._bytes.clear()
        while raw:
            head, _, raw = raw.partition(b"\r\n\r\n")
            line, *rest = head.decode().split("\r\n")
            headers = dict(field.split(": ", 1) for field in rest)
            length = int(headers.get("Content-Length", 0))
            requests.append(Sent(line, headers, raw[:length]))
            raw = raw[length:]
        return requests

    def close(self) -> None:
        """Ends all connections."""
        for each in self._sockets:
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(self._server)
                self._sockets += (client, server)
                threading.Thread(target=self._relay, args=(client, server, True), daemon=True).start()
                threading.Thread(target=self._relay, args=(server, client, False), daemon=True).start()

    def _relay(self, source: socket.socket, sink: socket.socket, note: bool) -> None:
        with suppress(OSError):
            while data := source.recv(65_536):
                if note:
                    self._bytes.append(data)
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)


@contextmanager
def recorder(server: str) -> Iterator[Recorder]:
    """A relay to the server at HOST:PORT, closed on the way out."""
    relay = Recorder(server)
    try:
        yield relay
    finally:
        relay.close()
