"""The two mixtures of the picture, and how much of the plane it shows of each. Shapes: N points, M modes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

from training.data.points import Modes, grid_modes, ring_modes

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Mixture:
    """An even mixture of Gaussians, as a row of the picture."""

    title: str
    modes: Modes
    reach: float
    """Pictures show the square [-reach, reach]^2."""

    def draw(self, rows: int, seed: tuple[int, ...]) -> Floats:
        """Points (N, 2); the same seed gives the same points."""
        points, _ = self.modes.draw(np.random.default_rng(seed), rows)
        return points.astype(np.float64)


MIXTURES: Mapping[str, Mixture] = MappingProxyType(
    {
        "ring": Mixture("ring of 8", ring_modes(), reach=1.3),
        "grid": Mixture("grid of 25", grid_modes(), reach=5.0),
    }
)
"""The mixtures by name."""
