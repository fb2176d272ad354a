"""The limit: ONNX Runtime alone, without noise, HTTP or encoding."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from typing import Final

import numpy as np

from .models import Feeds, Model, one_thread_session

BATCHES: Final = (1, 2, 4, 8, 16, 32, 64, 128, 256)
"""Rows a call that are tried."""

_TRIAL_SECONDS: Final = 0.05
_TRIALS: Final = 3


class RawLoop:
    """One session with one intra-op thread, called from `threads` threads at once, by the best batch.

    On CPUs this is the fastest way to use ONNX Runtime on such small graphs: with more intra-op threads and
    fewer callers the operators are too small to share. `batch_rows` is the best of BATCHES by a short trial.
    """

    def __init__(self, model: Model, operation: str, threads: int) -> None:
        self._session = one_thread_session(model.graph(operation))
        self._threads = threads
        self._feeds = {rows: model.examples(operation, rows) for rows in BATCHES}
        rates: dict[int, list[float]] = {rows: [] for rows in BATCHES}
        for _ in range(_TRIALS):  # interleaved: the machine is not equally fast all the time
            for rows, found in rates.items():
                found.append(self._rate_of_all(rows, _TRIAL_SECONDS))
        self.batch_rows = max(rates, key=lambda rows: float(np.median(rates[rows])))

    def rows_per_second(self, seconds: float) -> float:
        """Rows computed per second by all threads together, measured over so many seconds."""
        return self._rate_of_all(self.batch_rows, seconds)

    def cpu_seconds_per_call(self, rows: float, seconds: float) -> float:
        """CPU of one call with so many rows, in one thread, measured over so many seconds in all.

        Calls are measured at the two of BATCHES around `rows`, and what lies between is interpolated.
        """
        sizes = [size for size in BATCHES if size <= rows][-1:] + [size for size in BATCHES if size > rows][
            :1
        ]
        costs = [self._cpu_of_call(self._feeds[size], seconds / len(sizes)) for size in sizes]
        return float(np.interp(rows, sizes, costs))

    def _cpu_of_call(self, feeds: Feeds, seconds: float) -> float:
        stop_at, started_at, calls = time.perf_counter() + seconds, time.thread_time(), 0
        while not calls or time.perf_counter() < stop_at:
            self._session.run(None, feeds)
            calls += 1
        return (time.thread_time() - started_at) / calls

    def _rate_of_all(self, rows: int, seconds: float) -> float:
        stop_at = time.perf_counter() + seconds
        with ThreadPoolExecutor(self._threads) as pool:
            return sum(pool.map(self._rate, [rows] * self._threads, [stop_at] * self._threads))

    def _rate(self, rows: int, stop_at: float) -> float:
        started_at, calls = time.perf_counter(), 0
        while not calls or time.perf_counter() < stop_at:
            self._session.run(None, self._feeds[rows])
            calls += 1
        return calls * rows / (time.perf_counter() - started_at)
