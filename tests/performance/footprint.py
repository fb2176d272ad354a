"""The needs of one process of the service: time to start, and memory, at rest and while it streams."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Final

import numpy as np

from .failure import BenchFailed
from .load import apply_load
from .models import PUBLISHED
from .process_tree import proportional_megabytes, resident_megabytes
from .servers import Target, service_server
from .state import Bench
from .streaming import Stream
from .workloads import Workload

_POLL_SECONDS: Final = 0.05
_SETTLED_AFTER: Final = 0.25
"""The slope of memory is that after this share of the stream."""
_FEWEST_POINTS: Final = 2
_CONNECTIONS: Final = 8


def measure_start(bench: Bench, workload: Workload) -> dict[str, float]:
    """Starts one process with the published models; its time to ready, and its PSS, also after a load."""
    folder = bench.serving(PUBLISHED)
    models = {name: bench.models[name] for name in PUBLISHED}
    with service_server(folder, models, bench.logs, processes=1) as target:
        assert target.process_id is not None, "the bench has started it"
        ready = proportional_megabytes(target.process_id)
        for name in PUBLISHED:
            for count in (1, 64):
                _load(bench, target, replace(workload, model=name, count=count))
        loaded = proportional_megabytes(target.process_id)
    return {
        "ready_seconds": target.ready_seconds,
        "pss_ready_megabytes": ready,
        "pss_loaded_megabytes": loaded,
    }


def _load(bench: Bench, target: Target, workload: Workload) -> None:
    request = target.dialect.request(workload)
    apply_load(target.url, request, _CONNECTIONS, bench.warm_up_seconds, bench.fresh_seeds())


def measure_stream(bench: Bench, workload: Workload) -> dict[str, float]:
    """Starts one process, reads one large answer, and watches the process's resident memory meanwhile.

    Raises:
        BenchFailed: the stream failed, or was read too briefly to tell a slope.
    """
    large = replace(workload, count=workload.large_count)
    model = bench.models[workload.model]
    folder = bench.serving([workload.model])
    points: list[tuple[float, float]] = []
    with service_server(folder, {workload.model: model}, bench.logs, processes=1) as target:
        assert target.process_id is not None, "the bench has started it"
        idle = resident_megabytes(target.process_id)
        started_at = time.monotonic()
        with Stream(target, large, model, bench.fresh_seeds(), repeats=False) as stream:
            while not stream.ended and time.monotonic() - started_at < bench.stream_seconds:
                time.sleep(_POLL_SECONDS)
                points.append((stream.samples, resident_megabytes(target.process_id)))
        seconds = time.monotonic() - started_at
    samples, megabytes = np.array(points).reshape(-1, 2).T
    settled = samples >= _SETTLED_AFTER * samples.max(initial=0.0)
    if len(set(samples[settled])) < _FEWEST_POINTS:
        raise BenchFailed(
            f"{workload.name}: the stream was read for {seconds:.1f} s, too briefly; give it longer"
        )
    slope, _ = np.polyfit(samples[settled] / 1e6, megabytes[settled], 1)
    return {
        "streamed_samples": float(samples[-1]),
        "samples_per_second": float(samples[-1]) / seconds,
        "idle_megabytes": idle,
        "peak_above_idle_megabytes": float(megabytes.max()) - idle,
        "slope_megabytes_per_million_samples": float(slope),
    }
