"""The two mixtures of the picture, and how much of the plane it shows of each. Shapes: N points, M modes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from training.data.points import MODES, Modes
from training.metrics.modes import Floats


@dataclass(frozen=True)
class PlaneMixture:
    """A mixture of Gaussians in the plane with equal weights; a row of the picture."""

    title: str
    modes: Modes
    reach: float
    """Pictures show the square [-reach, reach]^2."""

    def draw(self, rows: int, seed: tuple[int, ...]) -> Floats:
        """Draw points (N, 2) float64; the same seed gives the same points."""
        points, _ = self.modes.draw(np.random.default_rng(seed), rows)
        return points.astype(np.float64)


MIXTURES: Mapping[str, PlaneMixture] = MappingProxyType(
    {
        "ring": PlaneMixture("ring of 8", MODES["ring"](), reach=1.3),
        "grid": PlaneMixture("grid of 25", MODES["grid"](), reach=5.0),
    }
)
"""The mixtures by name."""
