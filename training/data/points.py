"""Mixtures of Gaussians in the plane, on which the modes that a GAN misses can be counted.

The two sets of the literature, as in PacGAN's code (Lin et al. 2018, arXiv:1712.04086, section 4.1): eight
modes on the unit circle, each once (a `linspace` that includes its end would repeat the first), and a grid of
five by five.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from service.format.columns import Column
from training.data.dataset import Dataset, Items, Labels, Scaling, Split
from training.data.options import DataOptions

_ROWS: dict[Split, int] = {"train": 100_000, "validation": 10_000, "calibration": 10_000, "test": 10_000}


@dataclass(frozen=True)
class Modes:
    """A mixture of round Gaussians in the plane with equal weights."""

    centres: Items
    """(M, 2) float32."""
    deviation: float
    """The standard deviation of each mode in both directions."""

    def draw(self, random: np.random.Generator, rows: int) -> tuple[Items, Labels]:
        """Draw points (rows, 2) float32 and the mode of each."""
        labels = random.integers(len(self.centres), size=rows)
        points = self.centres[labels] + self.deviation * random.standard_normal((rows, 2))
        return points.astype(np.float32), labels


def ring_modes() -> Modes:
    """Return eight modes of standard deviation 0.01 on the unit circle."""
    angles = 2 * math.pi * np.arange(8) / 8
    return Modes(np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32), 0.01)


def grid_modes() -> Modes:
    """Return 25 modes of standard deviation 0.05 on {-4, -2, 0, 2, 4} squared."""
    side = np.arange(-4, 5, 2, dtype=np.float32)
    return Modes(np.stack(np.meshgrid(side, side), axis=-1).reshape(-1, 2), 0.05)


MODES = {"ring": ring_modes, "grid": grid_modes}
"""The mixtures by the names of their datasets."""


def load_points(options: DataOptions) -> Dataset:
    """Load the ring or the grid: 100 000 training points and 10 000 for each of the other splits."""
    modes = MODES[options.dataset]()
    random = np.random.default_rng(options.split_seed)
    drawn = {split: modes.draw(random, rows) for split, rows in _ROWS.items()}
    train, _ = drawn["train"]
    return Dataset(
        name=options.dataset,
        source=f"{len(modes.centres)} Gaussians of standard deviation {modes.deviation:g} "
        + ("on the unit circle" if options.dataset == "ring" else "on a square grid of spacing 2"),
        item_shape=(2,),
        class_names=tuple(f"({x:.4g}, {y:.4g})" for x, y in modes.centres.tolist()),
        items={split: points for split, (points, _) in drawn.items()},
        labels={split: labels for split, (_, labels) in drawn.items()},
        columns=(Column(name="x"), Column(name="y")),
        scaling=Scaling(shift=train.mean(0), scale=train.std(0)),
        kind=options.dataset,
    )
