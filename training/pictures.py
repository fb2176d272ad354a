"""Grids of grey or coloured pictures as PNG."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

_GAP_PIXELS = 2
_GAP_GREY = 96


def is_picture(item_shape: tuple[int, ...]) -> bool:
    """Whether items of that shape can be shown: (1, H, W) grey or (3, H, W) RGB."""
    return len(item_shape) == 3 and item_shape[0] in (1, 3)


def write_grid(path: Path, images: npt.NDArray[np.float32], columns: int = 8, least_tile: int = 56) -> None:
    """Write pictures (N, C, H, W) in [0, 1] as a grid, each tile enlarged to about `least_tile` pixels."""
    scale = max(1, round(least_tile / images.shape[2]))
    tiles = np.clip(images * 255, 0, 255).round().astype(np.uint8).repeat(scale, 2).repeat(scale, 3)
    # Grey lines between the tiles: small pictures that touch cannot be told apart.
    gap = (0, _GAP_PIXELS)
    tiles = np.pad(tiles, ((0, -len(tiles) % columns), (0, 0), gap, gap), constant_values=_GAP_GREY)
    count, channels, height, width = tiles.shape
    grid = tiles.reshape(count // columns, columns, channels, height, width).transpose(0, 3, 1, 4, 2)
    pixels = grid.reshape(count // columns * height, columns * width, channels)
    pixels = pixels[:-_GAP_PIXELS, :-_GAP_PIXELS]
    Image.fromarray(pixels[..., 0] if channels == 1 else pixels).save(path, optimize=True)
