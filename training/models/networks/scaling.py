"""Numbers in their own units into standard deviations, and back, inside the networks.

Shapes: B rows, F features.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from training.data import Scaling

_FURTHEST = 1e3
"""Standard deviations at which networks stop telling numbers apart."""


class _Scaled(nn.Module):
    shift: Tensor
    scale: Tensor

    def __init__(self, scaling: Scaling) -> None:
        super().__init__()
        self.register_buffer("shift", torch.tensor(scaling.shift))
        self.register_buffer("scale", torch.tensor(scaling.scale))


class Standardise(_Scaled):
    """Brings features to mean 0 and standard deviation 1, within +- 1000."""

    def forward(self, items: Tensor) -> Tensor:
        """(B, F) -> (B, F)."""
        return ((items - self.shift) / self.scale).clamp(-_FURTHEST, _FURTHEST)


class Unstandardise(_Scaled):
    """Brings standardised features back into their own units."""

    def forward(self, outputs: Tensor) -> Tensor:
        """(B, F) -> (B, F)."""
        return outputs * self.scale + self.shift
