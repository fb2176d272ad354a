"""The limit: ONNX Runtime alone, without noise, HTTP or encoding."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from .decoder import LATENT_SIZE

BATCH_ROWS: Final = 64


def one_thread_session(graph: Path) -> Any:
    """A CPU session that computes every call in its caller's thread."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return ort.InferenceSession(str(graph), options, providers=["CPUExecutionProvider"])


class RawLoop:
    """One session with one intra-op thread, called from `threads` threads, 64 rows a call.

    On CPUs this is the fastest way to use ONNX Runtime on such a decoder: with more intra-op threads
    and fewer callers the operators are too small to share.
    """

    def __init__(self, graph: Path, threads: int) -> None:
        self._session = one_thread_session(graph)
        self._threads = threads
        self._latents = np.random.default_rng(0).standard_normal((BATCH_ROWS, LATENT_SIZE), np.float32)
        self._run()

    def samples_per_second(self, seconds: float) -> float:
        """Samples computed per second by all threads together, measured over so many seconds."""
        with ThreadPoolExecutor(self._threads) as pool:
            rates = pool.map(self._rate, [time.perf_counter() + seconds] * self._threads)
            return sum(rates)

    def _rate(self, stop_at: float) -> float:
        started_at, batches = time.perf_counter(), 0
        while not batches or time.perf_counter() < stop_at:
            self._run()
            batches += 1
        return batches * BATCH_ROWS / (time.perf_counter() - started_at)

    def _run(self) -> NDArray[np.float32]:
        (samples,) = self._session.run(None, {"latents": self._latents})
        return np.asarray(samples)
