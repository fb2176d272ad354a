import asyncio
import errno

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from scipy import stats

from service.observe.accumulators import (
    DISTANCE_WINDOW,
    BufferedCounter,
    BufferedHistogram,
    KolmogorovDistanceGauge,
    SampledGauge,
)
from service.observe.metrics import Metrics

VALUES = st.lists(st.floats(-10, 1e4, allow_nan=False), max_size=50)
BOUNDS = (0.0, 0.5, 1.0, 2.5, 100.0)


def samples(metric: Histogram) -> dict[tuple[str, str], float]:
    (family,) = metric.collect()
    return {
        (sample.name, sample.labels.get("le", "")): round(sample.value, 6)
        for sample in family.samples
        if not sample.name.endswith("_created")
    }


@given(st.lists(VALUES, max_size=4))
def test_a_settled_distribution_is_what_observing_each_value_gives(batches: list[list[float]]) -> None:
    buffered, observed = (
        Histogram("seconds", "", registry=CollectorRegistry(), buckets=BOUNDS) for _ in range(2)
    )
    buffer = BufferedHistogram(buffered)
    for batch in batches:
        for value in (*batch, *BOUNDS):
            buffer.observe(value)
            observed.observe(value)
        buffer.flush()
    assert samples(buffered) == samples(observed)


def test_a_drift_is_the_distance_of_the_last_p_values_from_uniform() -> None:
    gauge = Gauge("distance", "", registry=CollectorRegistry())
    drift, random = KolmogorovDistanceGauge(gauge), np.random.default_rng(0)

    def told() -> float:
        drift.flush()
        return next(iter(gauge.collect())).samples[0].value

    drift.observe_all(random.uniform(size=DISTANCE_WINDOW - 1).tolist())
    assert told() == 0  # too few to tell
    uniform, low = random.uniform(size=DISTANCE_WINDOW), random.uniform(size=DISTANCE_WINDOW) ** 2
    for values in (uniform, low):
        drift.observe_all(values.tolist())
        assert told() == pytest.approx(stats.kstest(values, "uniform").statistic)
    assert told() > 0.2


@given(st.lists(st.integers(0, 1000), max_size=20))
def test_a_count_tells_its_metric_all_and_nothing_twice(amounts: list[int]) -> None:
    counter = Counter("rows", "", registry=CollectorRegistry())
    buffer = BufferedCounter(counter)
    for amount in amounts:
        buffer.add(amount)
        if amount % 2:
            buffer.flush()
    buffer.flush()
    buffer.flush()
    (family,) = counter.collect()
    assert family.samples[0].value == sum(amounts)


def test_a_gauge_goes_up_and_down() -> None:
    gauge = Gauge("waiting", "", registry=CollectorRegistry())
    values = iter((5, 3, 0))
    sampled = SampledGauge(gauge, lambda: next(values))
    told = []
    for _ in range(3):
        sampled.flush()
        told += [family.samples[0].value for family in gauge.collect()]
    assert told == [5, 3, 0]


def test_what_was_tallied_is_told_when_the_service_ends() -> None:
    async def end(metrics: Metrics) -> None:
        settling = asyncio.create_task(metrics.flush_periodically())
        await asyncio.sleep(0)
        metrics.meter("toy", "sample").answered(0.001, 3, 0)
        settling.cancel()
        await asyncio.gather(settling, return_exceptions=True)

    metrics = Metrics()
    asyncio.run(end(metrics))
    text, _ = metrics.exposition("")
    assert 'pushforward_rows_total{model="toy",operation="sample"} 3.0' in text.decode()


def test_a_flush_that_fails_is_tried_again(caplog: pytest.LogCaptureFixture) -> None:
    class FullDisk:
        def __init__(self, failures: int) -> None:
            self.failures = failures
            self.flushed = asyncio.Event()

        def flush(self) -> None:
            if self.failures:
                self.failures -= 1
                raise OSError(errno.ENOSPC, "No space left on device")
            self.flushed.set()

    async def recover(metrics: Metrics) -> None:
        disk = metrics.buffered(FullDisk(failures=2))
        settling = asyncio.create_task(metrics.flush_periodically())
        await asyncio.wait_for(disk.flushed.wait(), 30)
        settling.cancel()
        await asyncio.gather(settling, return_exceptions=True)

    asyncio.run(recover(Metrics()))
    assert [record.levelname for record in caplog.records] == ["ERROR"]
