"""uvicorn with a drain at SIGTERM, for a single process and for a replica."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import socket
from collections.abc import Iterator
from functools import partial
from multiprocessing.connection import Connection
from typing import Any

import uvicorn

from service.app import Service
from service.process.balance import Share
from service.process.ports import bind_socket, url_of
from service.process.protocol import bounded_protocol
from service.process.pulse import Pulse
from service.settings import Settings

log = logging.getLogger(__name__)


def stop_signals() -> tuple[signal.Signals, ...]:
    """Return the signals at which a service drains: SIGTERM, Ctrl-C, and SIGHUP, which ends its terminal.

    A terminal may send the latter twice. Under `nohup` it is ignored, and stays so.
    """
    if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
        return signal.SIGTERM, signal.SIGINT
    return signal.SIGTERM, signal.SIGINT, signal.SIGHUP


class Server(uvicorn.Server):
    """Drains at the first SIGTERM, SIGINT or SIGHUP: not ready, serves for the delay, exits with 0.

    At a second SIGTERM or SIGINT it exits at once. Run it on bound sockets.

    A replica's server has the end of a pipe to its `parent`. It reports there that it serves, and drains and
    exits once the parent closes its end, or at SIGTERM, so that a replica can be replaced by hand; others
    stay ignored. It drains only once, because a signal to the process group reaches both processes. Its
    `pulse` beats while its event loop runs, and says whether its computations fail. Its `share` takes
    connections from other replicas.

    Raises:
        CannotListen: the port for gRPC is in use. The parent, if there is one, has checked that before.
    """

    def __init__(
        self,
        service: Service,
        settings: Settings,
        parent: Connection | None = None,
        pulse: Pulse | None = None,
        share: Share | None = None,
    ) -> None:
        if parent is None and settings.grpc_port:  # gRPC binds later, and tells of it by a traceback
            bind_socket(settings.host, settings.grpc_port).close()
        tls = service.certificate
        config = uvicorn.Config(
            service.app,
            loop="uvloop",
            http=bounded_protocol(
                settings.max_header_bytes, settings.idle_seconds, tls.context if tls else None, share
            ),
            ws="none",
            lifespan="on",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_keep_alive=settings.keep_alive_seconds,
            timeout_graceful_shutdown=settings.drain_seconds,
        )
        super().__init__(config)
        self._lifecycle = service.lifecycle
        self._drain_delay_seconds = settings.drain_delay_seconds
        self._has_tls = tls is not None
        self._parent = parent
        self._pulse = pulse
        self._share = share

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Replace uvicorn's handlers, which close the listener at once and exit by the signal."""
        loop = asyncio.get_running_loop()
        signals = (signal.SIGTERM,) if self._parent is not None else stop_signals()
        for number in signals:
            loop.add_signal_handler(number, self._drain if number == signal.SIGHUP else self._stop)
        if self._parent is not None:
            loop.add_reader(self._parent.fileno(), self._parent_left, self._parent.fileno())
        try:
            yield
        finally:
            for number in signals:
                loop.remove_signal_handler(number)
            if self._parent is not None:
                loop.remove_reader(self._parent.fileno())

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, and log the address, or report to the parent unless it is gone."""
        await super().startup(sockets)
        if self._share is not None:
            self._share.begin(self._connect, len(self.server_state.connections))
        if self._parent is not None:
            with contextlib.suppress(OSError):
                self._parent.send(None)
            if self._pulse is not None:
                self._pulse.beat(asyncio.get_running_loop(), lambda: self._lifecycle.healthy)
            return
        for listener in sockets or ():
            log.info("running on %s (Ctrl-C to quit)", url_of(listener, tls=self._has_tls))

    def _connect(self, client: socket.socket) -> None:
        """Serve a connection as if it had been accepted here."""
        loop = asyncio.get_running_loop()
        kind: Any = self.config.http_protocol_class
        protocol = partial(
            kind,
            config=self.config,
            server_state=self.server_state,
            app_state=self.lifespan.state,
            _loop=loop,
        )
        task: Any = loop.create_task(loop.connect_accepted_socket(protocol, client))
        self.server_state.tasks.add(task)
        task.add_done_callback(self.server_state.tasks.discard)

    def _stop(self) -> None:
        if self._lifecycle.draining and self._parent is None:
            self.should_exit = self.force_exit = True
        self._drain()

    def _drain(self) -> None:
        if not self._lifecycle.draining:
            self._lifecycle.drain()
            if self._share is not None:
                self._share.leave()
            asyncio.get_running_loop().call_later(self._drain_delay_seconds, self._close)

    def _parent_left(self, pipe: int) -> None:
        asyncio.get_running_loop().remove_reader(pipe)
        self._stop()

    def _close(self) -> None:
        self._lifecycle.when_closed()
        if self._share is not None:
            self._share.end(self._connect)
        self.should_exit = True
