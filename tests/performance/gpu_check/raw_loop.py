"""ONNX Runtime alone with IO binding, by rows a call: with the copies that serving needs, and without."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from tests.performance.decoder import NAME as DECODER
from tests.performance.models import bench_models
from tests.performance.raw import BATCHES

from .check import Check, Row
from .device_loop import DeviceLoop

_GRAPHS: Final = ((DECODER, "sample"), ("fashion-vae", "score"))


def rows(check: Check) -> Iterator[Row]:
    """A row for each number of rows a call, of the decoder and of the scores of fashion-vae."""
    models = bench_models(check.folder)
    seconds = check.seconds / len(BATCHES)
    for name, operation in _GRAPHS:
        loop = DeviceLoop(models[name], operation, check.device)
        for size in BATCHES:
            copied = loop.seconds_per_call(size, seconds)
            resident = loop.seconds_per_resident_call(size, seconds)
            yield {
                "model": name,
                "operation": operation,
                "rows a call": size,
                "microseconds, copied": copied * 1e6,
                "microseconds, on the device": resident * 1e6,
                "rows a second, copied": size / copied,
                "rows a second, on the device": size / resident,
            }
