"""A closed load in plain Python, for machines that have no wrk: processes of one event loop each.

It is slower than wrk, so its processes are several, and their CPU seconds are told: where each used most of a
core, the client may have been the bottleneck. Latencies are as they were seen, uncorrected.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from threading import Barrier
from typing import Final

import numpy as np

from service.settings import granted_cores
from tests.performance.dialects import Request
from tests.performance.failure import BenchFailed
from tests.performance.load import Load

_HOST: Final = "127.0.0.1"
_PATIENCE_SECONDS: Final = 30.0
_SEEDS_A_PROCESS: Final = 1_000_000
_MOST_PROCESSES: Final = 4
_OK: Final = b"HTTP/1.1 200"
_LENGTH: Final = b"\r\ncontent-length:"


@dataclass(slots=True)
class _Share:
    """The measurements of one process."""

    seconds: float = 0.0
    cpu_seconds: float = 0.0
    latencies: list[float] = field(default_factory=list)
    flaw: str = ""


def apply_plain_load(port: int, request: Request, connections: int, seconds: float, first_seed: int) -> Load:
    """Loads a server on this machine for so many seconds, with the seeds after `first_seed`.

    Every process waits for an answer at least, also on a machine where that takes longer.

    Raises:
        BenchFailed: an answer was not 200 or was too short, or a connection broke.
    """
    processes = min(_MOST_PROCESSES, connections, max(1, granted_cores() // 2))
    shares = [connections // processes + (number < connections % processes) for number in range(processes)]
    context = multiprocessing.get_context("spawn")
    begun = context.Barrier(processes)  # so that all load at the same time
    with ProcessPoolExecutor(processes, context, _await_others, (begun,)) as pool:
        waiting = [
            pool.submit(_load_share, port, request, share, seconds, first_seed + _SEEDS_A_PROCESS * number)
            for number, share in enumerate(shares)
        ]
        found = [each.result() for each in waiting]
    if flaws := [share.flaw for share in found if share.flaw]:
        raise BenchFailed(f"{request.path}: {flaws[0]}")
    latencies = np.concatenate([share.latencies for share in found]) * 1e3
    p50, p99 = np.percentile(latencies, [50, 99])
    longest = max(share.seconds for share in found)
    busiest = max(share.cpu_seconds for share in found)
    return Load(len(latencies), longest, float(p50), float(p99), busiest)


def _await_others(begun: Barrier) -> None:
    """Waits in each process until all have started."""
    begun.wait(_PATIENCE_SECONDS)


def _load_share(port: int, request: Request, connections: int, seconds: float, first_seed: int) -> _Share:
    """Run one process's part of the load, in that process."""
    share = _Share()
    cpu_before, started_at = time.process_time(), time.perf_counter()
    try:
        asyncio.run(_connections(share, port, request, connections, seconds, first_seed))
    except (OSError, asyncio.IncompleteReadError, TimeoutError) as error:
        share.flaw = f"a connection broke ({type(error).__name__}: {error})"
    share.seconds = time.perf_counter() - started_at
    share.cpu_seconds = time.process_time() - cpu_before
    return share


async def _connections(
    share: _Share, port: int, request: Request, connections: int, seconds: float, first_seed: int
) -> None:
    stop_at = time.perf_counter() + seconds
    seeds = iter(range(first_seed, first_seed + _SEEDS_A_PROCESS))
    async with asyncio.timeout(seconds + _PATIENCE_SECONDS), asyncio.TaskGroup() as group:
        for _ in range(connections):
            group.create_task(_connection(share, port, request, stop_at, seeds))


async def _connection(
    share: _Share, port: int, request: Request, stop_at: float, seeds: Iterator[int]
) -> None:
    reader, writer = await asyncio.open_connection(_HOST, port)
    try:
        while (time.perf_counter() < stop_at or not share.latencies) and not share.flaw:
            seed = next(seeds)
            message = _message(port, request, seed)
            sent_at = time.perf_counter()
            writer.write(message)
            head = await reader.readuntil(b"\r\n\r\n")
            size = int(head.lower().split(_LENGTH)[1].split(b"\r\n")[0])
            await reader.readexactly(size)
            share.latencies.append(time.perf_counter() - sent_at)
            if not head.startswith(_OK) or size < request.least_bytes:
                share.flaw = f"an answer was {head.splitlines()[0].decode()} with {size} bytes"
    finally:
        writer.close()


def _message(port: int, request: Request, seed: int) -> bytes:
    path, body = request.filled(seed, seed)
    headers = "".join(f"{name}: {value}\r\n" for name, value in request.headers.items())
    head = f"POST {path} HTTP/1.1\r\nhost: {_HOST}:{port}\r\n{headers}content-length: {len(body)}\r\n\r\n"
    return head.encode() + body
