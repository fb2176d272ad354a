"""Sockets that servers listen on, shared by replicas, and the server of the metrics' own port."""

from __future__ import annotations

import logging
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from socketserver import ThreadingMixIn
from threading import Thread
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from prometheus_client import make_wsgi_app

from service.errors import CannotListen
from service.observe.metrics import Metrics

log = logging.getLogger(__name__)


def bind_socket(host: str, port: int, *, shared: bool = False) -> socket.socket:
    """Bind a TCP socket to an IP address and a port (0: any free one); it does not listen yet.

    Sockets of the same user may share an address if all of them are `shared`: Linux then gives every new
    connection to one of those that listen, by a hash of its two ends.

    Raises:
        CannotListen: the address is in use, or the system does not allow it.
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
def hold_address(host: str, port: int) -> Iterator[socket.socket]:
    """Hold an address by a shared socket that never listens, for the sockets that will.

    Raises:
        CannotListen: as by `bind_socket`, also if another server listens there on a shared socket.
    """
    # first without sharing, because only such a socket is refused where another server listens
    with bind_socket(host, port) as alone:
        holder = bind_socket(host, alone.getsockname()[1], shared=True)
    with holder:
        yield holder


def url_of(listener: socket.socket) -> str:
    """Return the URL of a bound socket."""
    host, port, *_ = listener.getsockname()
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def serve_metrics(metrics: Metrics, listener: socket.socket) -> None:
    """Answer every GET on a bound socket with the metrics, in a thread, until the process ends."""
    server = _MetricsServer(listener)
    server.set_app(make_wsgi_app(metrics.merged()))
    Thread(target=server.serve_forever, name="metrics", daemon=True).start()
    log.info("metrics on %s/metrics", url_of(listener))


class _MetricsHandler(WSGIRequestHandler):
    timeout = 10.0  # longest pause of a scrape, in seconds; then its thread ends

    def log_message(self, format: str, *args: object) -> None:
        """Do not log scrapes."""


class _MetricsServer(ThreadingMixIn, WSGIServer):
    daemon_threads = True

    def __init__(self, listener: socket.socket) -> None:
        self.address_family = listener.family
        host, port, *_ = listener.getsockname()
        super().__init__((host, port), _MetricsHandler, bind_and_activate=False)
        self.socket.close()
        self.socket = listener
        self.server_name, self.server_port = host, port
        self.setup_environ()
        self.server_activate()
