"""Pictures of items of two numbers: their density, as a PNG.

The plane is cut into square cells; brightness grows with the logarithm of how many items a cell holds,
so that thin modes show beside thick ones. Shapes: B items, H x W cells.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np
from numpy.typing import NDArray

from service.png import write_png

Doubles = NDArray[np.float64]
View = tuple[tuple[float, float], tuple[float, float]]

LONGER_SIDE_PIXELS: Final = 512
_FEWEST_CELLS, _MOST_CELLS = 128, 256
_CELLS_PER_ROOT_ITEM = 4
_NARROWEST = 1 / 4
_MARGIN = 0.05
_BLUR: Final = np.array([1.0, 4.0, 6.0, 4.0, 1.0]) / 16
_ANCHORS: Final = (
    (0x0B, 0x0A, 0x1E),
    (0x1B, 0x11, 0x48),
    (0x4A, 0x12, 0x7C),
    (0x87, 0x26, 0x7F),
    (0xC2, 0x3B, 0x75),
    (0xF0, 0x60, 0x5D),
    (0xFD, 0x9A, 0x6A),
    (0xFE, 0xD1, 0x8F),
    (0xFC, 0xFB, 0xE3),
)
"""Colours of growing lightness, from empty to full."""


def density_png(points: NDArray[np.float32], view: View | None) -> bytes:
    """The density of points (B, 2) over the ranges of `view`, as a PNG; the first number to the right.

    The picture has the proportions of the view, at most 4 to 1, and its longer side 512 pixels; points
    outside are left out. Without a view it is square and shows every point.
    """
    (left, right), (low, high) = view or (_range(points[:, 0]), _range(points[:, 1]))
    proportion = min(max((right - left) / (high - low), _NARROWEST), 1 / _NARROWEST) if view else 1.0
    cells = _cells(len(points))
    width, height = round(cells * min(proportion, 1.0)), round(cells / max(proportion, 1.0))
    counts = _counts(points.astype(np.float64), (left, right), (low, high), width, height)
    levels = np.log1p(_blurred(counts) / _BLUR.max() ** 2)  # log 2 at a lone point
    fullest = levels.max()
    shades = np.rint(255 * levels / fullest if fullest > 0 else levels).astype(np.uint8)
    scale = LONGER_SIDE_PIXELS // cells
    return write_png(shades[::-1].repeat(scale, axis=0).repeat(scale, axis=1), _palette())


def _cells(items: int) -> int:
    """Cells along the longer side: a power of two, the more the more items."""
    wanted = _CELLS_PER_ROOT_ITEM * math.sqrt(items)
    return min(max(1 << round(math.log2(wanted)), _FEWEST_CELLS), _MOST_CELLS)


def _range(values: NDArray[np.float32]) -> tuple[float, float]:
    """From below the smallest to above the largest of the values (B,)."""
    smallest, largest = float(values.min()), float(values.max())
    margin = _MARGIN * (largest - smallest) or 0.5 * max(abs(largest), 1.0)
    return smallest - margin, largest + margin


def _counts(
    points: Doubles, across: tuple[float, float], up: tuple[float, float], width: int, height: int
) -> Doubles:
    """How many points lie in each cell, (H, W), the lowest row first."""
    columns = np.floor((points[:, 0] - across[0]) / (across[1] - across[0]) * width)
    rows = np.floor((points[:, 1] - up[0]) / (up[1] - up[0]) * height)
    seen = (columns >= 0) & (columns < width) & (rows >= 0) & (rows < height)
    places = (rows[seen] * width + columns[seen]).astype(np.intp)
    return np.bincount(places, minlength=width * height).reshape(height, width).astype(np.float64)


def _blurred(counts: Doubles) -> Doubles:
    """The counts, each spread over its neighbours, so that a lone point is a dot rather than a cell."""
    for _ in range(2):  # along one axis, then, turned, along the other
        padded = np.pad(counts, ((len(_BLUR) // 2,) * 2, (0, 0)))
        counts = sum(
            (weight * padded[shift : shift + len(counts)] for shift, weight in enumerate(_BLUR)),
            start=np.zeros_like(counts),
        ).T
    return counts


def _palette() -> bytes:
    """256 colours between the anchors, three bytes each."""
    anchors = np.array(_ANCHORS, np.float64)
    places = np.linspace(0, len(anchors) - 1, 256)
    channels = [np.interp(places, np.arange(len(anchors)), anchors[:, channel]) for channel in range(3)]
    return np.rint(np.stack(channels, axis=1)).astype(np.uint8).tobytes()
