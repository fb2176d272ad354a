"""A server for tests of the harness: it answers rightly until it is told not to."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import orjson

from tests.serving import as_npy

from .dialects import NaiveDialect
from .models import Model
from .servers import Target
from .workloads import WORKLOADS


class Fickle(ThreadingHTTPServer):
    """A server that samples one model as the naive server does, keeps all bodies, and obeys its `mood`."""

    daemon_threads = True

    def __init__(self, model: Model) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.model = model
        self.dialect = NaiveDialect({model.manifest.name: model})
        self.bodies: list[bytes] = []
        self.mood = "right"

    def answer(self, body: bytes) -> bytes:
        """Return samples by the seed in the body, or by another one in the mood `wrong`."""
        self.bodies.append(body)
        seed = orjson.loads(body)["seed"] + (self.mood == "wrong")
        single = WORKLOADS[0]
        samples = self.model.values("sample", self.dialect.feeds(single, seed, 0))
        return as_npy(samples)[: 10 if self.mood == "short" else None]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Fickle

    def do_POST(self) -> None:
        body = self.server.answer(self.rfile.read(int(self.headers["content-length"])))
        self.send_response(500 if self.server.mood == "failing" else 200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Says nothing."""


@contextmanager
def fickle_server(model: Model) -> Iterator[tuple[Fickle, Target]]:
    """The server in a thread, and how the bench sees it."""
    with Fickle(model) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server, Target("fickle", f"http://127.0.0.1:{server.server_port}", server.dialect)
        server.shutdown()
        thread.join()
