"""Standardisation of items in their own units, and its inverse, inside the networks.

Shapes: B rows, F features.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from training.data import Scaling

_FURTHEST = 1e3
"""The largest standardised value that networks see."""


def filled(items: Tensor, values: Tensor) -> Tensor:
    """Return items (B, F) with `values` (F,) in the place of missing ones (NaN)."""
    return torch.where(torch.isnan(items), values, items)


class _Scaled(nn.Module):
    shift: Tensor
    scale: Tensor
    varies: Tensor | None
    """(F,), 0 at the features that had one value in training, 1 at others; None if all varied."""

    def __init__(self, scaling: Scaling) -> None:
        super().__init__()
        self.register_buffer("shift", torch.tensor(scaling.shift))
        self.register_buffer("scale", torch.tensor(scaling.scale))
        self._takes_missing = scaling.takes_missing
        varies = torch.ones(len(scaling.scale))
        varies[list(scaling.constants)] = 0
        self.register_buffer("varies", varies if scaling.constants else None, persistent=False)


class Standardise(_Scaled):
    """Scales features to mean 0 and standard deviation 1, clamped to +- 1000; constants become 0.

    Missing values (NaN) become 0, and one feature for each of M columns that lack values says so. Source:
    Mattei & Frellsen 2019, "MIWAE", arXiv:1812.02633, section 3.3 (imputing by 0); the mask: Nazabal et al.
    2020, arXiv:1807.03653, section 3.
    """

    masked: Tensor | None

    def __init__(self, scaling: Scaling) -> None:
        super().__init__(scaling)
        masked = torch.tensor(scaling.masked, dtype=torch.long)
        self.register_buffer("masked", masked if scaling.masked else None, persistent=False)

    def forward(self, items: Tensor) -> Tensor:
        """(B, F) -> (B, F + M)."""
        there = filled(items, self.shift) if self._takes_missing else items
        scaled = ((there - self.shift) / self.scale).clamp(-_FURTHEST, _FURTHEST)
        scaled = scaled if self.varies is None else scaled * self.varies
        if self.masked is None:
            return scaled
        return torch.cat([scaled, torch.isnan(items.index_select(1, self.masked)).to(scaled.dtype)], dim=1)


class Unstandardise(_Scaled):
    """Scales standardised features back to their own units; constants become their value."""

    def forward(self, outputs: Tensor) -> Tensor:
        """(B, F) -> (B, F)."""
        outputs = outputs if self.varies is None else outputs * self.varies
        return outputs * self.scale + self.shift
