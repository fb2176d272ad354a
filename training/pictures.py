"""Grids of grey or coloured pictures as PNG."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

_GAP_PIXELS = 2
_GAP_GREY = 96


def write_grid(path: Path, images: npt.NDArray[np.float32]) -> None:
    """Write the grid of pictures (N, C, H, W) in [0, 1] as PNG."""
    grid_of(images).save(path, optimize=True)


def grid_of(images: npt.NDArray[np.float32], columns: int = 8, least_tile: int = 56) -> Image.Image:
    """Pictures (N, C, H, W) in [0, 1] as a grid, each tile enlarged to about `least_tile` pixels."""
    scale = max(1, round(least_tile / images.shape[2]))
    tiles = np.clip(images * 255, 0, 255).round().astype(np.uint8).repeat(scale, 2).repeat(scale, 3)
    # Grey lines between the tiles: small pictures that touch cannot be told apart.
    gap = (0, _GAP_PIXELS)
    tiles = np.pad(tiles, ((0, -len(tiles) % columns), (0, 0), gap, gap), constant_values=_GAP_GREY)
    count, channels, height, width = tiles.shape
    grid = tiles.reshape(count // columns, columns, channels, height, width).transpose(0, 3, 1, 4, 2)
    pixels = grid.reshape(count // columns * height, columns * width, channels)
    pixels = pixels[:-_GAP_PIXELS, :-_GAP_PIXELS]
    return Image.fromarray(pixels[..., 0] if channels == 1 else pixels)
