"""The machine: its device, its driver, and the versions of what computes."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from typing import Final

from .check import Check, Row
from .device import first_device

_PACKAGES: Final = ("onnxruntime-gpu", "torch", "nvidia-cublas", "nvidia-cudnn-cu13", "nvidia-cuda-runtime")


def rows(check: Check) -> Iterator[Row]:
    """A row for each fact; first those that need no package."""
    device = first_device()
    if check.device == "cpu":
        yield {"fact": "device", "value": "the CPU; no GPU was asked for"}
    elif device is None:
        yield {"fact": "device", "value": "nvidia-smi is missing, or tells of none"}
    else:
        yield {"fact": "device", "value": device.name}
        yield {"fact": "driver", "value": device.driver}
        yield {"fact": "compute capability", "value": device.capability}
        yield {"fact": "device memory, MB", "value": round(device.total_megabytes)}
        yield {"fact": "device memory in use before, MB", "value": round(device.used_megabytes)}
    for package in _PACKAGES:
        yield {"fact": f"package {package}", "value": _version(package)}
    yield from _of_the_host()
    yield from _of_torch()


def _of_the_host() -> Iterator[Row]:
    import onnxruntime as ort

    from tests.performance.results import machine

    yield {"fact": "providers of onnxruntime", "value": ", ".join(ort.get_available_providers())}
    for name, value in machine().items():
        yield {"fact": name, "value": value}


def _of_torch() -> Iterator[Row]:
    import torch  # last, since it takes seconds

    yield {"fact": "CUDA of torch", "value": torch.version.cuda or "none"}
    if torch.cuda.is_available():
        yield {"fact": "device by torch", "value": torch.cuda.get_device_name()}
        yield {"fact": "bfloat16 by torch", "value": str(torch.cuda.is_bf16_supported())}


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "none"
