"""The density of a column that has one value in all training rows: a Student's t with 2 degrees of freedom.

A Gaussian would call a change by a thousand scales half a million nats surprising, more than all other
columns together, though the scale is only assumed. The t's surprise grows with the logarithm of the change:
20 nats for a thousand scales, 3 more for every factor e. Its distribution function has a closed inverse.
Shapes: B rows, F features; gaps are distances from the value in scales. Source: Jones 2002, "Student's
simplest distribution", The Statistician 51(1), for all formulas.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from training.models.likelihoods.likelihood import in_lanes

LOG_PEAK = -math.log(2 * math.sqrt(2))
"""The log density at a gap of 0, in nats."""


def surprise(gaps: Tensor) -> Tensor:
    """Return the nats by which gaps (B, F) are less likely than none: 3/2 log(1 + gap^2 / 2)."""
    return 1.5 * in_lanes(torch.log, 1 + 0.5 * gaps * gaps)


def quantile(uniforms: Tensor) -> Tensor:
    """Return the inverse distribution function at uniforms (B, F) in (0, 1), in scales."""
    return (2 * uniforms - 1) / torch.sqrt(2 * uniforms * (1 - uniforms))


def residual(gaps: Tensor) -> Tensor:
    """Return the deviance residual of gaps (B, F), sqrt(2 surprise); of a Gaussian that is |gap| itself."""
    return torch.sqrt(2 * surprise(gaps))
