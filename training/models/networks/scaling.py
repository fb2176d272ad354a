"""Standardisation of items in their own units, and its inverse, inside the networks.

Shapes: B rows, F features.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from training.data import Scaling

_FURTHEST = 1e3
"""The largest standardised value that networks see."""


class _Scaled(nn.Module):
    shift: Tensor
    scale: Tensor

    def __init__(self, scaling: Scaling) -> None:
        super().__init__()
        self.register_buffer("shift", torch.tensor(scaling.shift))
        self.register_buffer("scale", torch.tensor(scaling.scale))


class Standardise(_Scaled):
    """Scales features to mean 0 and standard deviation 1, clamped to +- 1000."""

    def forward(self, items: Tensor) -> Tensor:
        """(B, F) -> (B, F)."""
        return ((items - self.shift) / self.scale).clamp(-_FURTHEST, _FURTHEST)


class Unstandardise(_Scaled):
    """Scales standardised features back to their own units."""

    def forward(self, outputs: Tensor) -> Tensor:
        """(B, F) -> (B, F)."""
        return outputs * self.scale + self.shift
