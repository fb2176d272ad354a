"""Loads of one process of the service, beside the raw loop with IO binding just before and after each."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final
from urllib.parse import urlsplit

import httpx
import numpy as np

from tests.performance.models import Model, bench_models, linked
from tests.performance.process_tree import cpu_seconds
from tests.performance.servers import Target, service_server
from tests.performance.workloads import WORKLOADS, Workload

from .check import Check, CheckFailed, Row
from .client import apply_plain_load
from .device_loop import DeviceLoop

_LOADS: Final = ("single-1", "single-32", "single-128", "bulk", "score")
_FIRST_SEED: Final = 10_000_000
_SEED: Final = 2024
_WARM_UP_SHARE: Final = 0.3
_MOST_OFF: Final = 1e-3
"""The largest distance of an answer from that of ONNX Runtime on the CPU, relative to 1 + |value|."""


def rows(check: Check) -> Iterator[Row]:
    """A row for each load.

    Raises:
        CheckFailed: answers differ from those of ONNX Runtime on the CPU by more than 1e-3.
        BenchFailed: the service failed, or answered with an error.
    """
    workloads = [workload for workload in WORKLOADS if workload.name in _LOADS]
    all_models = bench_models(check.folder / "decoders")
    models = {workload.model: all_models[workload.model] for workload in workloads}
    folder = linked(models.values(), check.folder / "models")
    with service_server(folder, models, check.folder, 1, ["--device", check.device]) as target:
        loops: dict[tuple[str, str], DeviceLoop] = {}
        for number, workload in enumerate(workloads, 1):
            model, key = models[workload.model], (workload.model, workload.operation)
            if key not in loops:
                loops[key] = DeviceLoop(model, workload.operation, check.device)
            yield _of_load(target, workload, model, loops[key], check.seconds, number * _FIRST_SEED)


def _of_load(
    target: Target, workload: Workload, model: Model, loop: DeviceLoop, seconds: float, seed: int
) -> Row:
    assert target.process_id is not None, "it was started here"
    off = _off(target, workload, model)
    request = target.dialect.request(workload)
    port, connections = urlsplit(target.url).port or 0, workload.connections
    apply_plain_load(port, request, connections, _WARM_UP_SHARE * seconds, seed + _FIRST_SEED // 2)
    before, _ = loop.best_rows_per_second(seconds / 2)
    cpu_before = cpu_seconds(target.process_id)
    load = apply_plain_load(port, request, connections, seconds, seed)
    cpu = cpu_seconds(target.process_id) - cpu_before
    after, batch_rows = loop.best_rows_per_second(seconds / 2)
    rate, raw = load.requests * workload.count / load.seconds, (before + after) / 2
    return {
        "load": workload.name,
        "what": f"{workload.what}; {workload.model}",
        "samples a second": rate,
        "raw, samples a second": raw,
        "raw, rows a call": batch_rows,
        "service over raw": rate / raw,
        "p50 ms": load.p50_milliseconds,
        "p99 ms": load.p99_milliseconds,
        "CPU of a request, us": cpu / load.requests * 1e6,
        "answers off by": max(off, _off(target, workload, model)),
        "cores of the busiest client": load.client_cpu_seconds / load.seconds,
    }


def _off(target: Target, workload: Workload, model: Model) -> float:
    """Return the distance of an answer from that of ONNX Runtime on the CPU, relative to 1 + |value|."""
    path, body = target.dialect.request(workload).filled(_SEED, 0)
    headers = target.dialect.request(workload).headers
    answer = httpx.post(target.url + path, content=body, headers=headers, timeout=60.0, trust_env=False)
    if answer.status_code != 200:
        raise CheckFailed(f"{workload.name} was answered with {answer.status_code}: {answer.text[:300]}")
    got = target.dialect.values(workload, answer)
    expected = model.values(workload.operation, target.dialect.feeds(workload, _SEED, 0))
    off = float(np.max(np.abs(got - expected) / (1 + np.abs(expected))))
    if not off <= _MOST_OFF:
        raise CheckFailed(
            f"{workload.name}: an answer is off by {off:.1e}; at most {_MOST_OFF:.0e} is allowed"
        )
    return off
