"""Every Prometheus metric of the service, on its own registry.

Labels come from closed sets: route templates, models and versions that were found, operations of the
contract. Label sets are initialised when a model is loaded, so that rates and absences work from zero.
Several replicas keep their values in files of a shared folder, see `shared_values`, and each of them serves
the merged values of all.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from functools import cache, partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final, Literal, Protocol, TypeVar

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import choose_encoder
from prometheus_client.multiprocess import MultiProcessCollector

from service.observe.accumulators import (
    DISTANCE_WINDOW,
    FLUSH_SECONDS,
    Accumulator,
    BufferedCounter,
    BufferedHistogram,
    KolmogorovDistanceGauge,
    SampledGauge,
)

DURATION_BUCKETS = (
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
)  # fmt: skip
ROW_BUCKETS = tuple(2.0**power for power in range(9))
BYTE_BUCKETS = tuple(4.0**power for power in range(3, 14))
P_VALUE_BUCKETS = (0.001, 0.005, 0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 1.0)
AnyAccumulator = TypeVar("AnyAccumulator", bound=Accumulator)
Merge = Literal["livesum", "livemax", "livemin"]
"""The way a gauge of several replicas is merged."""
UNNAMED_KEY: Final = "unnamed"
"""The name of keys that have none."""
REJECTIONS: Final = ("queue_full", "deadline", "body", "draining", "busy", "client_gone")
EXPECTED_CODES: Final = (200, 429, 500, 503, 504)
"""Status codes whose counters exist from the start, so that a rate sees the first error."""

log = logging.getLogger(__name__)


def release() -> str:
    """Return the installed version of this distribution."""
    try:
        return version("pushforward")
    except PackageNotFoundError:
        return "unknown"


class Metrics:
    """The counters, gauges and histograms, named as attributes.

    `shared` is the folder in which several replicas keep their values, see `shared_values`.
    """

    def __init__(self, shared: Path | None = None) -> None:
        self.registry = CollectorRegistry()
        self._shared = shared

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"pushforward_{name}", text, labels, registry=self.registry)

        def gauge(name: str, text: str, *labels: str, merge: Merge = "livesum") -> Gauge:
            return Gauge(f"pushforward_{name}", text, labels, registry=self.registry, multiprocess_mode=merge)

        def histogram(name: str, text: str, buckets: tuple[float, ...], *labels: str) -> Histogram:
            return Histogram(f"pushforward_{name}", text, labels, buckets=buckets, registry=self.registry)

        self.http_requests = counter(
            "http_requests", "Answers, also those of gRPC, with the codes of HTTP.", "route", "method", "code"
        )
        self.request_seconds = histogram(
            "request_duration_seconds", "Time per request.", DURATION_BUCKETS, "operation", "model"
        )
        self.queue_seconds = histogram(
            "queue_wait_seconds", "Time from arrival to the first batch.", DURATION_BUCKETS, "model"
        )
        self.compute_seconds = histogram(
            "compute_duration_seconds", "Time per batch.", DURATION_BUCKETS, "model", "stage", "provider"
        )
        self.oldest_batch_seconds = gauge(
            "oldest_batch_seconds", "Age of the oldest batch that a lane computes.", merge="livemax"
        )
        self.batch_rows = histogram("batch_items", "Rows per batch.", ROW_BUCKETS, "model", "stage")
        self.compute_failures = counter("compute_failures", "Batches that failed.", "model", "stage")
        body_bytes = histogram("request_body_bytes", "Bytes per request body.", BYTE_BUCKETS)
        inflight = gauge("inflight_requests", "Requests being answered.")
        self.inflight_bytes = gauge("inflight_bytes", "Bytes that requests and answers hold.")
        self.waiting_rows = gauge("queue_items", "Rows waiting for a batch.", "model", "stage")
        self.waiting_capacity = gauge("queue_capacity_items", "Rows that may wait.", "model", "stage")
        self.model_loaded = gauge(
            "model_loaded", "1 for a loaded version.", "model", "version", merge="livemin"
        )
        self.model_info = gauge(
            "model_info", "Always 1.", "model", "version", "family", "provider", "sha256", merge="livemax"
        )
        self.provider_active = gauge(
            "provider_active", "1 for the used provider.", "provider", merge="livemax"
        )
        self.model_failed = gauge(
            "model_failed", "1 for a version that is not admitted.", "model", "version", merge="livemax"
        )
        self.gpu_present = gauge("gpu_present", "1 where there is an NVIDIA device.", merge="livemax")
        self.ready = gauge("ready", "1 while requests can be taken.", merge="livemax")
        self.unready = gauge("unready_processes", "Processes that run and take no requests.")
        self.cores = gauge("cores", "Cores that the process plans with.")
        self.load_failures = counter("model_load_failures", "Versions that could not be loaded.", "model")
        self.poll_failures = counter("poll_failures", "Polls for new versions that failed.")
        self.unfetched = gauge(
            "unfetched_versions", "Versions of the source that could not be fetched.", merge="livemax"
        )
        self.certificate_refused = gauge(
            "certificate_refused", "1 while the files for TLS cannot be used as they are.", merge="livemax"
        )
        self.keys_refused = gauge(
            "keys_refused", "1 while the file of keys cannot be used as it is.", merge="livemax"
        )
        self.draining = gauge("draining", "1 while shutting down.", merge="livemax")
        self.rejected = counter("rejected", "Requests that were refused or given up.", "reason")
        self.key_uses = counter("key_uses", "Requests with a key that is taken.", "key")
        self.rows = counter("rows", "Rows answered.", "model", "operation")
        self.samples = counter("samples", "Samples answered.", "model")
        text = f"Distance of the last {DISTANCE_WINDOW} p-values from uniform; 0 until there are as many."
        self.p_value_distance = gauge("p_value_distance", text, "model", merge="livemax")
        self.anomalies = counter("anomalies_flagged", "Scored items that were flagged.", "model")
        self.p_values = histogram(
            "p_value", "P-values of scored items; uniform for ordinary ones.", P_VALUE_BUCKETS, "model"
        )
        self.replica_restarts = counter("replica_restarts", "Replicas started in the place of one that died.")
        gauge("build_info", "Always 1.", "release", merge="livemax").labels(release()).set(1)
        cpu_seconds = counter("cpu_seconds", "CPU time of the process, in all threads.")
        text = "Unix time of the event loop's last turn."
        loop_time = gauge("event_loop_timestamp_seconds", text, merge="livemin")
        self._accumulators: list[Accumulator] = []
        self.body_bytes = self.buffered(BufferedHistogram(body_bytes))
        self.inflight_requests = 0
        """The number of requests that are being answered."""
        self.buffered(SampledGauge(inflight, lambda: self.inflight_requests))
        self.buffered(SampledGauge(cpu_seconds, time.process_time))
        self.buffered(SampledGauge(loop_time, time.time))
        self.meter: Callable[[str, str], Meter] = cache(partial(Meter, self))
        """The one meter of a model and an operation."""
        self.stage_observer: Callable[[str, str, str], StageObserver] = cache(partial(StageObserver, self))
        """The one observer of a model, a stage and a provider, for the batchers of all versions."""
        self.uses_of: Callable[[str], BufferedCounter] = cache(
            lambda key: self.buffered(BufferedCounter(self.key_uses.labels(key)))
        )
        """The one counter of the requests with a key of that name."""
        self._answers: dict[tuple[str, str, int], BufferedCounter] = {}
        self.draining.set(0)
        self.certificate_refused.set(0)
        self.keys_refused.set(0)
        for reason in REJECTIONS:
            self.rejected.labels(reason)
        self.key_uses.labels(UNNAMED_KEY)
        for provider in ("cpu", "cuda"):
            self.provider_active.labels(provider)

    def expect(self, route: str, method: str) -> None:
        """Set the answers of a route to zero, for the status codes that rates are made of."""
        for code in EXPECTED_CODES:
            self.http_requests.labels(route, method, str(code))

    def initialise(self, model: str, operations: tuple[str, ...]) -> None:
        """Set the label sets of a model to zero."""
        self.load_failures.labels(model)
        for operation in operations:
            self.meter(model, operation)

    def answered(self, route: str, method: str, code: int) -> None:
        """Count an HTTP answer that was sent."""
        key = (route, method, code)
        if key not in self._answers:
            metric = self.http_requests.labels(route, method, str(code))
            self._answers[key] = self.buffered(BufferedCounter(metric))
        self._answers[key].add()

    def buffered(self, accumulator: AnyAccumulator) -> AnyAccumulator:
        """Keep an accumulator, to be flushed with all others, and return it."""
        self._accumulators.append(accumulator)
        return accumulator

    def flush(self) -> None:
        """Flush all accumulators. Call it in the event loop, which they belong to."""
        for accumulator in self._accumulators:
            accumulator.flush()

    async def flush_periodically(self) -> None:
        """Flush every `FLUSH_SECONDS` until cancelled, and then once more.

        A flush can fail, as on a full disk. The first such failure in a row is logged, and what was not
        flushed is kept for the next time.
        """
        failed = False
        try:
            while True:
                await asyncio.sleep(FLUSH_SECONDS)
                try:
                    self.flush()
                except Exception:
                    if not failed:
                        log.exception("the metrics are not up to date, and are tried again")
                    failed = True
                else:
                    failed = False
        finally:
            self.flush()

    def exposition(self, accept: str) -> tuple[bytes, str]:
        """Return the metrics as of the last flush, in the format that `accept` prefers, and its content type.

        It takes tenths of a second, and may be called in any thread.
        """
        encode, content_type = choose_encoder(accept)
        return encode(self.merged()), content_type

    def is_any_ready(self) -> bool:
        """Return True if any process could take requests at its last flush. Blocks as `exposition` does."""
        return bool(self.merged().get_sample_value("pushforward_ready"))

    def merged(self) -> CollectorRegistry:
        """Return a registry that always reads the current metrics, of all replicas if there are several."""
        if self._shared is None:
            return self.registry
        registry = CollectorRegistry()
        MultiProcessCollector(registry, str(self._shared))  # type: ignore[no-untyped-call]
        return registry


class Meter:
    """Counts the answers of one operation of one model; its label sets are resolved once."""

    def __init__(self, metrics: Metrics, model: str, operation: str) -> None:
        buffered = metrics.buffered
        seconds = buffered(BufferedHistogram(metrics.request_seconds.labels(operation, model)))
        self.took: Final = seconds.observe
        """Observe the time of one request in seconds, whatever its outcome."""
        self.exemplify: Final = seconds.exemplify
        """Make a trace the exemplar of the bucket of its request's time."""
        self._queue = buffered(BufferedHistogram(metrics.queue_seconds.labels(model)))
        counters = [metrics.rows.labels(model, operation)]
        self._anomalies: BufferedCounter | None = None
        self._p_values: tuple[BufferedHistogram | KolmogorovDistanceGauge, ...] = ()
        if operation == "sample":
            counters.append(metrics.samples.labels(model))
        self._rows = buffered(BufferedCounter(*counters))
        if operation == "score":
            self._anomalies = buffered(BufferedCounter(metrics.anomalies.labels(model)))
            self._p_values = (
                buffered(BufferedHistogram(metrics.p_values.labels(model))),
                buffered(KolmogorovDistanceGauge(metrics.p_value_distance.labels(model))),
            )

    def answered(
        self, queue_seconds: float, rows: int, anomalies: int, p_values: Sequence[float] = ()
    ) -> None:
        """Count one answered request; the p-values are those of its items, if they have any."""
        self._queue.observe(queue_seconds)
        self._rows.add(rows)
        if self._anomalies is not None:
            self._anomalies.add(anomalies)
        for accumulator in self._p_values:
            accumulator.observe_all(p_values)


