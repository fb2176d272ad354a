"""The workloads of the report, and the figures that each is judged by, as data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from service.api.answer import JSON, NPY, PNG

from .decoder import NAME as DECODER

Measure = Literal[
    "load",
    "beside-runtime",
    "encoding",
    "two-protocols",
    "fairness",
    "stream",
    "start",
    "bulk",
    "bulk-on-ray",
]
"""The ways to measure a workload (`measures`): by a load alone, by more than that, or without any."""

SERVICE: Final = "service"
NAIVE: Final = "naive"
FLOOR: Final = "floor"


@dataclass(frozen=True, slots=True)
class Figure:
    """The median over rounds of one value, or the ratio of two medians, and its goals.

    `value` and `over` are keys of `Run.values`, whose names hold their units. `beside` is the target that
    `over` is taken of, if it is not the one that the figure is of.
    """

    title: str
    value: str
    over: str = ""
    beside: str = ""
    release: str = ""
    """The goal that a release must reach, for people to read; `reach` is the aim beyond it."""
    reach: str = ""


@dataclass(frozen=True, slots=True)
class Workload:
    """Requests of one kind, each for `count` samples or scores, over so many kept connections.

    The load is closed: a connection sends its next request once it has its answer.
    """

    name: str
    what: str
    measure: Measure
    figures: tuple[Figure, ...]
    model: str = DECODER
    operation: Literal["sample", "score", "statistics"] = "sample"
    accept: str = NPY
    count: int = 1
    connections: int = 1
    large_count: int = 0
    """Samples of the one large request that is streamed: beside the load, or alone."""


def _of_raw(release: str, reach: str) -> Figure:
    return Figure("throughput ÷ raw", "samples_per_second", "raw_samples_per_second", "", release, reach)


def _of_naive(release: str, reach: str) -> Figure:
    return Figure("throughput ÷ naive", "samples_per_second", "samples_per_second", NAIVE, release, reach)


def _of_floor(release: str, reach: str = "") -> Figure:
    return Figure("throughput ÷ floor", "samples_per_second", "samples_per_second", FLOOR, release, reach)


def _of_request(release: str, reach: str) -> Figure:
    title = "encoding ÷ all CPU of a request"
    value, over = "encoding_cpu_microseconds", "server_cpu_microseconds_per_request"
    return Figure(title, value, over, "", release, reach)


def _single(connections: int, release: str, reach: str, floor: str, *more: Figure) -> Workload:
    plural = "s" if connections > 1 else ""
    return Workload(
        f"single-{connections}",
        f"one sample a request (JSON in, npy out), {connections} connection{plural}",
        "load",
        (_of_raw(release, reach), _of_floor(floor), *more),
        connections=connections,
    )


def _bulk(
    name: str, what: str, operation: Literal["sample", "score", "statistics"], rows: int
) -> list[Workload]:
    """Work on files by two shards, and by Ray; `count` is the number of rows of all."""
    by_rows = "rows_per_second", "raw_rows_per_second"
    by_cpu = "rows_per_cpu_second", "raw_rows_per_cpu_second"
    shards = (
        Figure("throughput ÷ raw, start included", *by_rows, release="≥ 0.9"),
        Figure("rows per CPU second ÷ raw", *by_cpu, release="≥ 0.9"),
    )
    actors = (Figure("throughput ÷ raw, after the start", *by_rows, release="≥ 0.8"),)
    ways: tuple[tuple[str, str, Measure, tuple[Figure, ...]], ...] = (
        ("bulk", "2 shards", "bulk", shards),
        ("ray", "2 actors of Ray", "bulk-on-ray", actors),
    )
    return [
        Workload(
            f"{way}-{name}",
            f"{what}, into Parquet, by {by}",
            measure,
            figures,
            "fashion-vae",
            operation,
            count=rows,
        )
        for way, by, measure, figures in ways
    ]


WORKLOADS: Final = (
    _single(1, "≥ 0.22", "≥ 0.27", "≥ 0.95"),
    _single(8, "≥ 0.55", "≥ 0.65", "≥ 0.95"),
    _single(
        32,
        "≥ 0.60",
        "≥ 0.72",
        "≥ 0.95",
        Figure("p99 ÷ p50", "p99_milliseconds", "p50_milliseconds", "", "≤ 2", "≤ 1.6"),
    ),
    _single(128, "≥ 0.62", "≥ 0.75", "≥ 0.97"),
    Workload(
        "bulk",
        "64 samples a request (npy out), 4 connections",
        "load",
        (_of_raw("≥ 0.93, worst ≥ 0.85", "≥ 0.97, worst ≥ 0.92"), _of_floor("≥ 0.95")),
        count=64,
        connections=4,
    ),
    Workload(
        "score",
        "score one image a request by 1 draw (npy in, JSON out), 32 connections",
        "load",
        (_of_naive("≥ 4", "≥ 5.5"),),
        model="fashion-vae",
        operation="score",
        accept=JSON,
        connections=32,
    ),
    Workload(
        "small-model-1",
        "one sample of digits-vae a request (JSON in, npy out), 1 connection",
        "load",
        (_of_floor("≥ 0.70", "≥ 0.85"),),
        model="digits-vae",
    ),
    Workload(
        "small-model",
        "one sample of digits-vae a request (JSON in, npy out), 32 connections",
        "beside-runtime",
        (
            _of_naive("≥ 7", "≥ 11"),
            _of_floor("≥ 0.80", "≥ 0.90"),
            Figure(
                "server CPU beside ONNX Runtime, µs a request",
                "cpu_beside_runtime_microseconds_per_request",
                release="≤ 60",
                reach="≤ 45",
            ),
        ),
        model="digits-vae",
        connections=32,
    ),
    Workload(
        "small-model-bulk",
        "64 samples of digits-vae a request (npy out), 4 connections",
        "load",
        (_of_floor("≥ 0.80", "≥ 0.90"),),
        model="digits-vae",
        count=64,
        connections=4,
    ),
    Workload(
        "json",
        "64 samples of 784 numbers a request (JSON out), 4 connections",
        "encoding",
        (_of_request("≤ 0.15", "≤ 0.10"),),
        accept=JSON,
        count=64,
        connections=4,
    ),
    Workload(
        "png",
        "a grid of 64 samples a request (PNG out), 4 connections",
        "encoding",
        (_of_request("≤ 0.05", "≤ 0.03"),),
        accept=PNG,
        count=64,
        connections=4,
    ),
    Workload(
        "open-inference",
        "64 samples of digits-vae a request (npy out), 4 connections, and again by `/v2`, binary both ways",
        "two-protocols",
        (
            Figure(
                "server CPU of a request, `/v2` ÷ `/v1`",
                "open_inference_cpu_microseconds_per_request",
                "server_cpu_microseconds_per_request",
                release="≤ 1.15",
                reach="≤ 1.05",
            ),
            Figure(
                "throughput, `/v2` ÷ `/v1`",
                "open_inference_samples_per_second",
                "samples_per_second",
                release="≥ 0.87",
                reach="≥ 0.95",
            ),
        ),
        model="digits-vae",
        count=64,
        connections=4,
    ),
    Workload(
        "fairness",
        "one sample a request, 8 connections, while a request for 100 000 streams",
        "fairness",
        (Figure("p99 ÷ p99 alone", "p99_milliseconds", "p99_alone_milliseconds", "", "≤ 3", "≤ 2"),),
        connections=8,
        large_count=100_000,
    ),
    Workload(
        "stream",
        "one request for 1 000 000 samples (npy out), one process",
        "stream",
        (
            Figure("peak resident memory above idle, MB", "peak_above_idle_megabytes", release="≤ 150"),
            Figure("its slope, MB a million samples", "slope_megabytes_per_million_samples", release="flat"),
        ),
        large_count=1_000_000,
    ),
    Workload(
        "start",
        "one process with fashion-vae, digits-vae and fashion-gan",
        "start",
        (
            Figure("process start to ready, s", "ready_seconds", release="≤ 1.0", reach="≤ 0.8"),
            Figure("PSS once ready, MB", "pss_ready_megabytes"),
            Figure("PSS after a load, MB", "pss_loaded_megabytes", release="≤ 170", reach="≤ 130"),
        ),
    ),
    *_bulk("path", "score 70 000 pictures by path", "statistics", 70_000),
    *_bulk("elbo", "score 70 000 pictures by the ELBO of 1 draw", "score", 70_000),
    *_bulk("sample", "draw 200 000 samples of fashion-vae", "sample", 200_000),
)
