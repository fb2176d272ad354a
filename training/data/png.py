"""Samples as PNG: grids of pictures, and plots of the density of points."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from service.format.manifest import is_picture
from service.media.pictures import View, density_png, grid_pixels

_TILE_PIXELS = 56


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
