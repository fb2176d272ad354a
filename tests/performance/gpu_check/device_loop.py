"""The limit on a device: ONNX Runtime alone by IO binding, in one thread, one call after the other."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import onnxruntime as ort

from service.format.versions import read_weights
from service.runtime.session import IoBindingSession, choose_provider, open_session
from tests.performance.models import Feeds, Model
from tests.performance.raw import BATCHES

from .check import DeviceName


class DeviceLoop:
    """The graph of an operation in a session of the service's own, fed by IO binding."""

    def __init__(self, model: Model, operation: str, device: DeviceName) -> None:
        self._device = device
        choose_provider(device, model.folder)
        weights = read_weights(model.folder, model.manifest)
        self._session = open_session(model.graph(operation), weights, device)
        self._bound = IoBindingSession(self._session, device)
        self._feeds = {rows: model.examples(operation, rows) for rows in BATCHES}

    def seconds_per_call(self, rows: int, seconds: float) -> float:
        """The median time of a call with so many rows, inputs and outputs copied from and to the host."""
        return _median(partial(self._bound.run, self._feeds[rows]), seconds)

    def seconds_per_resident_call(self, rows: int, seconds: float) -> float:
        """The same for inputs and outputs that stay on the device, awaited."""
        return _median(self._resident(self._feeds[rows]), seconds)

    def best_rows_per_second(self, seconds: float) -> tuple[float, int]:
        """The most rows a second, copied from and to the host, by the best of BATCHES, and that."""
        rates = {rows: rows / self.seconds_per_call(rows, seconds / len(BATCHES)) for rows in BATCHES}
        best = max(rates, key=lambda rows: rates[rows])
        return rates[best], best

    def _resident(self, feeds: Feeds) -> Callable[[], None]:
        binding: Any = self._session.io_binding()
        for name, array in feeds.items():
            binding.bind_ortvalue_input(name, ort.OrtValue.ortvalue_from_numpy(array, self._device, 0))
        for tensor in self._session.get_outputs():
            binding.bind_output(tensor.name, self._device, 0)

        def call() -> None:
            self._session.run_with_iobinding(binding)
            binding.synchronize_outputs()

        return call


def _median(call: Callable[[], object], seconds: float) -> float:
    """The median seconds of a call, the first left out, which may choose algorithms; at least three."""
    call()
    times: list[float] = []
    stop_at = time.perf_counter() + seconds
    while len(times) < 3 or time.perf_counter() < stop_at:
        started_at = time.perf_counter()
        call()
        times.append(time.perf_counter() - started_at)
    return float(np.median(times))
