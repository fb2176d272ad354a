"""The start and the memory of one process with the three published models of the bench."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from urllib.parse import urlsplit

import httpx

from tests.performance.models import PUBLISHED, bench_models, linked
from tests.performance.process_tree import proportional_megabytes
from tests.performance.servers import Target, service_server
from tests.performance.workloads import WORKLOADS

from .check import Check, CheckFailed, Row
from .client import apply_plain_load
from .device import first_device


def rows(check: Check) -> Iterator[Row]:
    """A row for each moment: before, once ready, and after a load of all three.

    Raises:
        CheckFailed: the service computes elsewhere than on the device.
    """
    models = {
        name: model for name, model in bench_models(check.folder / "decoders").items() if name in PUBLISHED
    }
    folder = linked(models.values(), check.folder / "models")
    at_first = _used(check)
    yield {"when": "before the start", **_device_memory(check, at_first)}
    with service_server(folder, models, check.folder, 1, ["--device", check.device]) as target:
        told = _providers(target)
        yield {
            "when": "once ready",
            "seconds from the start": target.ready_seconds,
            "provider by /v1/models": ", ".join(sorted(set(told.values()))),
            **_held(check, target, at_first),
        }
        if set(told.values()) != {check.device}:
            raise CheckFailed(f"the service should compute on {check.device}, and says {told}")
        _load(target, check.seconds)
        yield {"when": "after a load of each", **_held(check, target, at_first)}


def _load(target: Target, seconds: float) -> None:
    single = next(workload for workload in WORKLOADS if workload.name == "single-8")
    port = urlsplit(target.url).port or 0
    for name in PUBLISHED:
        for count in (1, 64):
            request = target.dialect.request(replace(single, model=name, count=count))
            apply_plain_load(port, request, single.connections, seconds / 6, count)


def _held(check: Check, target: Target, at_first: float | None) -> Row:
    assert target.process_id is not None, "it was started here"
    return {"PSS, MB": proportional_megabytes(target.process_id), **_device_memory(check, at_first)}


def _device_memory(check: Check, at_first: float | None) -> Row:
    """Return the memory of all processes on the device, and its growth since before the start."""
    used = _used(check)
    if used is None or at_first is None:
        return {}
    return {"device memory, MB": used, "device memory above before, MB": used - at_first}


def _used(check: Check) -> float | None:
    device = first_device() if check.device == "cuda" else None
    return None if device is None else device.used_megabytes


def _providers(target: Target) -> dict[str, str]:
    catalogue = httpx.get(f"{target.url}/v1/models", timeout=30.0, trust_env=False).json()
    return {model["name"]: model["provider"] for model in catalogue["models"]}
