"""The course of a run of the bench: servers started, answers checked, rounds interleaved and written down."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from .against import Address, attached
from .bulk import measure_bulk, why_not_bulk
from .dialects import NotOffered, OurDialect
from .failure import BenchFailed
from .footprint import measure_start, measure_stream
from .load import apply_load, wrk_is_there
from .measures import ONLY_OURS, measure, why_not
from .results import LeftOut, Results, Run, machine
from .servers import Target, floor_server, naive_server, service_server
from .state import Bench
from .workloads import FLOOR, NAIVE, SERVICE, Measure, Workload

_OF_ONE_PROCESS: Final[Mapping[Measure, Callable[[Bench, Workload], dict[str, float]]]] = {
    "start": measure_start,
    "stream": measure_stream,
    "bulk": measure_bulk,
    "bulk-on-ray": measure_bulk,
}
"""The measures that need none of the running servers."""
_ONCE: Final = ("stream",)
"""The measures that take minutes, and are taken in one round alone."""


@dataclass(frozen=True, slots=True)
class Options:
    """The workloads to measure, the targets, the number of rounds, and the seconds of each load."""

    workloads: tuple[Workload, ...]
    rounds: int
    seconds: float
    stream_seconds: float
    processes: int
    divisor: int
    against: tuple[Address, ...]
    text: str
    """The options of the command line, but for the workloads."""


def measure_all(options: Options) -> Results:
    """Runs every round of every workload.

    Raises:
        BenchFailed: wrk is missing, or a server failed or answered wrongly.
    """
    where = machine()
    loads = [workload for workload in options.workloads if workload.measure not in _OF_ONE_PROCESS]
    own = [workload for workload in options.workloads if workload.measure in _OF_ONE_PROCESS]
    with open_bench(options.seconds, options.processes, options.stream_seconds, options.divisor) as bench:
        with _targets(bench, loads, options.against) as targets:
            what = {target.name: _described(target, options.processes) for target in targets}
            pairs, left_out = _pairs(bench, loads, targets)
            runs = _interleaved(bench, pairs, options.rounds)
        for workload in own:
            if reason := why_not_bulk(workload):
                left_out.append(LeftOut(workload.name, SERVICE, reason))
                continue
            runs += _of_one_process(bench, workload, options.rounds)
    for other in options.against:
        left_out += [LeftOut(workload.name, other.name, ONLY_OURS) for workload in own]
    what.setdefault(SERVICE, "this service, one process")
    return Results(where, options.text, what, options.workloads, tuple(runs), tuple(left_out))


def _interleaved(bench: Bench, pairs: Sequence[tuple[Workload, list[Target]]], rounds: int) -> list[Run]:
    runs = []
    for number in range(1, rounds + 1):
        for workload, able in pairs:
            for target in able[:: 1 if number % 2 else -1]:  # no target always goes first
                runs.append(Run(number, workload.name, target.name, measure(bench, target, workload)))
                _tell(number, rounds, workload.name, target.name)
    return runs


def _of_one_process(bench: Bench, workload: Workload, rounds: int) -> list[Run]:
    runs = []
    for number in range(1, 2 if workload.measure in _ONCE else rounds + 1):
        runs.append(Run(number, workload.name, SERVICE, _OF_ONE_PROCESS[workload.measure](bench, workload)))
        _tell(number, rounds, workload.name, SERVICE)
    return runs


@contextmanager
def open_bench(seconds: float, processes: int, stream_seconds: float, divisor: int = 1) -> Iterator[Bench]:
    """The models in a folder of their own; raises BenchFailed if wrk is missing."""
    if not wrk_is_there():
        raise BenchFailed("wrk is not installed; on Debian: apt-get install wrk")
    with tempfile.TemporaryDirectory(prefix="pushforward-bench-") as folder:
        yield Bench(Path(folder), seconds, processes, stream_seconds, divisor)


@contextmanager
def _targets(bench: Bench, loads: Sequence[Workload], against: Sequence[Address]) -> Iterator[list[Target]]:
    """The naive server, the floor and the service over the models of these workloads, and the others."""
    if not loads:
        yield []
        return
    names = dict.fromkeys(workload.model for workload in loads)
    models = {name: bench.models[name] for name in names}
    with ExitStack() as stack:
        naive = stack.enter_context(naive_server(models, bench.logs))
        floor = stack.enter_context(floor_server(models, bench.logs, bench.processes))
        folder = bench.serving(names)
        service = stack.enter_context(service_server(folder, models, bench.logs, bench.processes))
        yield [
            naive,
            floor,
            service,
            *(stack.enter_context(attached(address, bench.models)) for address in against),
        ]


def _pairs(
    bench: Bench, loads: Sequence[Workload], targets: Sequence[Target]
) -> tuple[list[tuple[Workload, list[Target]]], list[LeftOut]]:
    """Return the targets that can do each workload, checked and warmed up, and those that cannot."""
    pairs, left_out = [], []
    for workload in loads:
        able = []
        for target in targets:
            if reason := _unable(target, workload):
                if target.name not in (NAIVE, FLOOR):
                    left_out.append(LeftOut(workload.name, target.name, reason))
                continue
            bench.witness(target, workload)
            request = target.dialect.request(workload)
            apply_load(target.url, request, workload.connections, bench.warm_up_seconds, bench.fresh_seeds())
            able.append(target)
        pairs.append((workload, able))
    return pairs, left_out


def _unable(target: Target, workload: Workload) -> str:
    """Return the reason why a target cannot do a workload, or "" if it can."""
    try:
        target.dialect.request(workload)
    except NotOffered as reason:
        return str(reason)
    return why_not(target, workload)


def _described(target: Target, processes: int) -> str:
    if target.name == NAIVE:
        return "FastAPI, a plain `def`, one run of ONNX Runtime with its defaults a request, one process"
    if target.name == FLOOR:
        return f"uvicorn, orjson, numpy and ONNX Runtime with natural batching alone, {processes} processes"
    if target.name == SERVICE:
        return f"this service, `--processes {processes}`"
    api = "`/v1`" if isinstance(target.dialect, OurDialect) else "the Open Inference Protocol, `/v2`"
    return f"{target.url}, by {api}"


def _tell(number: int, rounds: int, workload: str, target: str) -> None:
    sys.stderr.write(f"round {number} of {rounds}: {workload}, {target}\n")
