"""Pictures of items of two numbers: their density, as a PNG.

The plane is cut into square cells; brightness grows with the logarithm of how many items a cell holds,
so that thin modes show beside thick ones. Shapes: B items, H x W cells.
"""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Iterator
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from service.errors import NotAcceptable
from service.format.manifest import is_picture
from service.numerics.noise import Doubles, Floats

_SIGNATURE: Final = b"\x89PNG\r\n\x1a\n"
_GREY, _RGB, _PALETTE = 0, 2, 3
_SUBTRACT_LEFT: Final = 1
_MEMORY_LEVEL: Final = 9


def write_png(pixels: NDArray[np.uint8], palette: bytes | None = None) -> bytes:
    """A PNG of grey pixels (H, W), or RGB ones (H, W, 3), or, with a palette, of places in it (H, W).

    Args:
        pixels: Of 8 bits a channel.
        palette: Up to 256 colours, three bytes each.
    """
    height, width = pixels.shape[:2]
    kind = _PALETTE if palette is not None else _GREY if pixels.ndim == 2 else _RGB
    lines = np.empty((height, 1 + pixels.size // height), np.uint8)
    if palette is None:  # a pixel less its left neighbour: what is smooth becomes small numbers
        lines[:, 0] = _SUBTRACT_LEFT
        differences = lines[:, 1:].reshape(pixels.shape)
        differences[:, 0] = pixels[:, 0]
        np.subtract(pixels[:, 1:], pixels[:, :-1], out=differences[:, 1:])
    else:
        lines[:, 0] = 0
        lines[:, 1:] = pixels
    # run lengths alone: looking for longer repetitions doubles the time, and makes a few in a hundred
    packer = zlib.compressobj(1, zlib.DEFLATED, zlib.MAX_WBITS, _MEMORY_LEVEL, zlib.Z_RLE)
    data = packer.compress(lines.tobytes()) + packer.flush()
    header = struct.pack(">IIBBBBB", width, height, 8, kind, 0, 0, 0)
    colours = b"" if palette is None else _chunk(b"PLTE", palette)
    return _SIGNATURE + _chunk(b"IHDR", header) + colours + _chunk(b"IDAT", data) + _chunk(b"IEND", b"")


def _chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(data, zlib.crc32(name)))


_HALF_NATS: Final = 1.0
"""The surprise of a pixel that is half as hot as can be: no scale of the answer's own, so that a picture does
not depend on what stands beside it."""


def heat_of(maps: NDArray[Any]) -> NDArray[np.float32]:
    """Heat (B, 3, H, W) in [0, 1] of maps: black for 0 nats, then red, yellow and at last white.

    The channels of a pixel are added; less than 0 nats counts as 0.

    Raises:
        NotAcceptable: the maps are those of no pictures.
    """
    if not is_picture(maps.shape[1:]):
        raise NotAcceptable(
            "this model's items are no pictures; accept application/json or application/x-npy"
        )
    nats = np.maximum(maps.astype(np.float64).sum(axis=1), 0.0)
    heat = 3.0 * nats / (nats + _HALF_NATS)
    colours: NDArray[np.float32] = (
        np.stack([heat, heat - 1.0, heat - 2.0], axis=1).clip(0.0, 1.0).astype("f4")
    )
    return colours


_GRID_GAP_PIXELS = 2
_GRID_GREY = 128


def png_grid(samples: Floats, columns: int | None = None) -> bytes:
    """Images (B, C, H, W) in [0, 1] as one PNG, row by row, `columns` across (the square root of B).

    Raises:
        NotAcceptable: the items are no pictures of one or three channels.
    """
    if not is_picture(samples.shape[1:]):
        raise NotAcceptable(
            "this model's items are no pictures; accept application/json or application/x-npy"
        )
    count, channels, height, width = samples.shape
    across = columns or math.ceil(math.sqrt(count))
    down = -(-count // across)
    gap = _GRID_GAP_PIXELS if count > 1 else 0
    canvas = np.full(
        (down * (height + gap) + gap, across * (width + gap) + gap, channels), _GRID_GREY, dtype=np.uint8
    )
    pixels = np.rint(np.clip(samples, 0, 1) * 255).astype(np.uint8).transpose(0, 2, 3, 1)
    for tile, (top, left) in zip(pixels, _places(across, height + gap, width + gap, gap), strict=False):
        canvas[top : top + height, left : left + width] = tile
    return write_png(canvas[..., 0] if channels == 1 else canvas)


def _places(across: int, row_step: int, column_step: int, gap: int) -> Iterator[tuple[int, int]]:
    row = 0
    while True:
        for column in range(across):
            yield gap + row * row_step, gap + column * column_step
        row += 1


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
