"""The two mixtures: eight Gaussians on a ring, and twenty-five on a grid. Shapes: N points, M modes.

As in Lin et al. 2018 (PacGAN), arXiv:1712.04086, section 4.1, and its published code.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Mixture:
    """Equally weighted Gaussians N(centre, deviation^2 I) in the plane."""

    title: str
    centres: Floats
    """(M, 2)."""
    deviation: float
    reach: float
    """Pictures show the square [-reach, reach]^2."""

    def draw(self, rows: int, seed: tuple[int, ...]) -> Floats:
        """Points (N, 2); the same seed gives the same points."""
        generator = np.random.default_rng(seed)
        modes = generator.integers(len(self.centres), size=rows)
        return self.centres[modes] + self.deviation * generator.standard_normal((rows, 2))


def _ring() -> Floats:
    # Not linspace(0, 2 pi, 8): it includes both ends, so two of the eight modes would be one.
    angles = 2 * np.pi * np.arange(8) / 8
    return np.stack([np.cos(angles), np.sin(angles)], axis=1)


def _grid() -> Floats:
    steps = np.arange(-4.0, 5.0, 2.0)
    return np.stack(np.meshgrid(steps, steps, indexing="ij"), axis=-1).reshape(-1, 2)


MIXTURES: Mapping[str, Mixture] = MappingProxyType(
    {
        "ring": Mixture("ring of 8", _ring(), deviation=0.01, reach=1.3),
        "grid": Mixture("grid of 25", _grid(), deviation=0.05, reach=5.0),
    }
)
"""The mixtures by name."""
