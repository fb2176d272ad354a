"""The results as Markdown: each figure with its goal, each load in detail, and the machine.

A file of results is rendered again:

    python -m tests.performance.report build/bench.json
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median
from typing import Final

from .results import Results, Run, Summary, read, values_of
from .workloads import FLOOR, NAIVE, SERVICE, Figure

BUSY_CLIENT_CORES: Final = 0.7
"""The share of its one thread above which wrk may be the bottleneck, and the report says so."""

_DETAILS: Final = {
    "requests/s": "requests_per_second",
    "samples/s": "samples_per_second",
    "p50 ms": "p50_milliseconds",
    "p99 ms": "p99_milliseconds",
    "server µs CPU/request": "server_cpu_microseconds_per_request",
    "server cores": "server_cores",
    "rows/batch": "batch_rows",
    "wrk cores": "client_cores",
}
_RAW: Final = {"samples/s": "raw_samples_per_second", "rows/batch": "raw_batch_rows"}
_BESIDE: Final = {"samples/s": "samples_per_second", "p50": "p50_milliseconds", "p99": "p99_milliseconds"}


def markdown(results: Results) -> str:
    """The whole report."""
    judged = [name for name in results.targets if name not in (NAIVE, FLOOR)]
    peers = [name for name in judged if name != SERVICE]
    parts = [_figures(results, judged), _details(results), *(_beside(results, peer) for peer in peers)]
    parts += [_targets(results), _footnote(results), *_left_out(results), *_warnings(results)]
    return "\n\n".join(part for part in parts if part) + "\n"


def _figures(results: Results, judged: Sequence[str]) -> str:
    """Every figure of every workload, with its goals and the options that measure it alone."""
    rows = []
    for workload in results.workloads:
        alone = f"`python -m tests.performance.bench --workload {workload.name}{results.command}`"
        for figure in workload.figures:
            cells = [_cell(results.summary(workload.name, target, figure)) for target in judged]
            rows.append([workload.what, figure.title, *cells, figure.release, figure.reach, alone])
    return _table(
        ["workload", "figure", *judged, "release", "reach", "alone by"], rows, right=range(2, 2 + len(judged))
    )


def _details(results: Results) -> str:
    """Return the medians of each load, and those of ONNX Runtime alone over the loads of all targets."""
    rows = []
    for workload in results.workloads:
        runs = [run for run in results.runs if run.workload == workload.name]
        raw = [_median(runs, _RAW.get(title, "")) for title in _DETAILS]
        rows += [[workload.name, "raw", *raw]] if any(raw) else []
        for target in results.targets:
            cells = [_median(results.of(workload.name, target), name) for name in _DETAILS.values()]
            rows += [[workload.name, target, *cells]] if any(cells) else []
    return _table(["load", "target", *_DETAILS], rows, right=range(2, 2 + len(_DETAILS))) if rows else ""


def _median(runs: Sequence[Run], name: str) -> str:
    found = values_of(runs, name)
    return _number(median(found)) if found else ""


def _beside(results: Results, peer: str) -> str:
    """The service divided by another server, in the same rounds."""
    rows = []
    for workload in results.workloads:
        cells = [
            _cell(results.summary(workload.name, SERVICE, _ratio(name, peer))) for name in _BESIDE.values()
        ]
        if any(cells):
            rows.append([workload.name, *cells])
    heads = [f"service ÷ {peer}: {title}" for title in _BESIDE]
    return _table(["load", *heads], rows, right=range(1, 1 + len(heads))) if rows else ""


def _ratio(name: str, peer: str) -> Figure:
    return Figure("", name, name, peer)


def _targets(results: Results) -> str:
    return "\n".join(f"- {name}: {what}" for name, what in results.targets.items())


def _footnote(results: Results) -> str:
    where = results.machine
    names = ("python", "onnxruntime", "fastapi", "uvicorn", "wrk")
    versions = ", ".join(f"{name} {where[name]}" for name in names)
    rounds = max((run.round for run in results.runs), default=0)
    return (
        f"Medians of {rounds} interleaved rounds, in brackets the least and the greatest of any round; a "
        "ratio is of medians. raw is ONNX Runtime alone, by its best batch, just before and after a load. "
        f"{where['cpu']}, {where['granted_cores']} cores, load average before {where['load_average']}; "
        f"{versions}; {where['measured_at']}."
    )


def _left_out(results: Results) -> Iterator[str]:
    reasons: dict[tuple[str, str], list[str]] = {}
    for left in results.left_out:
        reasons.setdefault((left.target, left.reason), []).append(left.workload)
    for (target, reason), workloads in reasons.items():
        yield f"Left out, {target}: {', '.join(workloads)}; {reason}."


def _warnings(results: Results) -> Iterator[str]:
    busiest = max(values_of(results.runs, "client_cores"), default=0.0)
    if busiest > BUSY_CLIENT_CORES:
        yield f"Caution: wrk used up to {busiest:.2f} of its one core and may have been the bottleneck."


def _cell(summary: Summary | None) -> str:
    if summary is None:
        return ""
    return f"{_number(summary.middle)} ({_number(summary.smallest)}..{_number(summary.largest)})"


def _number(value: float) -> str:
    """Return a number as text: whole from 100 on, else with two digits after the point."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.2f}"


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]], right: range) -> str:
    rule = "|".join("---:" if place in right else "---" for place in range(len(heads)))
    lines = [f"| {' | '.join(heads)} |", f"|{rule}|", *(f"| {' | '.join(row)} |" for row in rows)]
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints the report of a file of results."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("results", type=Path)
    sys.stdout.write(markdown(read(parser.parse_args(arguments).results)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
