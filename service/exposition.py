"""The metrics on a port and threads of their own, so that a stuck event loop can be seen to be stuck."""

from __future__ import annotations

import logging
import socket
from socketserver import ThreadingMixIn
from threading import Thread
from typing import Final
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from prometheus_client import make_wsgi_app

from service.address import url_of
from service.metrics import Metrics

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
