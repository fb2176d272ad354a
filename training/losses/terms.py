"""The terms of an objective, one value an item."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Terms:
    """Per-item values, each (B,), in nats; the loop alone reduces them, by the mean."""

    loss: Tensor
    """What the phase minimises."""
    report: Mapping[str, Tensor]
    """What is written to the log, by name; no gradient is taken of these."""
