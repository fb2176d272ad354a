"""uvicorn with bounds and a drain: header size, slow requests, and what SIGTERM means."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import socket
from collections.abc import Iterator
from multiprocessing.connection import Connection
from typing import Any

import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from service.address import url_of
from service.api.probes import Lifecycle
from service.api.problems import raw_problem
from service.settings import Settings

log = logging.getLogger(__name__)


def server_for(app: FastAPI, settings: Settings, parent: Connection | None = None) -> Server:
    """A server for the app, to be run on bound sockets; of a replica if it has a parent."""
    config = uvicorn.Config(
        app,
        loop="uvloop",
        http=_bounded_protocol(settings),
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=settings.keep_alive_seconds,
        timeout_graceful_shutdown=settings.drain_seconds,
    )
    if parent is not None:
        return ReplicaServer(config, app.state.lifecycle, settings.drain_delay_seconds, parent)
    return Server(config, app.state.lifecycle, settings.drain_delay_seconds)


class Server(uvicorn.Server):
    """First SIGTERM or SIGINT: not ready, serve on for the delay, finish, exit 0. Second: exit at once."""

    def __init__(self, config: uvicorn.Config, lifecycle: Lifecycle, drain_delay_seconds: float) -> None:
        super().__init__(config)
        self._lifecycle = lifecycle
        self._drain_delay_seconds = drain_delay_seconds

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Replaces uvicorn's handlers, which close the listener at once and exit by the signal."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop)
        try:
            yield
        finally:
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.remove_signal_handler(number)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listens, and says where."""
        await super().startup(sockets)
        for listener in sockets or ():
            log.info("running on %s (Ctrl-C to quit)", url_of(listener))

    def _stop(self) -> None:
        if self._lifecycle.draining:
            self.should_exit = self.force_exit = True
        else:
            self._drain()

    def _drain(self) -> None:
        self._lifecycle.drain()
        asyncio.get_running_loop().call_later(self._drain_delay_seconds, self._close)

    def _close(self) -> None:
        self.should_exit = True


class ReplicaServer(Server):
    """Tells its parent that it serves. Drains, and exits, once the parent's end of the pipe is closed.

    It drains at SIGTERM too, so that a replica can be replaced by hand; but however often it is told, it
    drains once, because what is sent to a whole group of processes reaches it, too, beside its parent.
    """

    def __init__(
        self, config: uvicorn.Config, lifecycle: Lifecycle, drain_delay_seconds: float, parent: Connection
    ) -> None:
        super().__init__(config, lifecycle, drain_delay_seconds)
        self._parent = parent

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Replaces uvicorn's handlers; SIGINT is left as it is, ignored."""
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, self._stop)
        loop.add_reader(self._parent.fileno(), self._parent_left)
        try:
            yield
        finally:
            loop.remove_signal_handler(signal.SIGTERM)
            loop.remove_reader(self._parent.fileno())

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listens, and tells the parent, unless that is gone."""
        await uvicorn.Server.startup(self, sockets)
        with contextlib.suppress(OSError):
            self._parent.send(None)

    def _parent_left(self) -> None:
        asyncio.get_running_loop().remove_reader(self._parent.fileno())
        self._stop()

    def _stop(self) -> None:
        if not self._lifecycle.draining:
            self._drain()


def _bounded_protocol(settings: Settings) -> type[HttpToolsProtocol]:
    """The HTTP protocol of uvicorn, with bounds on headers, on slow requests and on readers that stop."""
    max_bytes, max_seconds = settings.max_header_bytes, settings.idle_seconds

    class BoundedProtocol(HttpToolsProtocol):
        _head_timer: asyncio.TimerHandle | None = None
        _write_timer: asyncio.TimerHandle | None = None
        _head_bytes = 0
        _began = False

        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            self._head_begins()

        def data_received(self, data: bytes) -> None:
            self._began = False
            super().data_received(data)
            if self._head_timer is not None and not self._began:  # all of it was an unfinished head
                self._head_bytes += len(data)
                if self._head_bytes > max_bytes:
                    self._refuse(431, "headers_too_large", "the request line and headers have too many bytes")

        def on_message_begin(self) -> None:
            super().on_message_begin()
            self._began = True
            self._head_begins()

        def on_headers_complete(self) -> None:
            self._head_ends()
            if sum(len(name) + len(value) for name, value in self.headers) + len(self.url) > max_bytes:
                self._refuse(431, "headers_too_large", "the request line and headers have too many bytes")
            else:
                super().on_headers_complete()

        def send_400_response(self, msg: str) -> None:  # noqa: ARG002 - its text is uvicorn's, not ours
            self._refuse(400, "malformed", "the request is not HTTP as it should be")

        def pause_writing(self) -> None:
            super().pause_writing()
            self._write_timer = self.loop.call_later(max_seconds, self.transport.abort)

        def resume_writing(self) -> None:
            super().resume_writing()
            self._write_ends()

        def timeout_keep_alive_handler(self) -> None:
            if self.transport.get_write_buffer_size():  # closing would wait for a reader that is gone
                self.transport.abort()
            super().timeout_keep_alive_handler()

        def connection_lost(self, exc: Exception | None) -> None:
            self._head_ends()
            self._write_ends()
            super().connection_lost(exc)

        def _head_begins(self) -> None:
            self._head_ends()
            self._head_bytes = 0
            self._head_timer = self.loop.call_later(max_seconds, self.transport.close)

        def _head_ends(self) -> None:
            if self._head_timer is not None:
                self._head_timer.cancel()
                self._head_timer = None

        def _write_ends(self) -> None:
            if self._write_timer is not None:
                self._write_timer.cancel()
                self._write_timer = None

        def _refuse(self, status: int, code: str, detail: str) -> None:
            """Answers what never becomes a request; amid another answer, only the connection is cut."""
            self._head_ends()
            if getattr(self.cycle, "response_complete", True) is False:
                self.transport.abort()
                return
            self.transport.write(raw_problem(status, code, detail))
            self.transport.close()

    return BoundedProtocol
