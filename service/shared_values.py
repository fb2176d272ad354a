"""Values of Prometheus metrics in files that all replicas of the service read, so that each tells the sums.

Every replica has a number and writes its own files. What takes the place of a dead replica has its number and
goes on counting where that one stopped: counters never go down, and the files never become more.
"""

from __future__ import annotations

import os
from pathlib import Path

from prometheus_client import CollectorRegistry, values
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead


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
