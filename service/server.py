"""uvicorn with bounds and a drain: header size, slow requests, and what SIGTERM means."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Iterator
from typing import Any

import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from service.api.probes import Lifecycle
from service.settings import Settings

_TOO_LARGE = (
    b'{"type":"urn:pushforward:problem:headers_too_large","title":"The headers are too large","status":431,'
    b'"detail":"the request line and headers have too many bytes","code":"headers_too_large"}'
)


def server_for(app: FastAPI, lifecycle: Lifecycle, settings: Settings) -> Server:
    """A server for the app, on the settings' address."""
    config = uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
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
    return Server(config, lifecycle, settings.drain_delay_seconds)


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

    def _stop(self) -> None:
        if self._lifecycle.draining:
            self.should_exit = self.force_exit = True
            return
        self._lifecycle.drain()
        asyncio.get_running_loop().call_later(self._drain_delay_seconds, self._close)

    def _close(self) -> None:
        self.should_exit = True


def _bounded_protocol(settings: Settings) -> type[HttpToolsProtocol]:
    """Uvicorn's HTTP protocol, which bounds neither the headers nor the time they take to arrive."""
    max_bytes, max_seconds = settings.max_header_bytes, settings.idle_seconds

    class BoundedProtocol(HttpToolsProtocol):
        _timer: asyncio.TimerHandle | None = None
        _head_bytes = 0

        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            self._begin()

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            if self._timer is not None:  # the headers have not ended yet, so all of it was headers
                self._head_bytes += len(data)
                if self._head_bytes > max_bytes:
                    self._refuse()

        def on_message_begin(self) -> None:
            super().on_message_begin()
            self._begin()

        def on_headers_complete(self) -> None:
            self._end()
            if sum(len(name) + len(value) for name, value in self.headers) + len(self.url) > max_bytes:
                self._refuse()
                return
            super().on_headers_complete()

        def connection_lost(self, exc: Exception | None) -> None:
            self._end()
            super().connection_lost(exc)

        def _begin(self) -> None:
            self._end()
            self._head_bytes = 0
            self._timer = self.loop.call_later(max_seconds, self.transport.close)

        def _end(self) -> None:
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None

        def _refuse(self) -> None:
            self._end()
            self.transport.write(
                b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-type: application/problem+json\r\n"
                b"content-length: %d\r\nconnection: close\r\n\r\n%b" % (len(_TOO_LARGE), _TOO_LARGE)
            )
            self.transport.close()

    return BoundedProtocol