class WaitingRows(Protocol):
    """The rows that wait for a batcher, as it counts them."""

    @property
    def waiting_rows(self) -> int:
        """Return the number of rows that wait."""

    @property
    def max_waiting_rows(self) -> int:
        """Return the number of rows that may wait."""


class StageObserver:
    """Observes the batches of one stage of one model; its label sets are resolved once."""

    def __init__(self, metrics: Metrics, model: str, stage: str, provider: str) -> None:
        buffered = metrics.buffered
        self._seconds = buffered(BufferedHistogram(metrics.compute_seconds.labels(model, stage, provider)))
        self._rows = buffered(BufferedHistogram(metrics.batch_rows.labels(model, stage)))
        self.failed: Final = metrics.compute_failures.labels(model, stage).inc
        """Count a batch that failed."""
        self.batchers: Final[set[WaitingRows]] = set()
        """The running batchers of the stage, one for each version of the model."""
        waiting = metrics.waiting_rows.labels(model, stage)
        buffered(SampledGauge(waiting, lambda: sum(each.waiting_rows for each in self.batchers)))
        capacity = metrics.waiting_capacity.labels(model, stage)
        buffered(SampledGauge(capacity, lambda: sum(each.max_waiting_rows for each in self.batchers)))

    def computed(self, rows: int, seconds: float) -> None:
        """Observe a batch of `rows` rows that took `seconds`."""
        self._seconds.observe(seconds)
        self._rows.observe(rows)
