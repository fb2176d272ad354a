"""Samples as PNG: grids of pictures, and plots of the density of points."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from service.format.manifest import is_picture
from service.media.pictures import View, density_png, grid_pixels

_TILE_PIXELS = 56


_MARGIN = 1.15
"""The width of a picture of a density, over the width of the data."""


def view_of(items: npt.NDArray[np.float32]) -> View | None:
    """Return the ranges of a square around items of two numbers (N, 2), or NaN; None for other items."""
    if items.shape[1:] != (2,):
        return None
    low, high = np.nanmin(items, 0), np.nanmax(items, 0)
    half = _MARGIN * float((high - low).max()) / 2
    x, y = ((low + high) / 2).tolist()
    return (x - half, x + half), (y - half, y + half)


def write_samples(path: Path, samples: npt.NDArray[np.float32], view: View | None) -> None:
    """Write a picture of samples (N, *item): a grid if they are pictures, their density if they are points.

    Nothing is written for anything else. `view` are the ranges of both numbers that a plot shows.
    """
    if is_picture(samples.shape[1:]):
        write_grid(path, samples)
    elif samples.shape[1:] == (2,):
        path.write_bytes(density_png(samples, view))


def write_grid(path: Path, images: npt.NDArray[np.float32]) -> None:
    """Write the grid of pictures (N, C, H, W) in [0, 1] as PNG."""
    grid_of(images).save(path, optimize=True)


def grid_of(images: npt.NDArray[np.float32], columns: int = 8) -> Image.Image:
    """Arrange pictures (N, C, H, W) in [0, 1] in a grid, each enlarged to about 56 pixels of height."""
    scale = max(1, round(_TILE_PIXELS / images.shape[2]))
    return Image.fromarray(grid_pixels(images, columns, scale, frame=False))
