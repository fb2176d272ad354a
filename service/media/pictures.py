"""Pictures, as PNG or JPEG: grids of images, heat maps of surprise, and densities of points.

In a density the plane is cut into square cells; brightness grows with the logarithm of the number of items
in a cell, so that thin modes show beside thick ones. Shapes: B items; H x W pixels or cells.
"""

from __future__ import annotations

import io
import math
import struct
import zlib
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from service.errors import NotAcceptable
from service.format.manifest import is_picture
from service.numerics.noise import Doubles, Floats

View = tuple[tuple[float, float], tuple[float, float]]
"""The ranges of both coordinates that a density shows."""
LONGER_SIDE_PIXELS: Final = 512
_PNG_SIGNATURE: Final = b"\x89PNG\r\n\x1a\n"
_GREY, _RGB, _PALETTE = 0, 2, 3
_SUBTRACT_LEFT: Final = 1
_ZLIB_MEMORY_LEVEL: Final = 9
_GRID_GAP_PIXELS: Final = 2
_GRID_GREY: Final = 128
_MAP_SCALE: Final = 1.0
"""The scale of heat maps of versions that have none of their own."""
_HALF_HEAT: Final = 2.0
"""The surprise of a pixel of half the greatest heat, over the scale of heat maps."""
_BENEATH: Final = 0.6
"""The lightness of an item beneath its heat map."""
_FEWEST_CELLS, _MOST_CELLS = 128, 256
_CELLS_PER_ROOT_ITEM: Final = 4
_NARROWEST: Final = 1 / 4
_MARGIN: Final = 0.05
_BLUR: Final = np.array([1.0, 4.0, 6.0, 4.0, 1.0]) / 16
_PALETTE_ANCHORS: Final = "0b0a1e 1b1148 4a127c 87267f c23b75 f0605d fd9a6a fed18f fcfbe3"
"""Colours of growing lightness, from an empty cell to the fullest."""


