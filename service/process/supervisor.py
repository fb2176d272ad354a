"""The supervisor: starts, watches, restarts and stops several replicas of the service on one port.

The parent imports all that a replica needs, so that replicas, which are its forks, start at once and share
these pages. It never makes a session, an event loop or a thread itself: a fork would not have them.
"""

from __future__ import annotations

import gc
import logging
import math
import signal
import socket
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from dataclasses import dataclass, field
from multiprocessing import current_process, get_context
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, Final, TypeAlias

from service.app import create_app
from service.errors import CannotListen, ServiceError
from service.observe.metrics import Metrics
from service.observe.shared_values import drop_gauges, share_values, shared_folder
from service.process.balance import Balance, Share
from service.process.ports import bind_socket, hold_address, serve_metrics, url_of
from service.process.pulse import Pulse
from service.process.server import Server, stop_signals
from service.settings import Settings

RELAPSE_SECONDS: Final = 60.0
"""A replica that dies again within this time is restarted after growing delays."""
LONGEST_DELAY_SECONDS: Final = 30.0
Pipe: TypeAlias = "Connection[Any, Any]"  # generic in the stubs alone
log = logging.getLogger(__name__)


class ReplicaFailed(Exception):
    """A replica ended before it ever served; the message says why, to the person who starts the service."""


@dataclass(slots=True)
class Backoff:
    """The delays before a replica that died is started again."""

    _died_at: float = -math.inf
    _delay_seconds: float = 0.0

    def delay_seconds(self, now: float) -> float:
        """Return the delay after a death at `now`: 0, or 1, 2, 4, ... if deaths follow in RELAPSE_SECONDS."""
        relapse = now - self._died_at < RELAPSE_SECONDS
        self._died_at = now
        self._delay_seconds = min(2 * self._delay_seconds or 1.0, LONGEST_DELAY_SECONDS) if relapse else 0.0
        return self._delay_seconds


