"""Grids of grey pictures as PNG."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

_GAP_PIXELS = 2
_GAP_GREY = 96


def write_grid(path: Path, images: npt.NDArray[np.float32], columns: int = 8, least_tile: int = 56) -> None:
    """Write images (N, 1, H, W) in [0, 1] as a grid, each tile enlarged to about `least_tile` pixels."""
    scale = max(1, round(least_tile / images.shape[2]))
    tiles = np.clip(images[:, 0] * 255, 0, 255).round().astype(np.uint8).repeat(scale, 1).repeat(scale, 2)
    # Grey lines between the tiles: small pictures that touch cannot be told apart.
    gap = (0, _GAP_PIXELS)
    tiles = np.pad(tiles, ((0, -len(tiles) % columns), gap, gap), constant_values=_GAP_GREY)
    count, height, width = tiles.shape
    grid = tiles.reshape(count // columns, columns, height, width).swapaxes(1, 2)
    pixels = grid.reshape(count // columns * height, columns * width)[:-_GAP_PIXELS, :-_GAP_PIXELS]
    Image.fromarray(pixels).save(path, optimize=True)
