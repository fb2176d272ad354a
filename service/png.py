"""Writes PNG. Pillow tries five filters a row, which takes longer than all the rest; one is enough here.

Source: the PNG specification, third edition, W3C 2025, sections 5, 9 and 11. Shapes: H x W pixels.
"""

from __future__ import annotations

import struct
import zlib
from typing import Final

import numpy as np
from numpy.typing import NDArray

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
