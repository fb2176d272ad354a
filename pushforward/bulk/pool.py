"""Several processes that make parts; one that dies is replaced, and its part is made again."""

from __future__ import annotations

import contextlib
import multiprocessing
import signal
import sys
from collections import Counter, deque
from collections.abc import Generator, Iterable, Sequence
from multiprocessing.connection import Connection, wait
from typing import Any, Final

from pushforward.bulk.failures import BulkError
from pushforward.bulk.maker import Job, PartMaker
from pushforward.bulk.output import PartRecord
from pushforward.bulk.signals import deferred

Outcome = PartRecord | BulkError
_IMPORTED: Final = ["pushforward.bulk.pool", "pyarrow.parquet"]
"""The modules that are imported once for all processes."""
_MOST_ATTEMPTS: Final = 3
"""Most processes that may die over one part, or before they have begun one."""


def made_here(job: Job, parts: Sequence[int]) -> Generator[Outcome, None, None]:
    """Make parts in this process, and yield the record of each, or the error why it could not be made."""
    if not parts:
        return
    maker = PartMaker(job)
    try:
        for part in parts:
            try:
                with deferred():
                    outcome: Outcome = maker.make(part)
            except BulkError as error:
                outcome = error
            yield outcome
    finally:
        maker.close()


def made_by_processes(job: Job, parts: Iterable[int], processes: int) -> Generator[Outcome, None, None]:
    """Make parts in several processes, and yield outcomes as they come.

    Raises:
        BulkError: a process could not begin, or one part ended several of them.
    """
    waiting = deque(parts)
    attempts: Counter[int | None] = Counter()
    workers = [_Worker(job) for _ in range(min(processes, len(waiting)))]
    try:
        while workers:
            for connection in wait([worker.connection for worker in workers]):
                worker = next(each for each in workers if each.connection is connection)
                try:
                    answer = worker.connection.recv()
                except (EOFError, OSError):
                    workers.remove(worker)
                    worker.end()
                    attempts[worker.part] += 1
                    if worker.part is not None:
                        waiting.appendleft(worker.part)
                    _check_attempts(worker, attempts)
                    workers.append(_Worker(job))
                    continue
                if isinstance(answer, BulkError) and worker.part is None:
                    raise answer
                if answer is not None:
                    yield answer
                if waiting:
                    worker.send(waiting.popleft())
                else:
                    workers.remove(worker)
                    worker.end()
    finally:
        for worker in workers:
            worker.end()


def _check_attempts(worker: _Worker, attempts: Counter[int | None]) -> None:
    if attempts[worker.part] < _MOST_ATTEMPTS:
        return
    status = worker.process.exitcode
    how = f"signal {-status}" if status is not None and status < 0 else f"status {status}"
    if worker.part is None:
        raise BulkError(
            f"{_MOST_ATTEMPTS} processes ended before they could begin, the last by {how}; is there memory "
            "for so many?"
        )
    raise BulkError(
        f"part {worker.part} ended {_MOST_ATTEMPTS} processes, the last by {how}; if memory is short, "
        "take fewer --processes, or an empty folder and smaller parts by --part-rows"
    )


class _Worker:
    """A process that makes the parts it is sent."""

    def __init__(self, job: Job) -> None:
        # forked from a process that has imported everything and started nothing, because the threads of
        # ONNX Runtime and of file systems in this one do not survive a fork
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(_IMPORTED)
        self.connection, theirs = context.Pipe()
        self.part: int | None = None
        """The part that it makes now; None until it has loaded the version."""
        self.process = context.Process(target=_serve, args=(theirs, job), daemon=True)
        self.process.start()
        theirs.close()  # so that its end closes the pipe

    def send(self, part: int) -> None:
        """Let the process make a part; a process that has died is noticed when its answer is awaited."""
        self.part = part
        with contextlib.suppress(OSError):
            self.connection.send(part)

    def end(self) -> None:
        """End the process, which may have ended."""
        self.connection.close()
        self.process.terminate()
        self.process.join()


def _serve(connection: Connection, job: Job) -> None:
    """Load the version, send None, and then answer each part by its outcome, until the pipe is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the first process decides what an interrupt means
    signal.signal(signal.SIGTERM, lambda number, _frame: sys.exit(128 + number))  # half a part is removed
    answer: Any = None
    try:
        maker = PartMaker(job)
    except BulkError as error:
        connection.send(error)
        return
    with contextlib.closing(maker), contextlib.suppress(EOFError, OSError):
        while True:  # until the first process has gone
            connection.send(answer)
            part = connection.recv()
            try:
                with deferred():
                    answer = maker.make(part)
            except BulkError as error:
                answer = error
