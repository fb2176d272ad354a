"""Sockets that servers listen on, shared by replicas, and the server of the metrics' own port."""

from __future__ import annotations

import contextlib
import logging
import socket
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from socketserver import TCPServer, ThreadingMixIn
from threading import BoundedSemaphore, Thread
from typing import Any, Final

from service.errors import CannotListen
from service.observe.metrics import Metrics

_MOST_SCRAPES: Final = 16
"""Most connections to the metrics' port at once; each has a thread."""
_ROOM_SECONDS: Final = 1.0
"""Longest wait for the thread of a connection that was closed to make room."""
log = logging.getLogger(__name__)


def bind_socket(host: str, port: int, *, shared: bool = False) -> socket.socket:
    """Bind a TCP socket to an IP address and a port (0: any free one); it does not listen yet.

    The address :: takes connections by IPv4 too.

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
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, host != "::")
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise CannotListen(
            f"cannot listen on {host}, port {port}: {error.strerror}; choose another address or port"
        ) from error
    return listener


@contextlib.contextmanager
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


def url_of(listener: socket.socket, *, tls: bool = False) -> str:
    """Return the URL of a bound socket."""
    host, port, *_ = listener.getsockname()
    return f"{'https' if tls else 'http'}://{f'[{host}]' if ':' in host else host}:{port}"


def serve_metrics(metrics: Metrics, listener: socket.socket) -> None:
    """Answer every GET on a bound socket with the metrics, in a thread, until the process ends."""
    server = _MetricsServer(listener, metrics)
    Thread(target=server.serve_forever, name="metrics", daemon=True).start()
    log.info("metrics on %s/metrics", url_of(listener))


class _MetricsHandler(BaseHTTPRequestHandler):
    timeout = 10.0  # longest pause of a scrape, in seconds; then its thread ends
    server: _MetricsServer

    def do_GET(self) -> None:
        """Answer with the metrics, in the format that the scrape accepts."""
        self.server.silent.pop(self.connection, None)
        body, content_type = self.server.metrics.exposition(self.headers.get("accept", ""))
        self.send_response(200)
        self.send_header("content-type", content_type)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    do_HEAD = do_GET  # noqa: N815 - the name that the base class calls

    def do_POST(self) -> None:
        """Refuse it: metrics are read alone."""
        self.send_response(405)
        self.send_header("allow", "GET, HEAD")
        self.send_header("content-length", "0")
        self.end_headers()

    def send_response(self, code: int, message: str | None = None) -> None:
        """Send the status without a header that names the software."""
        self.send_response_only(code, message)

    def log_message(self, format: str, *args: object) -> None:
        """Do not log scrapes."""


class _MetricsServer(ThreadingMixIn, TCPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, listener: socket.socket, metrics: Metrics) -> None:
        super().__init__(listener.getsockname()[:2], _MetricsHandler, bind_and_activate=False)
        self.metrics = metrics
        self.silent: dict[socket.socket, None] = {}
        """The connections whose request has not come whole, the oldest first."""
        self._free = BoundedSemaphore(_MOST_SCRAPES)
        self.socket.close()
        self.socket = listener
        self.server_activate()

    def process_request(self, request: Any, client_address: Any) -> None:
        """Answer in a thread, for which the oldest connection that says nothing makes room if need be."""
        self.silent[request] = None
        if not (self._free.acquire(blocking=False) or self._make_room(request)):
            self.silent.pop(request, None)
            self.shutdown_request(request)
            return
        try:
            super().process_request(request, client_address)
        except BaseException:  # there is no thread to be had
            self._forget(request)
            raise

    def _make_room(self, request: socket.socket) -> bool:
        """Close the oldest connection that says nothing; return False if there is none, or it takes long."""
        oldest = next(iter(tuple(self.silent)))
        if oldest is request:  # all others are at work
            return False
        self.silent.pop(oldest, None)
        with contextlib.suppress(OSError):  # closed meanwhile
            oldest.shutdown(socket.SHUT_RDWR)
        return self._free.acquire(timeout=_ROOM_SECONDS)

    def handle_error(self, *_: object) -> None:
        """Log what went wrong, unless the client has left."""
        if not isinstance(sys.exception(), ConnectionError):
            log.exception("a scrape of the metrics failed")

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Answer in this thread."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._forget(request)

    def _forget(self, request: socket.socket) -> None:
        """Let another thread begin."""
        self.silent.pop(request, None)
        self._free.release()
