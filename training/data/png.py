"""Samples as PNG: grids of pictures, and plots of the density of points."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from service.format.manifest import is_picture
from service.media.pictures import View, density_png

_GAP_PIXELS = 2
_GAP_GREY = 96


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


def grid_of(images: npt.NDArray[np.float32], columns: int = 8, least_tile: int = 56) -> Image.Image:
    """Pictures (N, C, H, W) in [0, 1] as a grid, each tile enlarged to about `least_tile` pixels."""
    scale = max(1, round(least_tile / images.shape[2]))
    tiles = np.clip(images * 255, 0, 255).round().astype(np.uint8).repeat(scale, 2).repeat(scale, 3)
    # Grey lines between the tiles, because small pictures that touch look like one.
    gap = (0, _GAP_PIXELS)
    tiles = np.pad(tiles, ((0, -len(tiles) % columns), (0, 0), gap, gap), constant_values=_GAP_GREY)
    count, channels, height, width = tiles.shape
    grid = tiles.reshape(count // columns, columns, channels, height, width).transpose(0, 3, 1, 4, 2)
    pixels = grid.reshape(count // columns * height, columns * width, channels)
    pixels = pixels[:-_GAP_PIXELS, :-_GAP_PIXELS]
    return Image.fromarray(pixels[..., 0] if channels == 1 else pixels)
