"""What was measured, as a Markdown table and as JSON: medians over rounds, and ratios of medians."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any, Final

import onnxruntime as ort

from service.settings import granted_cores

from .load import Workload

BUSY_WRK_CORES: Final = 0.7
"""Above this much of its one thread, wrk may be the bottleneck, and the report says so."""


@dataclass(frozen=True, slots=True)
class Run:
    """One timed run of one workload against one server, and ONNX Runtime alone just before and after."""

    round: int
    workload: str
    target: str
    requests_per_second: float
    samples_per_second: float
    p50_milliseconds: float
    p99_milliseconds: float
    server_cpu_microseconds_per_request: float
    server_cores: float
    wrk_cores: float
    raw_samples_per_second: float


@dataclass(frozen=True, slots=True)
class Ratio:
    """A ratio of medians over all rounds, and the smallest and largest ratio within one round."""

    of_medians: float
    smallest: float
    largest: float

    def __str__(self) -> str:
        return f"{self.of_medians:.2f} ({self.smallest:.2f}..{self.largest:.2f})"


def machine() -> dict[str, Any]:
    """Where and with what it was measured; the load average is of the minute before."""
    return {
        "cpu": _cpu_name(),
        "granted_cores": granted_cores(),
        "load_average": round(os.getloadavg()[0], 2),
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "onnxruntime": ort.__version__,
        **{name: version(name) for name in ("fastapi", "uvicorn", "numpy")},
    }


def _cpu_name() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, "") or platform.processor() or platform.machine()


def _of(runs: Sequence[Run], workload: str, target: str) -> list[Run]:
    chosen = [run for run in runs if (run.workload, run.target) == (workload, target)]
    return sorted(chosen, key=lambda run: run.round)


def _ratio(upper: Sequence[float], lower: Sequence[float]) -> Ratio:
    each = [above / below for above, below in zip(upper, lower, strict=True)]
    return Ratio(median(upper) / median(lower), min(each), max(each))


def ratios(runs: Sequence[Run], workload: str) -> dict[str, Ratio]:
    """Ratios of samples per second: to the naive server, and to ONNX Runtime alone beside each run."""
    service, naive = _of(runs, workload, "service"), _of(runs, workload, "naive")
    answered = [run.samples_per_second for run in service]
    slower = [run.samples_per_second for run in naive]
    return {
        "service / naive": _ratio(answered, slower),
        "service / raw": _ratio(answered, [run.raw_samples_per_second for run in service]),
        "naive / raw": _ratio(slower, [run.raw_samples_per_second for run in naive]),
    }


def document(where: dict[str, Any], workloads: Sequence[Workload], runs: Sequence[Run]) -> dict[str, Any]:
    """Everything as one JSON document: the machine, each run, and the ratios."""
    return {
        "machine": where,
        "workloads": [asdict(workload) for workload in workloads],
        "runs": [asdict(run) for run in runs],
        "ratios": {
            workload.name: {name: asdict(ratio) for name, ratio in ratios(runs, workload.name).items()}
            for workload in workloads
        },
    }


def markdown(where: dict[str, Any], workloads: Sequence[Workload], runs: Sequence[Run]) -> str:
    """The same for people: a table of medians, one of ratios, and what they were measured on."""
    rounds = len({run.round for run in runs})
    lines = [
        "| load | target | requests/s | samples/s | p50 ms | p99 ms | server µs CPU/request | server cores "
        "| wrk cores |",
        "|---|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for workload in workloads:
        lines += _rows(workload, runs)
    names = list(ratios(runs, workloads[0].name))
    lines += ["", f"| load | {' | '.join(names)} |", "|---|" + "---:|" * len(names)]
    for workload in workloads:
        cells = " | ".join(map(str, ratios(runs, workload.name).values()))
        lines.append(f"| {workload.name} | {cells} |")
    lines += ["", _footnote(where, rounds), *_warnings(runs), ""]
    return "\n".join(lines)


def _rows(workload: Workload, runs: Sequence[Run]) -> list[str]:
    beside = [run.raw_samples_per_second for run in runs if run.workload == workload.name]
    load = f"{workload.name}: {workload.count} a request, {workload.connections} connections"
    lines = [f"| {load} | raw | | {median(beside):,.0f} | | | | | |"]
    for target in ("naive", "service"):
        mine = _of(runs, workload.name, target)

        def middle(figure: Callable[[Run], float], of: Sequence[Run] = mine) -> float:
            return median(figure(run) for run in of)

        cells = (
            target,
            f"{middle(lambda run: run.requests_per_second):,.0f}",
            f"{middle(lambda run: run.samples_per_second):,.0f}",
            f"{middle(lambda run: run.p50_milliseconds):.2f}",
            f"{middle(lambda run: run.p99_milliseconds):.2f}",
            f"{middle(lambda run: run.server_cpu_microseconds_per_request):,.0f}",
            f"{middle(lambda run: run.server_cores):.2f}",
            f"{middle(lambda run: run.wrk_cores):.2f}",
        )
        lines.append(f"| {load} | {' | '.join(cells)} |")
    return lines


def _footnote(where: dict[str, Any], rounds: int) -> str:
    names = ("python", "onnxruntime", "fastapi", "uvicorn")
    versions = ", ".join(f"{name} {where[name]}" for name in names)
    return (
        f"Medians of {rounds} interleaved rounds; a ratio is of medians, in brackets the least and the "
        f"greatest within a round; raw is ONNX Runtime alone, just before and after each run. "
        f"{where['cpu']}, {where['granted_cores']} cores, load average before {where['load_average']}; "
        f"{versions}; {where['measured_at']}."
    )


def _warnings(runs: Sequence[Run]) -> list[str]:
    busiest = max(run.wrk_cores for run in runs)
    if busiest <= BUSY_WRK_CORES:
        return []
    return [f"\nCaution: wrk used up to {busiest:.2f} of its one core and may have been the bottleneck."]
