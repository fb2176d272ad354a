import asyncio

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from service.metrics import Metrics
from service.tallies import Count, Distribution

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
    tallied, observed = (
        Histogram("seconds", "", registry=CollectorRegistry(), buckets=BOUNDS) for _ in range(2)
    )
    tally = Distribution(tallied)
    for batch in batches:
        for value in (*batch, *BOUNDS):
            tally.observe(value)
            observed.observe(value)
        tally.settle()
    assert samples(tallied) == samples(observed)


@given(st.lists(st.integers(0, 1000), max_size=20))
def test_a_count_tells_its_metric_all_and_nothing_twice(amounts: list[int]) -> None:
    counter = Counter("rows", "", registry=CollectorRegistry())
    tally = Count(counter)
    for amount in amounts:
        tally.add(amount)
        if amount % 2:
            tally.settle()
    tally.settle()
    tally.settle()
    (family,) = counter.collect()
    assert family.samples[0].value == sum(amounts)


def test_a_gauge_goes_up_and_down() -> None:
    gauge = Gauge("waiting", "", registry=CollectorRegistry())
    tally = Count(gauge)
    for change in (5, -2, -3):
        tally.add(change)
        tally.settle()
    (family,) = gauge.collect()
    assert family.samples[0].value == 0


def test_what_was_tallied_is_told_when_the_service_ends() -> None:
    async def end(metrics: Metrics) -> None:
        settling = asyncio.create_task(metrics.keep_settled())
        await asyncio.sleep(0)
        metrics.meter("toy", "sample").answered(0.001, 3, 0)
        settling.cancel()
        await asyncio.gather(settling, return_exceptions=True)

    metrics = Metrics()
    asyncio.run(end(metrics))
    text, _ = metrics.exposition("")
    assert 'pushforward_rows_total{model="toy",operation="sample"} 3.0' in text.decode()
