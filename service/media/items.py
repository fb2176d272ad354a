"""The one rule by which arrays and pictures become items, in training and in serving.

uint8 is 0 .. 255 of a picture, bool is 0 and 1, (N, H, W) is one channel, and an alpha channel that hides
nothing is dropped. What could mean two things is refused, with both named.
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
_OPAQUE: Final = 255
_GREY_MODES: Final = ("1", "L", "LA")
_PLAIN_MODES: Final = ("1", "L", "P", "RGB")
_ALPHA_MODES: Final = {"LA": "L", "PA": "RGB", "RGBA": "RGB"}


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
        last = "; put channels first: pictures.transpose(0, 3, 1, 2)"
        is_last = is_picture and array.shape[-3:] == (*shape[1:], shape[0])
        raise Unfit(f"{name} have shape {list(array.shape)}; {wanted(shape)}{last if is_last else ''}")
    if array.dtype == np.uint8 and is_picture:
        return unit_interval(array)
    with np.errstate(over="ignore"):  # what overflows float32 is refused by its value, as not finite
        return np.ascontiguousarray(array, np.float32)


def wanted(shape: Sequence[int]) -> str:
    """Say which shape is wanted."""
    return f"wanted [rows, {', '.join(map(str, shape))}] with at least one row"


def unit_interval(pixels: NDArray[np.uint8]) -> Floats:
    """Convert pixels 0 .. 255 to float32 in [0, 1].

    Raises:
        Unfit: none is larger than 1, so that they may be zeros and ones.
    """
    if pixels.size and pixels.max() == 1:
        raise Unfit(
            "the pictures are uint8 whose largest value is 1: nearly black pixels of 0 .. 255, or zeros and "
            "ones; give pictures.astype(bool) for zeros and ones, pictures.astype('f4') / 255 for pixels"
        )
    return np.ascontiguousarray(pixels, np.float32) / np.float32(255)


def is_grey(picture: Any) -> bool:
    """Return True if a PIL picture has no colours."""
    return picture.mode in _GREY_MODES


def plain_picture(picture: Any) -> Any:
    """Return a PIL picture without its alpha channel or transparent colour, which must hide nothing.

    Raises:
        Unfit: it is transparent in places, or has more than 8 bits a channel, or other colours than RGB.
    """
    if picture.mode in _ALPHA_MODES or "transparency" in picture.info:
        target = _ALPHA_MODES.get(picture.mode, "L" if is_grey(picture) else "RGB")
        whole = picture.convert("RGBA")
        if whole.getchannel("A").getextrema()[0] < _OPAQUE:
            raise Unfit(
                "the picture is transparent in places, which have no value; put it on a background, or drop "
                f"its alpha channel by picture.convert({target!r})"
            )
        return whole.convert(target)
    if picture.mode not in _PLAIN_MODES:
        raise Unfit(f"the picture has the mode {picture.mode}; give 8 bits a channel, grey or RGB")
    return picture


def pixels_of(picture: Any, channels: int) -> NDArray[np.uint8]:
    """Return the pixels (H, W, channels) of a PIL picture: grey for one channel, RGB for three.

    Raises:
        Unfit: see `plain_picture`.
    """
    plain = plain_picture(picture).convert("L" if channels == 1 else "RGB")
    return np.asarray(plain, np.uint8).reshape(plain.height, plain.width, channels)


def check_size(picture: Any, shape: Sequence[int]) -> None:
    """Raise Unfit unless a PIL picture has the size of an item (C, H, W)."""
    _, height, width = shape
    if picture.size != (width, height):
        came = " x ".join(map(str, picture.size))
        raise Unfit(f"the picture has {came} pixels (width x height), the model takes {width} x {height}")


def picture_item(picture: Any, shape: Sequence[int]) -> Floats:
    """Read a PIL picture as an item (C, H, W) of a model, float32 in [0, 1].

    Raises:
        Unfit: the model takes no pictures or others, or it is no plain picture.
    """
    shape = tuple(shape)
    if len(shape) != PICTURE_AXES or shape[0] not in (1, 3):
        raise Unfit(f"this model takes no pictures; {wanted(shape)}")
    check_size(picture, shape)
    pixels = pixels_of(picture, shape[0]).transpose(2, 0, 1)
    return np.ascontiguousarray(pixels, np.float32) / np.float32(255)
