"""Grids of grey pictures as PNG."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image


def write_grid(path: Path, images: npt.NDArray[np.float32], columns: int = 8, least_tile: int = 56) -> None:
    """Write images (rows, 1, H, W) in [0, 1] as a grid, each tile enlarged to about `least_tile` pixels."""
    rows, _, height, width = images.shape
    lines = -(-rows // columns)
    tiles = np.zeros((lines * columns, height, width), np.float32)
    tiles[:rows] = images[:, 0]
    grid = (
        tiles.reshape(lines, columns, height, width).swapaxes(1, 2).reshape(lines * height, columns * width)
    )
    scale = max(1, round(least_tile / height))
    pixels = np.clip(grid * 255, 0, 255).round().astype(np.uint8).repeat(scale, 0).repeat(scale, 1)
    Image.fromarray(pixels, "L").save(path, optimize=True)