def grid_pixels(
    images: Floats, columns: int | None = None, scale: int = 1, *, frame: bool = True
) -> NDArray[np.uint8]:
    """Arrange images (B, C, H, W) in [0, 1] row by row in a grid, with grey lines between them.

    Args:
        images: Of one or three channels.
        columns: Images per row; by default the square root of B, rounded up.
        scale: Pixels of the grid per pixel of an image, along each side.
        frame: True to draw the lines around the grid too.

    Returns:
        Pixels (H, W) for one channel, (H, W, 3) for three.
    """
    count, channels = images.shape[:2]
    across = columns or math.ceil(math.sqrt(count))
    down = -(-count // across)
    gap = _GRID_GAP_PIXELS if count > 1 else 0
    pixels = np.rint(np.clip(images, 0, 1) * 255).astype(np.uint8).transpose(0, 2, 3, 1)
    tiles = pixels.repeat(scale, axis=1).repeat(scale, axis=2)
    height, width = tiles.shape[1] + gap, tiles.shape[2] + gap
    grid = np.full((down * height + gap, across * width + gap, channels), _GRID_GREY, np.uint8)
    for place, tile in enumerate(tiles):
        top, left = place // across * height + gap, place % across * width + gap
        grid[top : top + len(tile), left : left + tile.shape[1]] = tile
    if gap and not frame:
        grid = grid[gap:-gap, gap:-gap]
    return grid[..., 0] if channels == 1 else grid


def png_grid(images: Floats, columns: int | None = None, scale: int = 1) -> bytes:
    """Encode the grid of images (B, C, H, W) in [0, 1], see `grid_pixels`, as one PNG.

    Raises:
        NotAcceptable: the items are not pictures of one or three channels.
    """
    _require_pictures(images.shape[1:])
    return write_png(grid_pixels(images, columns, scale))


def jpeg(image: Floats) -> bytes:
    """Encode one image (1, C, H, W) in [0, 1] as JPEG of quality 95.

    Raises:
        NotAcceptable: the item is not a picture of one or three channels.
    """
    from PIL import Image  # here, because it is a tenth of the start time and often never used

    _require_pictures(image.shape[1:])
    file = io.BytesIO()
    Image.fromarray(grid_pixels(image)).save(file, "JPEG", quality=95)
    return file.getvalue()


def _require_pictures(item_shape: tuple[int, ...]) -> None:
    if not is_picture(item_shape):
        raise NotAcceptable(
            "this model's items are no pictures; accept application/json or application/x-npy"
        )


def heat_of(maps: NDArray[Any], scale: float | None = None, items: Floats | None = None) -> Floats:
    """Colour maps of surprise (B, C, H, W): black for what is ordinary, then red, yellow and white.

    The channels of a pixel are added; less than 0 counts as 0. With r = surprise / scale the heat is
    r^2 / (r^2 + 4): a fifth of its range at the scale, and half of it at twice the scale. It does not depend
    on the other items.

    Args:
        maps: The surprises.
        scale: The version's `map_scale`, which 1 in 100 pixels of ordinary pictures exceed.
        items: Pictures (B, C, H, W) in [0, 1] to lay the heat over, in grey.

    Returns:
        Colours (B, 3, H, W) in [0, 1].

    Raises:
        NotAcceptable: the maps are not those of pictures.
    """
    _require_pictures(maps.shape[1:])
    surprise = np.maximum(maps.astype(np.float64).sum(axis=1), 0.0)
    squared = (surprise / ((scale or _MAP_SCALE) * _HALF_HEAT)) ** 2
    heat = squared / (squared + 1.0)
    colours = np.stack([3.0 * heat, 3.0 * heat - 1.0, 3.0 * heat - 2.0], axis=1).clip(0.0, 1.0)
    if items is not None:
        grey = items.astype(np.float64).mean(axis=1).clip(0.0, 1.0)
        share = np.sqrt(heat)[:, None]
        colours = share * colours + (1.0 - share) * _BENEATH * grey[:, None]
    return colours.astype(np.float32)


def density_png(points: Floats, view: View | None) -> bytes:
    """Encode the density of points (B, 2) over the ranges of `view` as PNG; the first number points right.

    The picture has the proportions of the view, at most 4 to 1, and its longer side has 512 pixels; points
    outside are left out. Without a view it is square and shows every point.
    """
    (left, right), (low, high) = view or (_range(points[:, 0]), _range(points[:, 1]))
    proportion = min(max((right - left) / (high - low), _NARROWEST), 1 / _NARROWEST) if view else 1.0
    # a power of two that grows with the points
    cells = 1 << round(math.log2(_CELLS_PER_ROOT_ITEM * math.sqrt(len(points))))
    cells = min(max(cells, _FEWEST_CELLS), _MOST_CELLS)
    width, height = round(cells * min(proportion, 1.0)), round(cells / max(proportion, 1.0))
    columns = np.floor((points[:, 0].astype(np.float64) - left) / (right - left) * width)
    rows = np.floor((points[:, 1].astype(np.float64) - low) / (high - low) * height)
    seen = (columns >= 0) & (columns < width) & (rows >= 0) & (rows < height)
    places = (rows[seen] * width + columns[seen]).astype(np.intp)
    counts = np.bincount(places, minlength=width * height).reshape(height, width)  # the lowest row first
    levels = np.log1p(_blurred(counts.astype(np.float64)) / _BLUR.max() ** 2)  # log 2 at a lone point
    fullest = levels.max()
    shades = np.rint(255 * levels / fullest if fullest > 0 else levels).astype(np.uint8)
    scale = LONGER_SIDE_PIXELS // cells
    return write_png(shades[::-1].repeat(scale, axis=0).repeat(scale, axis=1), _palette())


def _range(values: Floats) -> tuple[float, float]:
    """Return a range that holds all values (B,), with a margin."""
    smallest, largest = float(values.min()), float(values.max())
    margin = _MARGIN * (largest - smallest) or 0.5 * max(abs(largest), 1.0)
    return smallest - margin, largest + margin


def _blurred(counts: Doubles) -> Doubles:
    """Spread each count over its neighbours, so that a lone point is a dot rather than a cell."""
    for _ in range(2):  # along one axis; then the transpose, along the other
        padded = np.pad(counts, ((len(_BLUR) // 2,) * 2, (0, 0)))
        counts = sum(
            (weight * padded[shift : shift + len(counts)] for shift, weight in enumerate(_BLUR)),
            start=np.zeros_like(counts),
        ).T
    return counts


def _palette() -> bytes:
    """Return 256 colours between the anchors, three bytes each."""
    anchors = np.frombuffer(bytes.fromhex(_PALETTE_ANCHORS), np.uint8).reshape(-1, 3)
    places = np.linspace(0, len(anchors) - 1, 256)
    channels = [np.interp(places, np.arange(len(anchors)), anchors[:, channel]) for channel in range(3)]
    return np.rint(np.stack(channels, axis=1)).astype(np.uint8).tobytes()


def write_png(pixels: NDArray[np.uint8], palette: bytes | None = None) -> bytes:
    """Encode pixels as PNG.

    Args:
        pixels: Grey (H, W), RGB (H, W, 3), or, with a palette, indices into it (H, W).
        palette: Up to 256 colours, three bytes each.
    """
    height, width = pixels.shape[:2]
    kind = _PALETTE if palette is not None else _GREY if pixels.ndim == 2 else _RGB
    lines = np.zeros((height, 1 + pixels.size // height), np.uint8)
    if palette is None:  # a pixel less its left neighbour: small numbers where it is smooth
        lines[:, 0] = _SUBTRACT_LEFT
        pixels = np.diff(pixels, axis=1, prepend=np.uint8(0))
    lines[:, 1:] = pixels.reshape(height, -1)
    # run lengths only: to look for longer repetitions doubles the time and saves a few per cent
    packer = zlib.compressobj(1, zlib.DEFLATED, zlib.MAX_WBITS, _ZLIB_MEMORY_LEVEL, zlib.Z_RLE)
    data = packer.compress(lines.tobytes()) + packer.flush()
    header = struct.pack(">IIBBBBB", width, height, 8, kind, 0, 0, 0)
    colours = b"" if palette is None else _chunk(b"PLTE", palette)
    return _PNG_SIGNATURE + _chunk(b"IHDR", header) + colours + _chunk(b"IDAT", data) + _chunk(b"IEND", b"")


def _chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(data, zlib.crc32(name)))
