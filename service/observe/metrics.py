"""Every Prometheus metric of the service, on a registry of its own.

Labels come from closed sets: route templates, models and versions that were found, operations of the
contract. Label sets are initialised when a model is loaded, so that rates and absences work from zero.
Where several replicas serve, any of them tells what all count together; a gauge says how it is merged.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal, TypeVar

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, values
from prometheus_client.exposition import choose_encoder
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

from service.observe.accumulators import SETTLE_SECONDS, WINDOW, Count, Distribution, Drift, Reading, Tally


def keep_values_in(folder: Path, replica: int) -> None:
    """From now on this process keeps the values of new metrics in files of the folder; to be called once."""
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(folder)  # where prometheus_client looks
    values.ValueClass = values.MultiProcessValue(  # type: ignore[no-untyped-call]
        process_identifier=lambda: replica
    )


def merged(folder: Path) -> CollectorRegistry:
    """What all replicas count together, each gauge merged as its `multiprocess_mode` says."""
    registry = CollectorRegistry()
    MultiProcessCollector(registry, str(folder))  # type: ignore[no-untyped-call]
    return registry


def forget_gauges(folder: Path, replica: int) -> None:
    """Takes what a dead replica held, but not what it counted, out of the sums."""
    mark_process_dead(replica, str(folder))  # type: ignore[no-untyped-call]


DURATION_BUCKETS = (
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
)  # fmt: skip
ROW_BUCKETS = tuple(2.0**power for power in range(9))
BYTE_BUCKETS = tuple(4.0**power for power in range(3, 14))
P_VALUE_BUCKETS = (0.001, 0.005, 0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 1.0)
AnyTally = TypeVar("AnyTally", bound=Tally)
Merge = Literal["livesum", "livemax", "livemin"]
REJECTIONS = ("queue_full", "deadline", "body", "draining", "client_gone")
EXPECTED_CODES = (200, 429, 500, 503, 504)
"""Of the answers of a route, there from the start, so that a rate sees the first error."""


def release() -> str:
    """The installed version of this distribution."""
    try:
        return version("pushforward")
    except PackageNotFoundError:
        return "unknown"


class Metrics:
    """The counters, gauges and histograms, named as attributes.

    Args:
        shared: The folder in which this and other replicas keep their values (`shared_values`), if any do.
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

        self.http_requests = counter("http_requests", "HTTP answers.", "route", "method", "code")
        self.request_seconds = histogram(
            "request_duration_seconds", "Whole requests.", DURATION_BUCKETS, "operation", "model"
        )
        self.queue_seconds = histogram(
            "queue_wait_seconds", "From a call's arrival to its first batch.", DURATION_BUCKETS, "model"
        )
        self.compute_seconds = histogram(
            "compute_duration_seconds", "Batches.", DURATION_BUCKETS, "model", "stage", "provider"
        )
        self.batch_rows = histogram("batch_items", "Rows of a batch.", ROW_BUCKETS, "model", "stage")
        body_bytes = histogram("request_body_bytes", "Request bodies.", BYTE_BUCKETS)
        inflight = gauge("inflight_requests", "Requests being answered.")
        self.waiting_rows = gauge("queue_items", "Rows waiting for a batch.", "model", "stage")
        self.waiting_capacity = gauge("queue_capacity_items", "Rows that may wait.", "model", "stage")
        self.model_loaded = gauge(
            "model_loaded", "1 for a version that is served.", "model", "version", merge="livemin"
        )
        self.model_info = gauge(
            "model_info", "Always 1.", "model", "version", "family", "provider", "sha256", merge="livemax"
        )
        self.provider_active = gauge(
            "provider_active", "1 for the provider in use.", "provider", merge="livemax"
        )
        self.model_failed = gauge(
            "model_failed",
            "1 for a version that stays out; /v1/models says why.",
            "model",
            "version",
            merge="livemax",
        )
        self.gpu_present = gauge("gpu_present", "1 where there is an NVIDIA device.", merge="livemax")
        self.ready = gauge("ready", "1 while requests can be taken.", merge="livemax")
        self.cores = gauge("cores", "Cores that are counted on.")
        self.load_failures = counter("model_load_failures", "Versions that could not be loaded.", "model")
        self.poll_failures = counter("poll_failures", "Looks for new versions that failed.")
        self.draining = gauge("draining", "1 while shutting down.", merge="livemax")
        self.rejected = counter("rejected", "Requests refused or given up.", "reason")
        self.rows = counter("rows", "Rows answered.", "model", "operation")
        self.samples = counter("samples", "Samples answered.", "model")
        self.p_value_distance = gauge(
            "p_value_distance",
            f"Distance of the last {WINDOW} p-values' distribution from uniform; 0 before as many came.",
            "model",
            merge="livemax",
        )
        self.anomalies = counter("anomalies_flagged", "Scored items that were flagged.", "model")
        self.p_values = histogram(
            "p_value", "Of scored items; uniform if they are ordinary.", P_VALUE_BUCKETS, "model"
        )
        self.replica_restarts = counter("replica_restarts", "Replicas started in the place of one that died.")
        gauge("build_info", "Always 1.", "release", merge="livemax").labels(release()).set(1)
        self._tallies: list[Tally] = []
        self.body_bytes = self.distribution(body_bytes)
        self.inflight = self.count(inflight)
        self.follow(counter("cpu_seconds", "CPU time of the process, in all threads."), time.process_time)
        self.follow(
            gauge(
                "event_loop_timestamp_seconds",
                "When the event loop last ran this, in Unix time.",
                merge="livemin",
            ),
            time.time,
        )
        self._meters: dict[tuple[str, str], Meter] = {}
        self._watchers: dict[tuple[str, str, str], StageWatcher] = {}
        self._answers: dict[tuple[str, str, int], Count] = {}
        self.draining.set(0)
        for reason in REJECTIONS:
            self.rejected.labels(reason)
        for provider in ("cpu", "cuda"):
            self.provider_active.labels(provider)

    def expect(self, route: str, method: str) -> None:
        """Sets the answers of a route to zero, for the codes that rates are made of."""
        for code in EXPECTED_CODES:
            self.http_requests.labels(route, method, str(code))

    def initialise(self, model: str, operations: tuple[str, ...]) -> None:
        """Sets the label sets of a model to zero."""
        self.load_failures.labels(model)
        for operation in operations:
            self.meter(model, operation)

    def meter(self, model: str, operation: str) -> Meter:
        """What counts the answered requests of an operation of a model; made once."""
        if (model, operation) not in self._meters:
            self._meters[model, operation] = Meter(self, model, operation)
        return self._meters[model, operation]

    def answered(self, route: str, method: str, code: int) -> None:
        """One HTTP answer left; its label set is resolved once."""
        key = (route, method, code)
        if key not in self._answers:
            self._answers[key] = self.count(self.http_requests.labels(route, method, str(code)))
        self._answers[key].add()

    def watch(self, model: str, stage: str, provider: str) -> StageWatcher:
        """What the batchers of that stage report to, whatever their versions; made once."""
        key = (model, stage, provider)
        if key not in self._watchers:
            self._watchers[key] = StageWatcher(self, *key)
        return self._watchers[key]

    def count(self, metric: Counter | Gauge) -> Count:
        """A tally of the metric; ask for it once, since it is kept."""
        return self._kept(Count(metric))

    def distribution(self, metric: Histogram) -> Distribution:
        """A tally of the metric; ask for it once, since it is kept."""
        return self._kept(Distribution(metric))

    def drift(self, metric: Gauge) -> Drift:
        """A tally of the metric; ask for it once, since it is kept."""
        return self._kept(Drift(metric))

    def _kept(self, tally: AnyTally) -> AnyTally:
        self._tallies.append(tally)
        return tally

    def follow(self, metric: Counter | Gauge, read: Callable[[], float]) -> None:
        """From now on the metric has the value that is read whenever it is settled."""
        self._tallies.append(Reading(metric, read))

    def settle(self) -> None:
        """Tells the metrics what was tallied. To be called in the event loop, where tallies are kept."""
        for tally in self._tallies:
            tally.settle()

    async def keep_settled(self) -> None:
        """Settles every so often, until cancelled, and then once more."""
        try:
            while True:
                await asyncio.sleep(SETTLE_SECONDS)
                self.settle()
        finally:
            self.settle()

    def exposition(self, accept: str) -> tuple[bytes, str]:
        """The metrics, as they were settled last, in the format `Accept` prefers, and its content type.

        It takes tenths of a second, and may be called in any thread.
        """
        encode, content_type = choose_encoder(accept)
        return encode(self.collected()), content_type

    def collected(self) -> CollectorRegistry:
        """What to read the metrics from, of all replicas if there are several; it stays up to date."""
        return self.registry if self._shared is None else merged(self._shared)


