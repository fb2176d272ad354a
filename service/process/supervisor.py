"""Several replicas of the service on one port: started, watched, restarted and stopped by their parent.

The parent has imported all that a replica needs, so that replicas, which are its forks, start at once and
share these pages. It never makes a session, an event loop or a thread itself: a fork would not have them.
"""

from __future__ import annotations

import gc
import logging
import signal
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing import current_process, get_context
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final, TypeAlias

from service.app import create_app
from service.errors import CannotListen, ServiceError
from service.observe.metrics import Metrics, forget_gauges, keep_values_in
from service.process.ports import bound, expose, held, url_of
from service.process.server import server_for
from service.settings import Settings

RELAPSE_SECONDS: Final = 60.0
"""A replica that dies again within this time is restarted later and later."""
LONGEST_DELAY_SECONDS: Final = 30.0
Pipe: TypeAlias = "Connection[Any, Any]"  # generic in the stubs alone


@dataclass(slots=True)
class Backoff:
    """How long to wait before a replica that died is started again."""

    _died_at: float | None = None
    _relapses: int = 0

    def delay_seconds(self, now: float) -> float:
        """After a death at that time: 0; but 1, 2, 4, ... while one follows another in RELAPSE_SECONDS."""
        relapse = self._died_at is not None and now - self._died_at < RELAPSE_SECONDS
        self._relapses = self._relapses + 1 if relapse else 0
        self._died_at = now
        return min(2.0 ** (self._relapses - 1), LONGEST_DELAY_SECONDS) if relapse else 0.0


@dataclass(slots=True)
class Replica:
    """The place of one replica: its process, while there is one, and when the next may start."""

    settings: Settings
    folder: Path
    """Where all replicas keep the values of their metrics."""
    number: int
    process: BaseProcess | None = None
    pipe: Pipe | None = None
    serves: bool = False
    has_served: bool = False
    """Whether any process of this place ever served."""
    reason: str = ""
    start_at: float = 0.0
    backoff: Backoff = field(default_factory=Backoff)

    def start(self, pipes: list[Pipe]) -> None:
        """Forks a process, which closes its copies of those pipes' ends: they are the parent's alone."""
        self.pipe, end = get_context("fork").Pipe()
        self.reason = ""
        self.process = get_context("fork").Process(
            target=_serve,
            args=(self.settings, self.folder, self.number, self.has_served, end, [*pipes, self.pipe]),
            name=f"replica-{self.number}",
            daemon=True,
        )
        self.process.start()
        end.close()

    def hear(self) -> None:
        """Takes what the process says: None once it serves, else why it cannot."""
        assert self.pipe is not None
        try:
            self.reason = self.pipe.recv() or ""
        except (EOFError, OSError):  # it is dead, of which its sentinel tells, too
            return
        self.serves = not self.reason
        self.has_served = self.has_served or self.serves

    def stop(self) -> None:
        """Has the process drain; one that does not serve yet has nothing to drain and is ended."""
        if self.process is None:
            return
        if self.pipe is not None:
            self.pipe.close()
            self.pipe = None
        if not self.serves:
            self.process.kill()

    def kill(self) -> None:
        """Ends the process at once."""
        if self.process is not None:
            self.process.kill()

    def bury(self) -> None:
        """Clears the place of a process that has ended; `reason` tells how, if the process did not."""
        assert self.process is not None
        if self.pipe is not None:
            if not self.serves:
                self.hear()  # its last words
            self.pipe.close()
        self.process.join()
        code = self.process.exitcode or 0
        how = f"by {signal.Signals(-code).name}" if code < 0 else f"with status {code}"
        self.reason = self.reason or f"replica {self.number} ended {how}"
        self.process, self.pipe, self.serves = None, None, False
        forget_gauges(self.folder, self.number)
        now = time.monotonic()
        self.start_at = now + self.backoff.delay_seconds(now)


def _serve(
    settings: Settings, folder: Path, number: int, restarted: bool, parent: Pipe, pipes: list[Pipe]
) -> None:
    """The life of a replica. It ends with status 2 when it has told its parent why it cannot serve."""
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent passes it on
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    for pipe in pipes:
        pipe.close()
    keep_values_in(folder, number)
    metrics = Metrics(folder)
    if restarted:
        metrics.replica_restarts.inc()
        if settings.trial == "hot":  # a version that came later may have killed the one before
            settings = settings.model_copy(update={"trial": "always"})
    try:
        if settings.metrics_port is not None:
            expose(metrics, bound(settings.host, settings.metrics_port, shared=True))
        app = create_app(settings, metrics, loads_first=True)
        listener = bound(settings.host, settings.port, shared=True)
    except (ServiceError, CannotListen) as error:
        parent.send(error.detail if isinstance(error, ServiceError) else str(error))
        sys.exit(2)
    server_for(app, settings, parent).run(sockets=[listener])


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
