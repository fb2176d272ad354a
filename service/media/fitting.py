"""The one rule by which the file of a picture becomes an item, in training and in serving.

A version that was trained on files says in its manifest what was done to them (`PictureForm`), and the same
is done to the picture of a request. Without that, a picture is only turned upright, and made grey or RGB: it
has 8 bits a channel, and the model's own size.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from numbers import Real
from typing import TYPE_CHECKING, Any, BinaryIO, Final, Literal, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from service.errors import LimitExceeded, Malformed, Unfit
from service.media.items import PICTURE_AXES, unit_interval, wanted

if TYPE_CHECKING:  # the module makes noise, which the client needs not
    from service.numerics.noise import Floats

FORMATS: Final = ("PNG", "JPEG", "WEBP", "TIFF", "BMP")
"""The formats that are read, by Pillow's names."""
ENDINGS: Final = (".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".bmp")
"""The endings of their files."""
_SEVERAL: Final = ("PNG", "WEBP", "TIFF")
"""The formats of animations and pages. A second picture in the JPEG of a camera is left out."""
_BYTES_PER_PIXEL: Final = 4
_GREY_BYTES_PER_PIXEL: Final = 1
_COPIES, _MOST_COPIES = 2, 4
"""The copies of a picture that are in memory while it is converted: if it is grey or RGB, and if not."""
_DECODER_BYTES_PER_PIXEL: Final = {"WEBP": 12, "JPEG": 6}
"""The memory of decoders that hold the whole picture."""
_MOST_TEXT_BYTES: Final = 2**22
_OPAQUE: Final = 255
_GREY_MODES: Final = ("1", "L", "LA")
_PLAIN_MODES: Final = ("1", "L", "P", "RGB")
_CONVERTED_MODES: Final = ("CMYK", "YCbCr", "RGBX")
_ALPHA_MODES: Final = {"LA": "L", "PA": "RGB", "RGBA": "RGB"}
_DEEP_MODES: Final = ("I;16", "I;16L", "I;16B")
_DEEP_BITS: Final = 16
_BITS_TAG, _PHOTOMETRIC_TAG, _LARGEST_TAGS = 258, 262, (281, 341)
"""TIFF's tags BitsPerSample and PhotometricInterpretation, and MaxSampleValue and SMaxSampleValue."""
_WHITE_IS_ZERO: Final = 0
_ORIENTATION_TAG: Final = 0x0112
_UPRIGHT: Final = 1
_BINARY_FROM: Final = 0.5
_END_OF_PNG: Final = b"IEND\xaeB`\x82"


class PictureRule(NamedTuple):
    """The parts of a version's `PictureForm`, whose fields say what they mean."""

    fit: Literal["stretch", "crop"] | None = None
    background: tuple[int, int, int] | None = None
    binary: bool = False

    @classmethod
    def of(cls, form: Mapping[str, Any] | None) -> Self | None:
        """Return the rule of a `PictureForm`, as a manifest has it, or None if there is none."""
        if form is None:
            return None
        background = form["background"]
        return cls(form["fit"], None if background is None else tuple(background), form["binary"])


class FittedPixels(NamedTuple):
    """The pixels of a picture as a model has them."""

    pixels: NDArray[np.uint8]
    """(H, W, C), of one channel if it is grey, else three: red, green and blue."""
    size: tuple[int, int]
    """The height and width of the picture, upright, before it was fitted."""
    conversions: tuple[str, ...]
    """Phrases on what was done to the picture, in its order."""


class PictureHeader(NamedTuple):
    """The size of a picture that is not decoded yet."""

    pixels: int
    memory_bytes: int
    """The memory that it takes to decode and convert it."""


class _SampleTags(NamedTuple):
    """The meaning of a picture's samples of 16 bits, by the tags of a TIFF."""

    bits: int = _DEEP_BITS
    """The lower bits that they use; 16 unless tags say fewer."""
    zero_is_white: bool = False

    @classmethod
    def of(cls, picture: Any) -> Self:
        """Read the tags of a PIL picture; a greatest value counts if it is that of 8 to 15 bits.

        Any other one is the greatest of this picture, by which pictures of one camera would be scaled apart.
        """
        tags = getattr(picture, "tag_v2", None)
        if tags is None:
            return cls()
        bits = max(_numbers(tags, _BITS_TAG), default=_DEEP_BITS)
        if bits == _DEEP_BITS:
            ranges = {2**each - 1: each for each in range(8, _DEEP_BITS)}
            found = [most for tag in _LARGEST_TAGS for most in _numbers(tags, tag) if most in ranges]
            bits = ranges[max(found)] if found else bits
        elif not 8 < bits < _DEEP_BITS:
            return cls()
        return cls(int(bits), _numbers(tags, _PHOTOMETRIC_TAG) == [_WHITE_IS_ZERO])


class FittedItem(NamedTuple):
    """A picture as an item of a model."""

    item: Floats
    """(C, H, W), in [0, 1]."""
    conversions: tuple[str, ...]
    """Phrases on what was done to the picture, in its order."""


@contextmanager
def opened(file: BinaryIO, most_pixels: int | None = None) -> Iterator[Any]:
    """Open a still picture of one of the `FORMATS`; its pixels are not decoded yet.

    Raises:
        Malformed: it is no such picture, or a damaged one; also if that shows while it is used.
        LimitExceeded: it has more than `most_pixels` pixels.
        Unfit: it is animated, or has several pages.
    """
    # here, because it is a tenth of the start time and often never used
    from PIL import Image, PngImagePlugin, UnidentifiedImageError

    PngImagePlugin.MAX_TEXT_MEMORY = _MOST_TEXT_BYTES  # of all texts of a PNG, which a few bytes may become
    unreadable = (
        OSError, SyntaxError, ValueError, EOFError, TypeError, struct.error,
        Image.DecompressionBombError, Image.DecompressionBombWarning,
    )  # fmt: skip
    try:
        picture = Image.open(file, formats=FORMATS)
        pixels = picture.width * picture.height
        if pixels > (Image.MAX_IMAGE_PIXELS or pixels):  # of which Pillow only warns
            raise Malformed(f"the picture has {pixels} pixels, too many for one: a decompression bomb")
        if most_pixels is not None and pixels > most_pixels:
            raise LimitExceeded(
                f"the picture has {pixels} pixels, at most {most_pixels} are taken; make it smaller"
            )
        if picture.format in _SEVERAL and _has_another(picture):
            raise Unfit("the picture is animated, or has several pages; give one still picture")
        if picture.format == "PNG":
            _check_end(file)
        yield picture
    except unreadable as error:
        reason = "" if isinstance(error, UnidentifiedImageError) else f": {error}"
        kinds = f"{', '.join(FORMATS[:-1])} or {FORMATS[-1]}"
        raise Malformed(f"the picture cannot be read as a {kinds}{reason}") from error


def _has_another(picture: Any) -> bool:
    """Return True if a picture has a second frame or page; further ones, which may be many, are not read."""
    try:
        picture.seek(1)
    except EOFError:
        return False
    return True


def _check_end(file: BinaryIO) -> None:
    """Raise Malformed if the file of an opened PNG is cut off, which Pillow forgives."""
    place = file.tell()
    file.seek(0)
    whole = _END_OF_PNG in file.read()
    file.seek(place)
    if not whole:
        raise Malformed("the PNG ends before its end")


def is_grey(picture: Any) -> bool:
    """Return True if a PIL picture has no colours."""
    return picture.mode in (*_GREY_MODES, *_DEEP_MODES)


def fitted_pixels(
    picture: Any, rule: PictureRule | None, channels: int | None, size: Sequence[int] | None
) -> FittedPixels:
    """Decode a PIL picture, and convert it by a rule.

    Args:
        picture: A picture that may not have been decoded yet.
        rule: The version's; None takes only a picture of 8 bits and of the size.
        channels: 1 for grey, 3 for RGB; None is 1 for a picture without colours.
        size: The height and width that the model takes; None for those of the picture.

    Raises:
        Unfit: its size or its kind of pixels is not taken.
    """
    done: list[str] = []
    tags = _SampleTags.of(picture)  # before it is turned, which loses them
    _check_colour_bits(picture, tags)
    exact = size if rule is None or rule.fit is None else None
    if exact is not None:  # before pixels are decoded
        _check_size(picture, exact, turned=False)
    picture = _upright(picture, done)  # also without a rule: of a TIFF Pillow does it by itself
    if exact is not None:
        _check_size(picture, exact, turned=True)
    if rule is not None:
        picture = _of_eight_bits(picture, tags, done)
    picture = _without_alpha(picture, rule, done)
    channels, came = channels or (1 if is_grey(picture) else 3), (picture.height, picture.width)
    if channels == 1 and not is_grey(picture):
        done.append("its colours turned into grey")
    picture = picture.convert("L" if channels == 1 else "RGB")
    if size is not None and picture.size != (size[1], size[0]):
        picture = _resized(picture, rule, size, done)
    pixels = np.asarray(picture, np.uint8).reshape(picture.height, picture.width, channels)
    return FittedPixels(pixels, came, tuple(done))


def fitted_item(picture: Any, shape: Sequence[int], rule: PictureRule | None = None) -> FittedItem:
    """Convert a PIL picture to an item (C, H, W) of a model by its version's rule.

    Raises:
        Unfit: the model takes no pictures, or not this one.
    """
    channels, *size = _picture_shape(shape)
    pixels, _, done = fitted_pixels(picture, rule, channels, size)
    item = unit_interval(pixels.transpose(2, 0, 1))
    if rule is not None and rule.binary:
        item = (item >= np.float32(_BINARY_FROM)).astype(np.float32)
        done = (*done, f"its values turned into 1 from {_BINARY_FROM} on, and else 0")
    return FittedItem(item, done)


def item_of_file(file: BinaryIO, shape: Sequence[int], rule: PictureRule | None = None) -> FittedItem:
    """Read the file of a picture as an item (C, H, W) of a model by its version's rule.

    Raises:
        Malformed, Unfit: see `opened` and `fitted_item`.
    """
    _picture_shape(shape)
    with opened(file) as picture:
        return fitted_item(picture, shape, rule)


def header_of(file: BinaryIO, most_pixels: int | None = None) -> PictureHeader:
    """Read the header of the file of a picture.

    Raises:
        Malformed, LimitExceeded, Unfit: see `opened`.
    """
    with opened(file, most_pixels) as picture:
        copies = _COPIES if picture.mode in ("L", "RGB") else _MOST_COPIES
        size = _GREY_BYTES_PER_PIXEL if picture.mode in ("1", "L") else _BYTES_PER_PIXEL
        pixels = int(picture.width * picture.height)
        return PictureHeader(
            pixels, pixels * (copies * size + _DECODER_BYTES_PER_PIXEL.get(picture.format, 0))
        )


def _picture_shape(shape: Sequence[int]) -> Sequence[int]:
    """Return the shape of an item that is a picture. Raise Unfit if it is none."""
    if len(shape) != PICTURE_AXES or shape[0] not in (1, 3):
        raise Unfit(f"this model takes no pictures; {wanted(shape)}")
    return shape


def _numbers(tags: Mapping[int, Any], tag: int) -> list[float]:
    """Return the numbers of a TIFF's tag, none if it is not there."""
    found = tags.get(tag, ())
    several = found if isinstance(found, tuple) else (found,)
    return [float(each) for each in several if isinstance(each, Real)]


def _check_size(picture: Any, size: Sequence[int], *, turned: bool) -> None:
    """Raise Unfit unless a picture has a size (height, width), or may still be turned to have it."""
    height, width = size
    if picture.size != (width, height) and (turned or picture.size != (height, width)):
        came = " x ".join(map(str, picture.size))
        raise Unfit(
            f"the picture has {came} pixels (width x height), the model takes {width} x {height}; resize it, "
            "or cut it up if it is a grid of several"
        )


def _upright(picture: Any, done: list[str]) -> Any:
    from PIL import ImageOps

    if picture.getexif().get(_ORIENTATION_TAG, _UPRIGHT) == _UPRIGHT:
        return picture
    done.append("turned upright, as its EXIF says")
    return ImageOps.exif_transpose(picture)


def _of_eight_bits(picture: Any, tags: _SampleTags, done: list[str]) -> Any:
    """Return a picture of 8 bits a channel: of 16 the upper ones, as Pillow itself does for colours."""
    from PIL import Image

    if picture.mode in _CONVERTED_MODES:
        done.append(f"{picture.mode} turned into RGB")
        return picture.convert("RGB")
    if picture.mode not in _DEEP_MODES or "transparency" in picture.info:
        return picture
    values = np.asarray(picture).astype(np.uint16)
    bits = tags.bits if values.max(initial=0) < 2**tags.bits else _DEEP_BITS  # else the tag is not true
    if tags.zero_is_white:
        values = np.uint16(2**bits - 1) - values
    if bits == _DEEP_BITS and 0 < values.max(initial=0) <= _OPAQUE:
        raise Unfit(
            f"the picture has 16 bits a pixel, and no value above {_OPAQUE}: it is nearly black, or one of 8 "
            "bits that was saved as one of 16; save it with 8 bits"
        )
    done.append(f"{bits} bits a pixel turned into 8" if bits > 8 else "8 of 16 bits a pixel taken")
    return Image.fromarray((values >> (bits - 8)).astype(np.uint8))


def _check_colour_bits(picture: Any, tags: _SampleTags) -> None:
    """Raise Unfit if Pillow keeps the upper 8 of 16 bits of colours that use fewer."""
    if tags.bits < _DEEP_BITS and picture.mode not in _DEEP_MODES:
        raise Unfit(
            f"the picture has colours of 16 bits, and uses {tags.bits} of them, as its TIFF tags say: it "
            "would be nearly black; save it with 8 bits a channel"
        )


def _without_alpha(picture: Any, rule: PictureRule | None, done: list[str]) -> Any:
    """Return a picture without its alpha channel or transparent colour, over the background of the rule.

    Raises:
        Unfit: it is transparent in places and there is no background, or it has no 8 bits a channel.
    """
    from PIL import Image

    if picture.mode in _ALPHA_MODES or ("transparency" in picture.info and picture.mode in _PLAIN_MODES):
        target = _ALPHA_MODES.get(picture.mode, "L" if is_grey(picture) else "RGB")
        whole = picture.convert("RGBA")
        if whole.getchannel("A").getextrema()[0] == _OPAQUE:
            return whole.convert(target)
        if rule is None or rule.background is None:
            raise Unfit(
                "the picture is transparent in places, which have no value; put it on a background, or drop "
                f"its alpha channel by picture.convert({target!r})"
            )
        done.append(f"put on a background of the colour {list(rule.background)}")
        ground = Image.new("RGBA", whole.size, (*rule.background, _OPAQUE))
        has_colours = target == "RGB" or len(set(rule.background)) > 1
        return Image.alpha_composite(ground, whole).convert("RGB" if has_colours else "L")
    if picture.mode not in _PLAIN_MODES:
        raise Unfit(f"the picture has the mode {picture.mode}; give 8 bits a channel, grey or RGB")
    return picture


def _resized(picture: Any, rule: PictureRule | None, size: Sequence[int], done: list[str]) -> Any:
    """Return a picture of a size (height, width).

    When it shrinks, the filter averages over all pixels that become one: there is no aliasing.
    """
    from PIL import Image, ImageOps

    height, width = size
    filtering = Image.Resampling.BICUBIC
    if rule is not None and rule.fit == "crop":
        done.append(f"its middle resized to {width} x {height} pixels (width x height)")
        return ImageOps.fit(picture, (width, height), filtering)
    done.append(f"resized to {width} x {height} pixels (width x height)")
    return picture.resize((width, height), filtering)
