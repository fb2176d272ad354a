"""The user's pictures: a folder of their files, read by several threads."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Final, NamedTuple

import numpy as np

from service.errors import ServiceError, Unfit
from service.format.manifest import PictureForm
from service.media.fitting import FittedPixels, PictureRule, fitted_pixels, opened
from service.media.items import unit_interval
from training.data.dataset import Dataset, Pixels
from training.data.flaws import Flaws
from training.data.listing import Listing, list_pictures, some
from training.data.options import DataOptions
from training.data.pictures import picture_dataset, picture_source

_READ_AHEAD: Final = 256
"""The pictures that are read, by all threads together, before they are taken."""


class Misfit(NamedTuple):
    """A file that is not taken, and why."""

    reason: str


def load_folder(options: DataOptions) -> Dataset:
    """Load all pictures of a folder, in the order of their names, as `PictureForm` says.

    Raises:
        DataError: All that is wrong with the folder and with its files.
    """
    listing = list_pictures(options.own_path)
    images = unit_interval(_pixels_of(listing, options))
    split, kept = listing.split(options)
    source = picture_source(images, f"the folder {listing.folder.name}")
    dataset = picture_dataset(listing.folder.name, source, images, split, kept)
    return replace(dataset, picture=picture_form(options), notes=listing.notes)


def picture_form(options: DataOptions) -> PictureForm:
    """Return what is done to every picture, as the version will say."""
    return PictureForm(
        fit=None if options.size is None else options.fit,
        background=options.background,
        binary=options.binarise == "threshold",
    )


def _pixels_of(listing: Listing, options: DataOptions) -> Pixels:
    """Return the pixels (N, C, H, W) of all pictures of a folder.

    By default they have one channel if every picture is grey, also as RGB, and else three.
    """
    whole, has_colours = np.empty((0, 1, 1, 1), np.uint8), options.channels == 3
    flaws, first = FolderFlaws(listing), ""
    for number, (name, read) in enumerate(read_pictures(listing, options)):
        if isinstance(read, Misfit):
            flaws.add(name, read.reason)
            continue
        pixels = read.pixels.transpose(2, 0, 1)
        if not len(whole):
            first, shape = name, (len(listing.names), options.channels or 3, *pixels.shape[1:])
            whole = np.empty(shape, np.uint8)
        if pixels.shape[1:] == whole.shape[2:]:
            has_colours = has_colours or bool((pixels != pixels[:1]).any())
            whole[number] = pixels
        else:
            flaws.add_size(name, read.size)
    flaws.refuse(first, whole.shape[2:])
    return whole if has_colours else whole[:, :1]


def read_pictures(listing: Listing, options: DataOptions) -> Iterator[tuple[str, FittedPixels | Misfit]]:
    """Yield the name of each picture of a folder, in order, and what was read."""
    rule = PictureRule.of(picture_form(options).model_dump())

    def read(name: str) -> FittedPixels | Misfit:
        try:
            with (listing.folder / name).open("rb") as file, opened(file) as picture:
                return fitted_pixels(picture, rule, options.channels, options.size)
        except Unfit as error:
            hint = "; or give background = [255, 255, 255] to have it put on white"
            return Misfit(f"{error}{hint if 'transparent' in str(error) else ''}")
        except (ServiceError, OSError) as error:
            return Misfit(f"{error}; repair or remove it")

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for start in range(0, len(listing.names), _READ_AHEAD):
            names = listing.names[start : start + _READ_AHEAD]
            yield from zip(names, pool.map(read, names), strict=True)


class FolderFlaws:
    """The flaws of a folder and of its files, of which those that have the same are told together."""

    def __init__(self, listing: Listing) -> None:
        self._listing = listing
        self._by_reason: dict[str, list[str]] = {}
        self._of_other_sizes: list[str] = []

    def add(self, name: str, reason: str) -> None:
        """Add a file that is not taken."""
        self._by_reason.setdefault(reason, []).append(name)

    def add_size(self, name: str, size: tuple[int, int]) -> None:
        """Add a file whose size (height, width) is not that of the first."""
        self._of_other_sizes.append(f"{name} has {size[0]}x{size[1]}")

    def refuse(self, first: str = "", size: tuple[int, ...] = ()) -> None:
        """Raise a DataError with all flaws, if there are any; `size` is that of the first picture taken."""
        flaws = Flaws(self._listing.folder)
        for text in self._listing.flaws:
            flaws.add(text)
        for reason, names in self._by_reason.items():
            flaws.add(f"{some(names)}: {reason}")
        if self._of_other_sizes:
            height, width = size
            flaws.add(
                f"{some(self._of_other_sizes)} pixels, but {first} has {height}x{width} (height x width); "
                f"make all of one size, or give size = [{height}, {width}] to have them resized"
            )
        flaws.refuse()
