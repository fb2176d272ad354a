"""The user's pictures: a folder of PNG and JPEG files, flat or with one sub-folder per class."""

from __future__ import annotations

import struct
import warnings
from pathlib import Path

import numpy as np
from PIL import Image

from service.errors import Unfit
from service.media.items import is_grey, plain_picture
from training.data.dataset import DataError, Dataset, Pixels
from training.data.options import DataOptions
from training.data.pictures import picture_dataset, picture_source, unit_interval
from training.data.splits import Classes, classes_of, in_order, no_classes, partition

_SUFFIXES = (".png", ".jpg", ".jpeg")
_UNREADABLE = (
    OSError, SyntaxError, ValueError, EOFError, struct.error,
    Image.DecompressionBombError, Image.DecompressionBombWarning,
)  # fmt: skip


def load_folder(options: DataOptions) -> Dataset:
    """Load all pictures of a folder, in the order of their names.

    Pixels are read as stored: an EXIF orientation is not applied, neither here nor when pictures are scored.

    Raises:
        DataError: A file is no picture, cannot be read or has another size than the others, or the folder has
            no pictures, or both pictures and sub-folders.
    """
    folder = options.own_path
    paths, classes = listed_pictures(folder)
    parts = []
    with warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        for path in paths:
            parts.append(_read(path, options))
            if parts[-1].shape[:2] != parts[0].shape[:2]:
                raise DataError(
                    f"{path} has {_size(parts[-1])} pixels, but {paths[0]} has {_size(parts[0])} (height x "
                    "width); make all of one size, or give size = [height, width] to have them resized"
                )
    pixels = np.stack(parts if options.channels else _of_equal_channels(parts)).transpose(0, 3, 1, 2)
    images = unit_interval(np.ascontiguousarray(pixels))
    source = picture_source(images, f"the folder {folder.name}")
    return picture_dataset(folder.name, source, images, partition(classes, options), options)


def listed_pictures(folder: Path) -> tuple[list[Path], Classes]:
    """Return the files, sorted, and their classes if they lie in sub-folders; hidden names are skipped.

    Raises:
        DataError: There is no such folder, it is empty, or holds something else.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder, seen from {Path.cwd()}; correct `path`")
    entries = _visible(folder)
    folders = {path.name: path for path in entries if path.is_dir()}
    if not folders:
        return [_picture(path) for path in entries], no_classes(len(entries))
    if len(folders) < len(entries):
        lone = next(path for path in entries if not path.is_dir())
        raise DataError(
            f"{folder} has sub-folders, e.g. {next(iter(folders))}, and files beside them, e.g. {lone.name}; "
            "use one sub-folder per class, or none"
        )
    paths = [_picture(path) for name in in_order(folders) for path in _visible(folders[name])]
    return paths, classes_of([path.parent.name for path in paths])


def _visible(folder: Path) -> list[Path]:
    entries = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    if not entries:
        raise DataError(f"{folder} is empty; put PNG or JPEG files into it")
    return entries


def _picture(path: Path) -> Path:
    if path.suffix.lower() not in _SUFFIXES or not path.is_file():
        raise DataError(
            f"{path} is not a PNG or JPEG file ({', '.join(_SUFFIXES)}); move it out of the folder"
        )
    return path


def _read(path: Path, options: DataOptions) -> Pixels:
    """Read a picture (height, width, channels); by default it has 1 channel if it is grey, else 3."""
    try:
        with Image.open(path, formats=("PNG", "JPEG")) as picture:
            picture.load()
            plain = plain_picture(picture)
            channels = options.channels or (1 if is_grey(plain) else 3)
            plain = plain.convert("L" if channels == 1 else "RGB")
            if options.size is not None and plain.size != options.size[::-1]:
                # when shrinking, this filter averages over all pixels that become one: no aliasing
                plain = plain.resize(options.size[::-1], Image.Resampling.BICUBIC)
            return np.asarray(plain, np.uint8).reshape(plain.height, plain.width, channels)
    except Unfit as error:
        raise DataError(f"{path}: {error}") from error
    except _UNREADABLE as error:
        raise DataError(f"{path} cannot be read as a PNG or JPEG: {error}; repair or remove it") from error


def _of_equal_channels(parts: list[Pixels]) -> list[Pixels]:
    """Make all pictures grey if every one is (also RGB with three equal channels), else all RGB."""
    if any((part != part[..., :1]).any() for part in parts):
        return [np.broadcast_to(part, (*part.shape[:2], 3)) for part in parts]
    return [part[..., :1] for part in parts]


def _size(pixels: Pixels) -> str:
    return f"{pixels.shape[0]}x{pixels.shape[1]}"
