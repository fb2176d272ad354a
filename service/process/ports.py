"""The address a server listens on: bound once, told as a URL, and shared by the replicas of one service."""

from __future__ import annotations

import logging
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from socketserver import ThreadingMixIn
from threading import Thread
from typing import Final
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from prometheus_client import make_wsgi_app

from service.errors import CannotListen
from service.observe.metrics import Metrics


def bound(host: str, port: int, *, shared: bool = False) -> socket.socket:
    """A TCP socket bound to an IP address and a port (0: any free one), which does not listen yet.

    Other sockets of the same user may bind to the same address, and listen, if all of them are `shared`:
    Linux then hands every new connection to one of those that listen, by a hash of its two ends.

    Raises:
        CannotListen: some other socket is there, or the system does not allow it.
    """
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if listener.family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise CannotListen(
            f"cannot listen on {host}, port {port}: {error.strerror}; choose another --host or --port"
        ) from error
    return listener


@contextmanager
def held(host: str, port: int) -> Iterator[socket.socket]:
    """A shared socket that never listens: it keeps the address, and its port, for those that will.

    Raises:
        CannotListen: as `bound` does, also where a server listens that would share its port.
    """
    # bound first by a socket that shares with none: only that one is refused where another server listens
    with bound(host, port) as alone:
        holder = bound(host, alone.getsockname()[1], shared=True)
    with holder:
        yield holder


def url_of(listener: socket.socket) -> str:
    """The address of a bound socket, as a browser takes it."""
    host, port, *_ = listener.getsockname()
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


_IDLE_SECONDS: Final = 10.0
"""The longest a scrape may pause; its thread ends then."""
log = logging.getLogger(__name__)


def expose(metrics: Metrics, listener: socket.socket) -> None:
    """Answers every GET on a bound socket with the metrics, for as long as the process lives."""
    server = _Server(listener)
    server.set_app(make_wsgi_app(metrics.collected()))
    Thread(target=server.serve_forever, name="metrics", daemon=True).start()
    log.info("metrics on %s/metrics", url_of(listener))


class _Handler(WSGIRequestHandler):
    timeout = _IDLE_SECONDS

    def log_message(self, format: str, *args: object) -> None:
        """Logs no scrape."""


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True

    def __init__(self, listener: socket.socket) -> None:
        self.address_family = listener.family
        host, port, *_ = listener.getsockname()
        super().__init__((host, port), _Handler, bind_and_activate=False)
        self.socket.close()
        self.socket = listener
        self.server_name, self.server_port = host, port
        self.setup_environ()
        self.server_activate()
