"""The measures of the workloads of running servers: one round of one workload against one target.

Each returns values by name, with their units in the names; the figures of a workload are made of them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Final

import httpx
from prometheus_client.parser import text_string_to_metric_families

from service.api.answer import JSON, to_json
from service.media.pictures import png_grid

from .failure import BenchFailed
from .load import apply_load
from .models import Values
from .open_inference import SampleTensors
from .process_tree import cpu_seconds
from .servers import Target
from .state import Bench
from .streaming import Stream
from .workloads import SERVICE, Measure, Workload

Measured = dict[str, float]

ONLY_OURS: Final = "only this service, started by the bench, is measured so"

_BATCHES: Final = "pushforward_batch_items"
_RUNTIME_SECONDS: Final = 0.3
_ENCODING_SECONDS: Final = 0.1


def measure(bench: Bench, target: Target, workload: Workload) -> Measured:
    """One round of a workload against a running target that can do it (`why_not`)."""
    return _MEASURES[workload.measure](bench, target, workload)


def why_not(target: Target, workload: Workload) -> str:
    """Return the reason why the workload is not measured against a target, or "" if it is."""
    ours = workload.measure in ("encoding", "two-protocols")
    if workload.measure not in _MEASURES or (ours and target.name != SERVICE):
        return ONLY_OURS
    if workload.measure == "fairness" and not target.dialect.streams:
        return "it cannot stream more samples than it computes at once"
    return ""


def _load(bench: Bench, target: Target, workload: Workload) -> Measured:
    """Measure a load, and ONNX Runtime alone just before and just after it."""
    raw = bench.raw(workload)
    before = raw.rows_per_second(bench.beside_seconds)
    measured = _loaded(bench, target, workload)
    after = raw.rows_per_second(bench.beside_seconds)
    return measured | {"raw_samples_per_second": (before + after) / 2, "raw_batch_rows": raw.batch_rows}


def _loaded(bench: Bench, target: Target, workload: Workload) -> Measured:
    request = target.dialect.request(workload)
    process = target.process_id
    with bench.witness(target, workload).watching() as watch:
        cpu_before = cpu_seconds(process) if process else 0.0
        load = apply_load(target.url, request, workload.connections, bench.seconds, bench.fresh_seeds())
        cpu = cpu_seconds(process) - cpu_before if process else 0.0
    requests = load.requests + watch.answers
    measured = {
        "requests": requests,
        "requests_per_second": requests / load.seconds,
        "samples_per_second": requests * workload.count / load.seconds,
        "p50_milliseconds": load.p50_milliseconds,
        "p99_milliseconds": load.p99_milliseconds,
        "client_cores": load.client_cpu_seconds / load.seconds,
    }
    if process:
        measured["server_cores"] = cpu / load.seconds
        measured["server_cpu_microseconds_per_request"] = cpu / requests * 1e6
    return measured


def _beside_runtime(bench: Bench, target: Target, workload: Workload) -> Measured:
    """Measure a load, and the CPU that the service takes for a request beside that of ONNX Runtime.

    The latter is that of the same number of calls, with as many rows on average, in a loop of their own; the
    service's own metrics tell how many there were.
    """
    if target.name != SERVICE:
        return _load(bench, target, workload)
    calls_before, rows_before = _batches(target, workload)
    measured = _load(bench, target, workload)
    calls_after, rows_after = _batches(target, workload)
    calls, rows = calls_after - calls_before, rows_after - rows_before
    call_seconds = bench.raw(workload).cpu_seconds_per_call(rows / calls, _RUNTIME_SECONDS)
    runtime = calls * call_seconds / measured["requests"] * 1e6
    measured["batch_rows"] = rows / calls
    measured["runtime_cpu_microseconds_per_request"] = runtime
    measured["cpu_beside_runtime_microseconds_per_request"] = (
        measured["server_cpu_microseconds_per_request"] - runtime
    )
    return measured


def _batches(target: Target, workload: Workload) -> tuple[float, float]:
    """Return the number of batches of the workload's model that the service has computed, and their rows."""
    text = httpx.get(f"{target.url}/metrics", timeout=30.0, trust_env=False).text
    stage = workload.operation
    found = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if (sample.labels.get("model"), sample.labels.get("stage")) == (workload.model, stage):
                found[sample.name] = sample.value
    try:
        return found[f"{_BATCHES}_count"], found[f"{_BATCHES}_sum"]
    except KeyError as error:
        raise BenchFailed(f"/metrics of {target.name} lacks {error} of {workload.model}") from error


def _encoding(bench: Bench, target: Target, workload: Workload) -> Measured:
    """Measure a load, and the CPU that encoding one such answer takes in a loop of its own."""
    measured = _load(bench, target, workload)
    model = bench.models[workload.model]
    samples = model.values(workload.operation, target.dialect.feeds(workload, bench.fresh_seeds(), 0))
    return measured | {"encoding_cpu_microseconds": _encoding_cpu_seconds(workload.accept, samples) * 1e6}


def _encoding_cpu_seconds(accept: str, samples: Values) -> float:
    def encode() -> bytes:
        return to_json({"samples": samples}) if accept == JSON else png_grid(samples)

    stop_at, started_at, times = time.perf_counter() + _ENCODING_SECONDS, time.thread_time(), 0
    while not times or time.perf_counter() < stop_at:
        encode()
        times += 1
    return (time.thread_time() - started_at) / times


def _two_protocols(bench: Bench, target: Target, workload: Workload) -> Measured:
    """The load by `/v1`, and the same samples by the Open Inference Protocol."""
    measured = _load(bench, target, workload)
    by_tensors = replace(target, dialect=SampleTensors(bench.models))
    again = _loaded(bench, by_tensors, replace(workload, name=f"{workload.name}, /v2"))
    return measured | {
        "open_inference_samples_per_second": again["samples_per_second"],
        "open_inference_p50_milliseconds": again["p50_milliseconds"],
        "open_inference_cpu_microseconds_per_request": again["server_cpu_microseconds_per_request"],
    }


def _fairness(bench: Bench, target: Target, workload: Workload) -> Measured:
    """Measure the load alone, and again while one large answer after the other streams."""
    alone = _loaded(bench, target, workload)
    large = replace(workload, count=workload.large_count)
    model = bench.models[workload.model]
    with Stream(target, large, model, bench.fresh_seeds(), repeats=True) as stream:
        samples_before, started_at = stream.samples, time.monotonic()
        measured = _loaded(bench, target, workload)
        streamed = (stream.samples - samples_before) / (time.monotonic() - started_at)
    return measured | {
        "samples_per_second_alone": alone["samples_per_second"],
        "p50_alone_milliseconds": alone["p50_milliseconds"],
        "p99_alone_milliseconds": alone["p99_milliseconds"],
        "streamed_samples_per_second": streamed,
    }


_MEASURES: Final[Mapping[Measure, Callable[[Bench, Target, Workload], Measured]]] = {
    "load": _load,
    "beside-runtime": _beside_runtime,
    "encoding": _encoding,
    "two-protocols": _two_protocols,
    "fairness": _fairness,
}
