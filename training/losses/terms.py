"""The terms of an objective, one value per item."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Terms:
    """Per-item values, each (B,), in nats; the loop reduces them by the mean."""

    loss: Tensor
    """The value that the phase minimises."""
    report: Mapping[str, Tensor]
    """The values for the log, by name; no gradient is taken of these."""
