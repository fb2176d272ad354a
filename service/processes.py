"""Several replicas of the service on one port: started, watched, restarted and stopped by their parent.

The parent has imported all that a replica needs, so that replicas, which are its forks, start at once and
share these pages. It never makes a session, an event loop or a thread itself: a fork would not have them.
"""

from __future__ import annotations

import gc
import logging
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import current_process
from multiprocessing.connection import wait
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from service.address import held, url_of
from service.replica import Replica
from service.settings import Settings

log = logging.getLogger(__name__)


class ReplicaFailed(Exception):
    """A replica ended before it ever served; the message says why, to whoever starts the service."""


def supervise(settings: Settings, replicas: int) -> None:
    """Serves with so many replicas until SIGTERM or SIGINT, and then until all have drained.

    A second signal ends them at once.

    Raises:
        CannotListen: the address cannot be had.
        ReplicaFailed: one could not begin to serve; the others have been stopped.
    """
    current_process().name = "supervisor"
    with (
        held(settings.host, settings.port) as address,
        _held_for_metrics(settings) as metrics_port,
        TemporaryDirectory(prefix="pushforward-") as folder,
        _signals() as told,
    ):
        own = settings.of_one_replica(replicas, address.getsockname()[1], metrics_port)
        gc.collect()
        gc.freeze()  # later collections would write to the pages that the forks share
        places = [Replica(own, Path(folder), number) for number in range(1, replicas + 1)]
        Supervisor(places, url_of(address)).run(told)


class Supervisor:
    """Keeps replicas alive; `run` it once."""

    def __init__(self, replicas: list[Replica], url: str) -> None:
        self._replicas = replicas
        self._url = url
        self._announced = False
        self._stopping = False
        self._failure = ""

    def run(self, told: socket.socket) -> None:
        """Serves until a byte comes from the socket, and another if it is to end at once.

        Raises:
            ReplicaFailed: as `supervise` says.
        """
        while not self._stopping or self._running():
            self._start_those_due()
            ready = wait([told, *self._watched()], self._idle_seconds())
            for _ in told.recv(64) if told in ready else b"":
                self._stop()
            for replica in self._running():
                if replica.pipe in ready:
                    replica.hear()
                    self._announce(replica)
                if replica.process is not None and replica.process.sentinel in ready:
                    self._bury(replica)
        if self._failure:
            raise ReplicaFailed(self._failure)

    def _running(self) -> list[Replica]:
        return [replica for replica in self._replicas if replica.process is not None]

    def _watched(self) -> Iterator[Any]:
        for replica in self._running():
            if replica.process is not None:
                yield replica.process.sentinel
            if replica.pipe is not None and not replica.serves:
                yield replica.pipe

    def _idle_seconds(self) -> float | None:
        """How long there is nothing to do unless something happens; None if for ever."""
        due = [replica.start_at for replica in self._replicas if replica.process is None]
        return max(0.0, min(due) - time.monotonic()) if due and not self._stopping else None

    def _start_those_due(self) -> None:
        for replica in self._replicas:
            if not self._stopping and replica.process is None and replica.start_at <= time.monotonic():
                replica.start([other.pipe for other in self._running() if other.pipe is not None])

    def _announce(self, replica: Replica) -> None:
        if self._announced and replica.serves:
            log.info("replica %d serves again", replica.number)
        elif all(other.serves for other in self._replicas):
            self._announced = True
            log.info("%d replicas running on %s (Ctrl-C to quit)", len(self._replicas), self._url)

    def _bury(self, replica: Replica) -> None:
        replica.bury()
        if self._stopping:
            return
        if replica.has_served:
            delay = max(0.0, replica.start_at - time.monotonic())
            log.warning("%s; it is restarted in %.0f s", replica.reason, delay)
        else:
            self._failure = replica.reason
            self._stop()

    def _stop(self) -> None:
        """First: has all replicas drain. Second: ends them."""
        for replica in self._replicas:
            if self._stopping:
                replica.kill()
            replica.stop()
        self._stopping = True


@contextmanager
def _held_for_metrics(settings: Settings) -> Iterator[int | None]:
    """The port of the metrics, if they have one, which all replicas share like that of the API."""
    if settings.metrics_port is None:
        yield None
        return
    with held(settings.host, settings.metrics_port) as address:
        yield address.getsockname()[1]


@contextmanager
def _signals() -> Iterator[socket.socket]:
    """A socket on which every SIGTERM and SIGINT is one byte, so that they are awaited beside all else."""
    told, teller = socket.socketpair()
    teller.setblocking(False)  # as the signal's own handler needs it
    with told, teller:
        signal.set_wakeup_fd(teller.fileno())
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: None)
        yield told
        signal.set_wakeup_fd(-1)