@dataclass(slots=True)
class Replica:
    """One replica: its current process, if any, and the time when the next may start."""

    settings: Settings
    folder: Path
    """The folder in which all replicas keep the values of their metrics."""
    number: int
    share: Share
    process: BaseProcess | None = None
    pipe: Pipe | None = None
    pulse: Pulse | None = None
    serves: bool = False
    has_served: bool = False
    """True if any process of this replica ever served."""
    reason: str = ""
    start_at: float = 0.0
    backoff: Backoff = field(default_factory=Backoff)

    def start(self, pipes: list[Pipe], *, others_serve: bool) -> None:
        """Fork a process, which closes its copies of the parent's `pipes`; there is none if that fails."""
        self.reason = ""
        try:
            self.pulse = Pulse(self.settings.silent_seconds)
            self.pipe, end = get_context("fork").Pipe()
            with end:
                process = get_context("fork").Process(
                    target=self._serve,
                    args=(end, [*pipes, self.pipe]),
                    kwargs={"others_serve": others_serve},
                    name=f"replica-{self.number}",
                    daemon=True,
                )
                process.start()
        except OSError as error:  # no more processes, files or memory may be had
            self._ended(f"replica {self.number} could not be started: {error.strerror}")
        else:
            self.process = process

    def _serve(self, parent: Pipe, pipes: list[Pipe], *, others_serve: bool) -> None:
        """Serve in the new process; exit with status 2 after reporting to the parent why it cannot."""
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGINT, signal.SIGHUP):  # they reach all; the parent passes them on
            signal.signal(number, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        for pipe in pipes:
            pipe.close()
        share_values(self.folder, self.number)
        try:
            metrics, settings = Metrics(self.folder), self.settings
        except OSError as error:
            parent.send(f"the metrics cannot be kept in {self.folder}: {error.strerror}")
            sys.exit(2)
        if self.has_served:
            metrics.replica_restarts.inc()
            if settings.trial == "hot":  # a version that arrived later may have killed the process before
                settings = settings.model_copy(update={"trial": "always"})
        try:
            if settings.metrics_port is not None:
                serve_metrics(metrics, bind_socket(settings.host, settings.metrics_port, shared=True))
            app = create_app(settings, metrics, loads_first=True, others_serve=others_serve)
            listener = bind_socket(settings.host, settings.port, shared=True)
            server = Server(app, settings, parent, self.pulse, self.share)
        except (ServiceError, CannotListen) as error:
            parent.send(error.detail if isinstance(error, ServiceError) else str(error))
            sys.exit(2)
        server.run(sockets=[listener])

    def read_status(self) -> None:
        """Read the message of the process: None once it serves, else the reason why it cannot."""
        assert self.pipe is not None
        try:
            self.reason = self.pipe.recv() or ""
        except (EOFError, OSError):  # it is dead, which its sentinel shows too
            return
        self.serves = not self.reason
        self.has_served = self.has_served or self.serves

    def stop(self, *, now: bool) -> None:
        """Make the process drain; kill it if `now`, or if it does not serve yet."""
        if self.pipe is not None:
            self.pipe.close()
            self.pipe = None
        if self.process is not None and (now or not self.serves):
            self.process.kill()

    def kill_if_silent(self) -> None:
        """Kill the process if its event loop has not run for too long, be it because it cannot end."""
        if self.process is not None and self.pulse is not None and self.pulse.is_silent(time.monotonic()):
            self.reason = self.reason or (
                f"replica {self.number} stood still for {self.settings.silent_seconds:g} s, and was killed"
            )
            self.process.kill()

    def drain_if_failing(self, *, others_serve: bool) -> None:
        """Make the process drain if its computations have failed for too long, unless others are missing."""
        if self.pulse is None or self.pipe is None or not self.serves:
            return
        if self.pulse.is_failing(time.monotonic()) and others_serve:
            self.reason = (
                f"the computations of replica {self.number} failed, or did not end, for "
                f"{self.settings.silent_seconds:g} s, and it was stopped"
            )
            self.stop(now=False)

    def reap(self) -> None:
        """Clear up after a process that has ended; `reason` says how it ended unless it said why."""
        assert self.process is not None
        if self.pipe is not None and not self.serves:
            self.read_status()
        self.process.join()
        code = self.process.exitcode or 0
        how = f"by {signal.Signals(-code).name}" if code < 0 else f"with status {code}"
        self._ended(self.reason or f"replica {self.number} ended {how}")
        drop_gauges(self.folder, self.number)

    def _ended(self, reason: str) -> None:
        """Note that there is no process, and when the next may start."""
        if self.pipe is not None:
            self.pipe.close()
        self.process, self.pipe, self.pulse, self.serves, self.reason = None, None, None, False, reason
        self.share.hand_over()
        now = time.monotonic()
        self.start_at = now + self.backoff.delay_seconds(now)


def supervise(settings: Settings, replicas: int) -> None:
    """Serve with several replicas until SIGTERM, SIGINT or SIGHUP, and then until all have drained.

    A second SIGTERM or SIGINT ends them at once.

    Raises:
        CannotListen: the address is not available.
        ReplicaFailed: a replica could not begin to serve; the others have been stopped.
    """
    current_process().name = "supervisor"
    with (
        hold_address(settings.host, settings.port) as address,
        _held(settings.host, settings.metrics_port) as metrics_address,
        _held(settings.host, settings.grpc_port),
        shared_folder() as folder,
        _signal_socket() as signals,
        closing(Balance(replicas)) as balance,
    ):
        metrics_port = None if metrics_address is None else metrics_address.getsockname()[1]
        own = settings.for_one_replica(replicas, address.getsockname()[1], metrics_port)
        gc.collect()
        gc.freeze()  # later collections would write to the pages that the forks share
        all_replicas = [
            Replica(own, folder, number, Share(balance, number - 1)) for number in range(1, replicas + 1)
        ]
        Supervisor(all_replicas, url_of(address, tls=settings.tls_certificate is not None)).run(signals)


def _held(host: str, port: int | None) -> AbstractContextManager[socket.socket | None]:
    return nullcontext() if port is None else hold_address(host, port)


class Supervisor:
    """Keeps replicas alive. Call `run` once."""

    def __init__(self, replicas: list[Replica], url: str) -> None:
        self._replicas = replicas
        self._url = url
        self._announced = False
        self._stopping = False
        self._failure = ""

    def run(self, signals: socket.socket) -> None:
        """Supervise until a signal's number comes from the socket and all have drained.

        Raises:
            ReplicaFailed: as by `supervise`.
        """
        while not self._stopping or any(replica.process is not None for replica in self._replicas):
            self._start_what_is_due()
            ready = wait([signals, *self._watched()], self._idle_seconds())
            self._end_the_unhealthy()
            for number in signals.recv(64) if signals in ready else b"":
                if not (self._stopping and number == signal.SIGHUP):
                    self._stop()
            self._hear(ready)
        if self._failure:
            raise ReplicaFailed(self._failure)

    def _start_what_is_due(self) -> None:
        for replica in self._replicas:
            if not self._stopping and replica.process is None and replica.start_at <= time.monotonic():
                replica.start(
                    [other.pipe for other in self._replicas if other.pipe is not None],
                    others_serve=any(other.serves for other in self._replicas),
                )
                if replica.process is None:
                    self._report_end(replica)

    def _end_the_unhealthy(self) -> None:
        for replica in self._replicas:
            replica.kill_if_silent()
            # one at a time, so that a version that always fails takes no more away than it has to
            others = (other for other in self._replicas if other is not replica)
            replica.drain_if_failing(others_serve=all(other.serves and other.pipe for other in others))

    def _hear(self, ready: Sequence[Any]) -> None:
        """Read the messages of replicas, and clear up after those that ended; `ready` are their ends."""
        for replica in self._replicas:
            if replica.pipe in ready:
                replica.read_status()
                self._announce(replica)
            if replica.process is not None and replica.process.sentinel in ready:
                replica.reap()
                self._report_end(replica)

    def _watched(self) -> Iterator[Any]:
        for replica in self._replicas:
            if replica.process is not None:
                yield replica.process.sentinel
            if replica.pipe is not None and not replica.serves:
                yield replica.pipe

    def _idle_seconds(self) -> float | None:
        """Return the time until a replica is due to start, or its pulse to be looked at."""
        now = time.monotonic()
        due = [replica.pulse.interval_seconds for replica in self._replicas if replica.pulse is not None]
        if not self._stopping:
            due += [max(0.0, replica.start_at - now) for replica in self._replicas if replica.process is None]
        return min(due, default=None)

    def _announce(self, replica: Replica) -> None:
        if self._announced and replica.serves:
            log.info("replica %d serves again", replica.number)
        elif all(other.serves for other in self._replicas):
            self._announced = True
            log.info("%d replicas running on %s (Ctrl-C to quit)", len(self._replicas), self._url)

    def _report_end(self, replica: Replica) -> None:
        """Log why a replica has no process; if it never served, that ends the service."""
        if self._stopping:
            return
        if replica.has_served:
            delay = max(0.0, replica.start_at - time.monotonic())
            log.warning("%s; it is restarted in %.0f s", replica.reason, delay)
        else:
            self._failure = replica.reason
            self._stop()

    def _stop(self) -> None:
        """Make all replicas drain; at the second call, end them."""
        for replica in self._replicas:
            replica.stop(now=self._stopping)
        self._stopping = True


@contextmanager
def _signal_socket() -> Iterator[socket.socket]:
    """Yield a socket that receives the number of each signal to stop at, so that `wait` can watch them."""
    receiver, sender = socket.socketpair()
    sender.setblocking(False)  # as Python's signal handler needs it
    with receiver, sender:
        signal.set_wakeup_fd(sender.fileno())
        for number in stop_signals():
            signal.signal(number, lambda *_: None)
        yield receiver
        signal.set_wakeup_fd(-1)
