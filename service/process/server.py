"""uvicorn with a drain at SIGTERM, for a single process and for a replica."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import socket
from collections.abc import Iterator
from multiprocessing.connection import Connection

import uvicorn

from service.api.probes import Lifecycle
from service.api.problems import raw_problem
from service.app import Service
from service.process.ports import url_of
from service.process.protocol import bounded_protocol
from service.settings import Settings

log = logging.getLogger(__name__)


def server_for(service: Service, settings: Settings, parent: Connection | None = None) -> Server:
    """Make the server of the service, to be run on bound sockets; that of a replica if it has a parent."""
    config = uvicorn.Config(
        service.app,
        loop="uvloop",
        http=bounded_protocol(settings.max_header_bytes, settings.idle_seconds, raw_problem),
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
        return ReplicaServer(config, service.lifecycle, settings.drain_delay_seconds, parent)
    return Server(config, service.lifecycle, settings.drain_delay_seconds)


class Server(uvicorn.Server):
    """Drains at the first SIGTERM or SIGINT: not ready, serves for the delay, exits with 0.

    At a second signal it exits at once.
    """

    _signals: tuple[signal.Signals, ...] = (signal.SIGTERM, signal.SIGINT)

    def __init__(self, config: uvicorn.Config, lifecycle: Lifecycle, drain_delay_seconds: float) -> None:
        super().__init__(config)
        self._lifecycle = lifecycle
        self._drain_delay_seconds = drain_delay_seconds

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Replace uvicorn's handlers, which close the listener at once and exit by the signal."""
        loop = asyncio.get_running_loop()
        for number in self._signals:
            loop.add_signal_handler(number, self._stop)
        try:
            yield
        finally:
            for number in self._signals:
                loop.remove_signal_handler(number)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, and log the address."""
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
    """Reports to its parent that it serves; drains and exits once the parent closes its end of the pipe.

    It drains at SIGTERM too, so that a replica can be replaced by hand. It drains only once, because a signal
    to the process group reaches both the replica and its parent.
    """

    _signals = (signal.SIGTERM,)

    def __init__(
        self, config: uvicorn.Config, lifecycle: Lifecycle, drain_delay_seconds: float, parent: Connection
    ) -> None:
        super().__init__(config, lifecycle, drain_delay_seconds)
        self._parent = parent

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Replace uvicorn's handlers; SIGINT stays ignored."""
        loop = asyncio.get_running_loop()
        loop.add_reader(self._parent.fileno(), self._parent_left)
        with super().capture_signals():
            yield
        loop.remove_reader(self._parent.fileno())

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, and report to the parent unless it is gone."""
        await uvicorn.Server.startup(self, sockets)
        with contextlib.suppress(OSError):
            self._parent.send(None)

    def _parent_left(self) -> None:
        asyncio.get_running_loop().remove_reader(self._parent.fileno())
        self._stop()

    def _stop(self) -> None:
        if not self._lifecycle.draining:
            self._drain()
