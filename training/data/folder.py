"""The user's pictures: a folder of their files, flat or with one sub-folder per class."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from service.errors import ServiceError, Unfit
from service.format.manifest import PictureForm
from service.media.fitting import ENDINGS, PictureRule, fitted_pixels, opened
from service.media.items import unit_interval
from training.data.dataset import DataError, Dataset, Pixels
from training.data.options import DataOptions
from training.data.pictures import picture_dataset, picture_source
from training.data.splits import Classes, classes_of, in_order, no_classes, partition


def load_folder(options: DataOptions) -> Dataset:
    """Load all pictures of a folder, in the order of their names, as `PictureForm` says.

    Raises:
        DataError: A file is no picture, cannot be read or has another size than the others, or the folder has
            no pictures, or both pictures and sub-folders.
    """
    folder = options.own_path
    paths, classes = listed_pictures(folder)
    form = picture_form(options)
    rule = PictureRule.of(form.model_dump())
    parts = []
    for path in paths:
        parts.append(_read(path, rule, options))
        if parts[-1].shape[:2] != parts[0].shape[:2]:
            raise DataError(
                f"{path} has {_size(parts[-1])} pixels, but {paths[0]} has {_size(parts[0])} (height x "
                "width); make all of one size, or give size = [height, width] to have them resized"
            )
    pixels = np.stack(parts if options.channels else _of_equal_channels(parts)).transpose(0, 3, 1, 2)
    images = unit_interval(pixels)
    source = picture_source(images, f"the folder {folder.name}")
    dataset = picture_dataset(folder.name, source, images, partition(classes, options), options)
    return replace(dataset, picture=form)


def picture_form(options: DataOptions) -> PictureForm:
    """Return what is done to every picture, as the version will say."""
    return PictureForm(
        fit=None if options.size is None else options.fit,
        background=options.background,
        binary=options.binarise == "threshold",
    )


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
        raise DataError(f"{folder} is empty; put pictures into it")
    return entries


def _picture(path: Path) -> Path:
    if path.suffix.lower() not in ENDINGS or not path.is_file():
        raise DataError(
            f"{path} is not a file of a picture ({', '.join(ENDINGS)}); move it out of the folder"
        )
    return path


def _read(path: Path, rule: PictureRule | None, options: DataOptions) -> Pixels:
    """Read a picture (height, width, channels); by default it has 1 channel if it is grey, else 3."""
    try:
        with path.open("rb") as file, opened(file) as picture:
            return fitted_pixels(picture, rule, options.channels, options.size).pixels
    except Unfit as error:
        hint = ""
        if "transparent" in str(error):
            hint = "; or give background = [255, 255, 255] to have it put on white"
        raise DataError(f"{path}: {error}{hint}") from error
    except (ServiceError, OSError) as error:
        raise DataError(f"{path}: {error}; repair or remove it") from error


def _of_equal_channels(parts: list[Pixels]) -> list[Pixels]:
    """Make all pictures grey if every one is (also RGB with three equal channels), else all RGB."""
    if any((part != part[..., :1]).any() for part in parts):
        return [np.broadcast_to(part, (*part.shape[:2], 3)) for part in parts]
    return [part[..., :1] for part in parts]


def _size(pixels: Pixels) -> str:
    return f"{pixels.shape[0]}x{pixels.shape[1]}"
