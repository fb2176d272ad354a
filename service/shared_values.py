"""Values of Prometheus metrics in files that all replicas of the service read, so that each tells the sums.

Every replica has a number and writes its own files. What takes the place of a dead replica has its number and
goes on counting where that one stopped: counters never go down, and the files never become more.
"""

from __future__ import annotations

import os
from pathlib import Path
from threading import Lock
from typing import Any

from prometheus_client import CollectorRegistry, values
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead


def keep_values_in(folder: Path, replica: int) -> None:
    """From now on this process keeps the values of new metrics in files of the folder; to be called once."""
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(folder)  # where prometheus_client looks
    values.ValueClass = _value_class(replica)


def merged(folder: Path) -> CollectorRegistry:
    """What all replicas count together, each gauge merged as its `multiprocess_mode` says."""
    registry = CollectorRegistry()
    MultiProcessCollector(registry, str(folder))  # type: ignore[no-untyped-call]
    return registry


def forget_gauges(folder: Path, replica: int) -> None:
    """Takes what a dead replica held, but not what it counted, out of the sums."""
    mark_process_dead(replica, str(folder))  # type: ignore[no-untyped-call]


def _value_class(replica: int) -> type:
    shared: Any = values.MultiProcessValue(process_identifier=lambda: replica)  # type: ignore[no-untyped-call]

    class InPlaceValue(shared):  # type: ignore[misc]  # a class made by a call
        """A value incremented in place, as fast as in one process; the library takes three times as long."""

        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **options)
            place = self._file._positions[self._key]
            # stays valid when the file grows: the library maps it anew, and both mappings are the same pages
            self._cell = memoryview(self._file._m)[place : place + 8].cast("d")
            self._lock = Lock()

        def inc(self, amount: float) -> None:
            with self._lock:
                self._value += amount
                self._cell[0] = self._value

    return InPlaceValue
