"""The parts of the check: what each one finds out, and how long it may take. Standard library alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

TOTAL_SECONDS: Final = 480.0
"""The longest that all parts together may take, the installation of wheels included."""


@dataclass(frozen=True, slots=True)
class Part:
    """One part, which runs in a process of its own; its rows survive whatever happens to it."""

    name: str
    what: str
    seconds: float
    """The seconds that it may take, besides the time that the parts before it have left."""
    module: str
    """The module of this package whose `rows` yields its rows."""
    computes: bool = True
    """True if it has rows only once something was computed on the device."""


PARTS: Final = (
    Part(
        "machine", "the device, its driver, and the versions of what computes", 20, "machine", computes=False
    ),
    Part("providers", "where ONNX Runtime places every graph of every model", 45, "providers"),
    Part("agreement", "every graph of every model on the CPU and on the device", 60, "agreement"),
    Part("rows", "promise 1: a row, and sample i of a seed, in every batch", 60, "promise"),
    Part("tests", "the tests that are marked gpu", 50, "marked", computes=False),
    Part("speed", "loads of the service beside the raw loop with IO binding", 100, "speed"),
    Part("raw", "ONNX Runtime alone with IO binding, by rows a call", 40, "raw_loop"),
    Part("training", "training steps of fashion-vae in float32 and in bfloat16", 50, "stepping"),
    Part(
        "memory",
        "a start with three models: time, memory of process and device",
        40,
        "memory",
        computes=False,
    ),
)
