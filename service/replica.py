"""One replica of several: what its process does, and its place in the parent, where the next may follow it.

A pipe joins both. On it the replica says that it serves, or why it cannot; the parent says nothing, but once
its end is closed, by itself or by its death, the replica drains as one process does at SIGTERM.
"""

from __future__ import annotations

import signal
import sys
import time
from dataclasses import dataclass, field
from multiprocessing import get_context
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, Final, TypeAlias

from service.address import CannotListen, bound
from service.app import create_app
from service.errors import ServiceError
from service.exposition import expose
from service.metrics import Metrics
from service.server import server_for
from service.settings import Settings
from service.shared_values import forget_gauges, keep_values_in

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
