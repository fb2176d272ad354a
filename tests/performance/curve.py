"""The scaling of throughput and latency: with connections, the batch limit, and the model's size."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Final, Literal

from pydantic import TypeAdapter

from .decoder import NAME, parameters
from .load import apply_load
from .measures import measure
from .results import machine
from .rounds import open_bench
from .servers import Target, naive_server, service_server
from .state import Bench
from .workloads import SERVICE, WORKLOADS, Workload

Axis = Literal["connections", "max_batch_rows", "parameters"]

CONNECTIONS: Final = (1, 2, 4, 8, 16, 32, 64, 128)
MAX_BATCH_ROWS: Final = (1, 4, 16, 64, 256)
WIDTHS: Final = (0.25, 0.5, 1.0, 2.0)
"""The widths of the decoder; the picture shows its numbers of parameters."""

_SINGLE: Final = next(workload for workload in WORKLOADS if workload.name == "single-32")


@dataclass(frozen=True, slots=True)
class Point:
    """One round of one load: its axis, its place on it, and values by name, with units in the names."""

    axis: Axis
    at: float
    round: int
    target: str
    values: dict[str, float]


@dataclass(frozen=True, slots=True)
class Curve:
    """All points, and where they were measured."""

    machine: dict[str, str | int | float]
    processes: int
    points: tuple[Point, ...]

    def written(self) -> str:
        """Return the curve as JSON."""
        return TypeAdapter(Curve).dump_json(self, indent=2).decode() + "\n"


def measure_curve(rounds: int, seconds: float, processes: int) -> Curve:
    """Measure one sample per request over each axis, by the naive server too where the axis concerns it.

    Raises:
        BenchFailed: wrk is missing, or a server failed or answered wrongly.
    """
    where = machine()
    points: list[Point] = []
    with open_bench(seconds, processes, stream_seconds=0) as bench, ExitStack() as stack:
        workloads = list(_of_one_service(bench))
        models = {workload.model: bench.models[workload.model] for _, _, workload in workloads}
        naive = stack.enter_context(naive_server(models, bench.logs))
        folder = bench.serving(models)
        service = stack.enter_context(service_server(folder, models, bench.logs, processes))
        for number in range(1, rounds + 1):
            for axis, at, workload in workloads:
                for target in (naive, service)[:: 1 if number % 2 else -1]:
                    values = _measured(bench, target, workload)
                    points.append(Point(axis, at, number, target.name, values))
            points += _of_batch_limits(bench, number)
            sys.stderr.write(f"round {number} of {rounds}\n")
    return Curve(where, processes, tuple(points))


def _of_one_service(bench: Bench) -> Iterator[tuple[Axis, float, Workload]]:
    for connections in CONNECTIONS:
        name = f"connections-{connections}"
        yield "connections", connections, replace(_SINGLE, name=name, connections=connections)
    for width in WIDTHS:
        model = NAME if width == 1 else bench.add_decoder(width)
        yield "parameters", parameters(width), replace(_SINGLE, name=f"model-{model}", model=model)


def _of_batch_limits(bench: Bench, number: int) -> Iterator[Point]:
    """A service of its own for every limit."""
    folder = bench.serving([NAME])
    models = {NAME: bench.models[NAME]}
    for rows in MAX_BATCH_ROWS:
        options = ("--max-batch-rows", str(rows))
        with service_server(folder, models, bench.logs, bench.processes, options) as target:
            workload = replace(_SINGLE, name=f"max-batch-rows-{rows}-{number}")
            yield Point("max_batch_rows", rows, number, SERVICE, _measured(bench, target, workload))


def _measured(bench: Bench, target: Target, workload: Workload) -> dict[str, float]:
    request = target.dialect.request(workload)
    apply_load(target.url, request, workload.connections, bench.warm_up_seconds, bench.fresh_seeds())
    return measure(bench, target, workload)
