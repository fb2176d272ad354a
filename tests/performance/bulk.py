"""Bulk work beside ONNX Runtime alone on the same graph: files in, Parquet parts out.

Every workload is done by two shards at once, each in one process, or by two actors of Ray; ONNX Runtime alone
is measured just before and after, in as many threads as there are cores. The ratio of CPU time is steadier
than that of throughput where other processes use the machine.
"""

from __future__ import annotations

import gzip
import os
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import numpy as np

from .failure import BenchFailed
from .models import REPOSITORY
from .state import Bench
from .workloads import Workload

SHARDS: Final = 2
FASHION: Final = Path("/usr/share/datasets/fashion-mnist")
_PIXELS: Final = (28, 28)
_IDX_HEADER_BYTES: Final = 16
_LINES: Final[Mapping[str, Sequence[str]]] = {
    "statistics": ("score", "fashion-vae", "INPUT", "--statistic", "path"),
    "score": ("score", "fashion-vae", "INPUT", "--statistic", "elbo", "--draws", "1"),
    "sample": ("sample", "fashion-vae", "--count", "ROWS", "--seed", "7"),
}
"""The arguments of `pushforward bulk`, by the graph that the work is done on."""


def why_not_bulk(workload: Workload) -> str:
    """Return the reason why this bulk work cannot be measured here, or "" if it can."""
    if workload.measure == "bulk-on-ray" and find_spec("ray") is None:
        return "Ray is not installed; use .venv-ray, see make ray-check"
    if (
        workload.measure in ("bulk", "bulk-on-ray")
        and workload.operation != "sample"
        and not FASHION.exists()
    ):
        return f"{FASHION} is missing; on Debian: apt-get install dataset-fashion-mnist"
    return ""


def measure_bulk(bench: Bench, workload: Workload) -> dict[str, float]:
    """Does the work once, between two measurements of ONNX Runtime alone."""
    rows, on_ray, raw = (
        workload.count // bench.divisor,
        workload.measure == "bulk-on-ray",
        bench.raw(workload),
    )
    source, out = bench.logs / "pictures.npy", bench.logs / workload.name
    if workload.operation != "sample":
        np.save(source, _pictures(rows))
    words = {"INPUT": str(source), "ROWS": str(rows)}
    line = [words.get(word, word) for word in _LINES[workload.operation]]
    line = [sys.executable, "-m", "pushforward", "bulk", *line, "--out", str(out)]
    line += ["--local", str(REPOSITORY / "models")]
    lines = [[*line, "--processes", "1", "--shard", f"{index}/{SHARDS}"] for index in range(SHARDS)]
    if on_ray:
        lines = [[*line, "--processes", str(SHARDS), "--ray", "local"]]
    before = raw.rows_per_second(bench.seconds)
    seconds, cpu_seconds = _done(lines, workload.name)
    after = raw.rows_per_second(bench.seconds)
    measured = {"raw_rows_per_second": (before + after) / 2}
    if on_ray:  # the CPU time of its actors is not that of a child
        measured["rows_per_second"] = _rate_after_start(out, rows)
    else:
        measured["rows_per_second"] = rows / seconds
        measured["rows_per_cpu_second"] = rows / cpu_seconds
        cpu = raw.cpu_seconds_per_call(raw.batch_rows, bench.seconds)
        measured["raw_rows_per_cpu_second"] = raw.batch_rows / cpu
    shutil.rmtree(out)
    return measured


def _done(lines: Sequence[Sequence[str]], name: str) -> tuple[float, float]:
    """Runs commands at once to their ends: the seconds that passed, and those of CPU time."""
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    started_at, cpu = time.perf_counter(), _cpu_of_children()
    running = [
        subprocess.Popen(each, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        for each in lines
    ]
    errors = [process.communicate()[1] for process in running]
    elapsed, cpu = time.perf_counter() - started_at, _cpu_of_children() - cpu
    for process, error in zip(running, errors, strict=True):
        if process.returncode:
            raise BenchFailed(f"{name}: {error.decode()}")
    return elapsed, cpu


def _pictures(rows: int) -> np.ndarray:
    """Return the first `rows` of the 70 000 pictures of Fashion-MNIST, (N, 28, 28) uint8."""
    parts = []
    for split in ("train", "t10k"):
        with gzip.open(FASHION / f"{split}-images-idx3-ubyte.gz") as file:
            parts.append(np.frombuffer(file.read(), np.uint8, offset=_IDX_HEADER_BYTES).reshape(-1, *_PIXELS))
    return np.concatenate(parts)[:rows]


def _rate_after_start(out: Path, rows: int) -> float:
    """Return the rows per second after the first parts, one of each actor, until the end of the last part.

    Raises:
        BenchFailed: There are too few parts to tell.
    """
    ends = sorted(path.stat().st_mtime for path in out.glob("part-*.parquet"))
    if len(ends) <= SHARDS:
        raise BenchFailed(f"{rows} rows are {len(ends)} parts, too few to measure a rate; take more rows")
    return rows * (1 - SHARDS / len(ends)) / (ends[-1] - ends[SHARDS - 1])


def _cpu_of_children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
