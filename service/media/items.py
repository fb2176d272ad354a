"""The one rule by which arrays become items, in training and in serving; that of pictures is `fitting`.

uint8 is 0 .. 255 of a picture, bool is 0 and 1, and (N, H, W) is one channel. What could mean two things is
refused, with both named.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from service.errors import Unfit

if TYPE_CHECKING:  # the module makes noise, which the client needs not
    from service.numerics.noise import Floats

PICTURE_AXES: Final = 3


def rows_of(array: NDArray[Any], shape: Sequence[int], name: str = "the inputs") -> Floats:
    """Read an array of one item or of rows as float32 (B, *shape).

    Grey pictures may lack the axis of their channel.

    Raises:
        Unfit: not real numbers, another shape, or uint8 pictures that may be zeros and ones.
    """
    shape = tuple(shape)
    if array.dtype.kind not in "fiub":
        raise Unfit(f"{name} came as {array.dtype}; {wanted(shape)}, of numbers")
    is_picture = len(shape) == PICTURE_AXES
    if is_picture and shape[0] == 1 and array.shape[-2:] == shape[1:] and array.ndim in (2, 3):
        array = array.reshape(-1, *shape)
    if array.shape == shape:
        array = array[None]
    if array.shape[1:] != shape or not len(array):
        axes = "pictures.transpose(0, 3, 1, 2)" if array.ndim > PICTURE_AXES else "picture.transpose(2, 0, 1)"
        last = f"; put channels first: {axes}"
        is_last = is_picture and array.shape[-3:] == (*shape[1:], shape[0])
        raise Unfit(f"{name} have shape {list(array.shape)}; {wanted(shape)}{last if is_last else ''}")
    if array.dtype == np.uint8 and is_picture:
        return checked_unit_interval(array)
    with np.errstate(over="ignore"):  # what overflows float32 is refused by its value, as not finite
        return np.ascontiguousarray(array, np.float32)


def wanted(shape: Sequence[int]) -> str:
    """Say which shape is wanted."""
    return f"wanted [rows, {', '.join(map(str, shape))}] with at least one row"


def checked_unit_interval(pixels: NDArray[np.uint8]) -> Floats:
    """Convert pixels 0 .. 255 to float32 in [0, 1].

    Raises:
        Unfit: none is larger than 1, so that they may be zeros and ones.
    """
    if pixels.size and pixels.max() == 1:
        raise Unfit(
            "the pictures are uint8 whose largest value is 1: nearly black pixels of 0 .. 255, or zeros and "
            "ones; give pictures.astype(bool) for zeros and ones, pictures.astype('f4') / 255 for pixels"
        )
    return unit_interval(pixels)


def unit_interval(pixels: NDArray[np.uint8]) -> Floats:
    """Convert pixels, which are known to be 0 .. 255, to float32 in [0, 1]."""
    return np.ascontiguousarray(pixels, np.float32) / np.float32(255)
