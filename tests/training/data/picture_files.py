"""Files of pictures as people have them: of several formats, kinds of pixels and sizes, each made by code."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageFilter

_RANDOM = np.random.default_rng(11)
Save = Callable[[Image.Image, Path], None]
_SIZES = [(20, 14), (13, 17), (9, 9), (40, 31), (8, 21)]


def drawn(number: int) -> Image.Image:
    """A smooth picture of colours, of another size than its neighbours."""
    width, height = _SIZES[number % len(_SIZES)]
    noise = Image.fromarray(_RANDOM.integers(0, 256, (height, width, 3), np.uint8))
    return noise.filter(ImageFilter.GaussianBlur(1.5))


def _turned(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


def _with_alpha(picture: Image.Image, mode: str, least: int) -> Image.Image:
    whole = picture.convert(mode)
    alpha = _RANDOM.integers(least, 256, (picture.height, picture.width), np.uint8)
    whole.putalpha(Image.fromarray(alpha))
    return whole


def _deep(picture: Image.Image) -> Image.Image:
    return Image.fromarray(np.asarray(picture.convert("L"), np.uint16) * 257)


def _clear_colour(picture: Image.Image) -> dict[str, Any]:
    return {"transparency": picture.getpixel((0, 0))}


def _save(convert: Callable[[Image.Image], Image.Image], **options: Any) -> Save:
    return lambda picture, path: convert(picture).save(path, **options)


def _as(mode: str, **options: Any) -> Save:
    return _save(lambda picture: picture.convert(mode), **options)


FILES: dict[str, Save] = {
    "grey.png": _as("L"),
    "colours.png": _as("RGB"),
    "two-levels.png": _as("1"),
    "palette.png": _as("P"),
    "deep.png": _save(_deep),
    "opaque.png": _save(lambda picture: _with_alpha(picture, "RGBA", 255)),
    "grey-opaque.png": _save(lambda picture: _with_alpha(picture, "LA", 255)),
    "clear.png": _save(lambda picture: _with_alpha(picture, "RGBA", 0)),
    "grey-clear.png": _save(lambda picture: _with_alpha(picture, "LA", 0)),
    "clear-colour.png": lambda picture, path: picture.save(path, **_clear_colour(picture)),
    "turned.png": _as("RGB", exif=_turned(6)),
    "colours.jpg": _as("RGB", quality=90),
    "CAPITALS.JPG": _as("RGB", format="JPEG", progressive=True),
    "grey.jpeg": _as("L"),
    "cmyk.jpg": _as("CMYK"),
    "turned.jpg": _as("RGB", exif=_turned(8)),
    "mirrored.jpg": _as("RGB", exif=_turned(2)),
    "lossy.webp": _as("RGB"),
    "clear.webp": _save(lambda picture: _with_alpha(picture, "RGBA", 0), lossless=True),
    "turned.webp": _as("RGB", exif=_turned(3)),
    "colours.tif": _as("RGB"),
    "packed.tiff": _as("RGB", compression="tiff_lzw"),
    "deep.tif": _save(_deep),
    "cmyk.tif": _as("CMYK"),
    "grey.bmp": _as("L"),
    "colours.bmp": _as("RGB"),
    "palette.bmp": _as("P"),
}


def write_files(folder: Path) -> Path:
    """One file of each kind, each of another size than the one before."""
    folder.mkdir(parents=True)
    for number, (name, save) in enumerate(FILES.items()):
        save(drawn(number), folder / name)
    return folder