class Meter:
    """Counts the answers of one operation of one model; its label sets are resolved once."""

    def __init__(self, metrics: Metrics, model: str, operation: str) -> None:
        self._seconds = metrics.distribution(metrics.request_seconds.labels(operation, model))
        self._queue = metrics.distribution(metrics.queue_seconds.labels(model))
        self._rows = metrics.count(metrics.rows.labels(model, operation))
        self._samples = metrics.count(metrics.samples.labels(model)) if operation == "sample" else None
        scores = operation == "score"
        self._anomalies = metrics.count(metrics.anomalies.labels(model)) if scores else None
        self._p_values = metrics.distribution(metrics.p_values.labels(model)) if scores else None
        self._drift = metrics.drift(metrics.p_value_distance.labels(model)) if scores else None

    def took(self, seconds: float) -> None:
        """One request ended, whatever its outcome."""
        self._seconds.observe(seconds)

    def exemplify(self, seconds: float, trace_id: str) -> None:
        """The trace of a request that took so long is an example of its bucket."""
        self._seconds.exemplify(seconds, trace_id)

    def answered(
        self, queue_seconds: float, rows: int, anomalies: int, p_values: Sequence[float] = ()
    ) -> None:
        """One request was answered; the p-values are those of its items, if they have any."""
        self._queue.observe(queue_seconds)
        self._rows.add(rows)
        if self._samples is not None:
            self._samples.add(rows)
        if self._anomalies is not None:
            self._anomalies.add(anomalies)
        if self._p_values is not None and self._drift is not None:
            self._p_values.observe_all(p_values)
            self._drift.observe_all(p_values)


class StageWatcher:
    """Reports one stage of one model; its label sets are resolved once."""

    def __init__(self, metrics: Metrics, model: str, stage: str, provider: str) -> None:
        self._seconds = metrics.distribution(metrics.compute_seconds.labels(model, stage, provider))
        self._rows = metrics.distribution(metrics.batch_rows.labels(model, stage))
        self._waiting = metrics.count(metrics.waiting_rows.labels(model, stage))
        self._room = metrics.waiting_capacity.labels(model, stage)

    def computed(self, rows: int, seconds: float) -> None:
        """One batch of that many rows took that long."""
        self._seconds.observe(seconds)
        self._rows.observe(rows)

    def waiting(self, change: int) -> None:
        """That many more rows wait now, or fewer, if negative; versions of a model add up."""
        self._waiting.add(change)

    def room(self, change: int) -> None:
        """That many more rows may wait from now on, or fewer, if negative."""
        self._room.inc(change)
